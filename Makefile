# `make demo` and `make test` do all their set-up themselves, in .venv. Windows: see README.md.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt -e ".[cluster,plot,train]"

.PHONY: demo test lint docs picture qgis-plugin package clean land-model ship-model

# A map of the sample scene, its polygons, pictures of both, and a page to look at and to send.
demo: .venv/installed
	@mkdir -p demo_output
	$(BIN)/geoseg predict sample_data/scene.tif --out demo_output/landcover.tif --overwrite
	$(BIN)/geoseg preview demo_output/landcover.tif --scene sample_data/scene.tif --out demo_output/landcover.png --overwrite
	$(BIN)/geoseg vectorize demo_output/landcover.tif --out demo_output/landcover.gpkg --min-area 25 --simplify 1 \
		--png demo_output/polygons.png --overwrite
	$(BIN)/geoseg preview demo_output/landcover.tif --scene sample_data/scene.tif \
		--polygons demo_output/landcover.gpkg --out demo_output/map.html --overwrite
	@echo "The map:      demo_output/landcover.tif (opens in QGIS)"
	@echo "Its polygons: demo_output/landcover.gpkg (likewise)"
	@echo "Pictures:     demo_output/landcover.png, demo_output/polygons.png"
	@echo "Look at it:   demo_output/map.html (opens in any browser; one file, to be sent as it is)"

test: .venv/installed-dev
	$(BIN)/pytest -n 2 --dist worksteal

# A stage of the shipped model, of at most 90 minutes on two cores; a stopped stage goes on. LAND_MODEL has further options.
land-model: .venv/installed
	@[ -n "$(DATA)" ] && [ -n "$(WORK)" ] \
		|| { echo "say where things are: make land-model DATA=FOLDER WORK=FOLDER STAGE=1 LAND_MODEL='--encoder-weights FILE'" >&2; exit 2; }
	$(BIN)/python tools/land_model.py "$(DATA)" "$(WORK)" --stage $(or $(STAGE),1) $(LAND_MODEL)

# What a stage ended in becomes the shipped model, with its ONNX file, its exams and its card. LAND_SHIP has further options.
ship-model: .venv/installed
	@[ -n "$(BUNDLE)" ] && [ -n "$(DATA)" ] && [ -n "$(WORK)" ] && [ -n "$(DEEPGLOBE)" ] \
		|| { echo "say where things are: make ship-model BUNDLE=FILE DATA=FOLDER WORK=FOLDER DEEPGLOBE=FOLDER" >&2; exit 2; }
	$(BIN)/python tools/land_ship.py "$(BUNDLE)" "$(DATA)" "$(WORK)" --deepglobe "$(DEEPGLOBE)" $(LAND_SHIP)

# The pages of docs/ and the API reference, in build/docs; a warning is an error.
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "The docs: build/docs/index.html"

# The pictures and the drawings of README and docs, again; that of the page needs a browser.
picture: .venv/installed
	$(BIN)/python tools/readme_picture.py
	$(BIN)/python tools/drawings.py
	$(BIN)/python tools/page_picture.py

# The plugin for QGIS, as a zip in dist/. It needs nothing but Python.
qgis-plugin: .venv/bin/python
	$(BIN)/python tools/qgis_plugin.py

# Wheel and source archive in dist/; the wheel is tried in an environment of its own.
package: .venv/installed-dev
	$(BIN)/python tools/package.py

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv build demo_output dist

# The stamps stand in for what was installed: a second call installs nothing.
.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing geoseg into .venv; the first time this takes some minutes (torch is large)."
	$(INSTALL)
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing geoseg and its development tools into .venv; the first time this takes some minutes (torch is large)."
	$(INSTALL) --group dev
	@touch .venv/installed $@

.venv/installed-docs: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing geoseg and the tools for its docs into .venv; the first time this takes some minutes (torch is large)."
	$(INSTALL) --group docs
	@touch .venv/installed $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "geoseg needs Python 3.11 or later, $(PYTHON) is not; say which one: make PYTHON=python3.12 demo" >&2; exit 1; }
	@$(PYTHON) -m venv .venv \
		|| { rm -rf .venv; echo "$(PYTHON) -m venv failed; Debian and Ubuntu have it in the package python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip
