# `make demo` and `make test` do all their set-up themselves, in .venv. Windows: see README.md.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt -e ".[cluster,plot,train]"

.PHONY: demo test lint clean demo-model

# A map of the sample scene, its polygons, and pictures of both.
demo: .venv/installed
	@mkdir -p demo_output
	$(BIN)/geoseg predict sample_data/scene.tif --out demo_output/landcover.tif --overwrite
	$(BIN)/python -m geoseg.preview sample_data/scene.tif demo_output/landcover.tif demo_output/landcover.png
	$(BIN)/geoseg vectorize demo_output/landcover.tif --out demo_output/landcover.gpkg --min-area 25 --simplify 1 \
		--png demo_output/polygons.png --overwrite
	@echo "The map:      demo_output/landcover.tif (opens in QGIS)"
	@echo "Its polygons: demo_output/landcover.gpkg (likewise)"
	@echo "Pictures:     demo_output/landcover.png, demo_output/polygons.png"

test: .venv/installed-dev
	$(BIN)/pytest

# The shipped model, made again: hours on two cores; a stopped run goes on. DEEPGLOBE, its foreign exam, may be left out.
demo-model: .venv/installed
	@[ -n "$(NAIP)" ] && [ -n "$(WORK)" ] \
		|| { echo "say where things are: make demo-model NAIP=FOLDER WORK=FOLDER [DEEPGLOBE=FOLDER]" >&2; exit 2; }
	$(BIN)/python tools/demo_model.py "$(WORK)" --naip "$(NAIP)" $(if $(DEEPGLOBE),--deepglobe "$(DEEPGLOBE)") \
		--out geoseg/model --pictures docs/pictures $(DEMO_MODEL)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv demo_output dist

# The stamps stand in for what was installed: a second call installs nothing.
.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing geoseg into .venv; the first time this takes some minutes (torch is large)."
	$(INSTALL)
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing geoseg and its development tools into .venv; the first time this takes some minutes (torch is large)."
	$(INSTALL) --group dev
	@touch .venv/installed $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "geoseg needs Python 3.11 or later, $(PYTHON) is not; say which one: make PYTHON=python3.12 demo" >&2; exit 1; }
	@$(PYTHON) -m venv .venv \
		|| { rm -rf .venv; echo "$(PYTHON) -m venv failed; Debian and Ubuntu have it in the package python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip
