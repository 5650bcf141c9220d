from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from trove_classifiers import classifiers

import geoseg

HEAVY = ("torch", "segmentation_models_pytorch", "rasterio", "dask", "onnxruntime", "matplotlib", "numpy")
ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = [each for extra in PROJECT["optional-dependencies"].values() for each in extra]
CONDA = {"dask": "dask-core", "matplotlib": "matplotlib-base", "torch": "pytorch"}
"""Packages with another name on conda-forge; `_` and `-` are the same."""


def modules_after(program: str) -> set[str]:
    """Return the top-level modules that a new process has loaded after running a program."""
    listing = f"{program}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "program",
    [
        "import geoseg",
        "import geoseg; dir(geoseg); geoseg.__version__; geoseg.errors; geoseg.Legend",
        "import geoseg_cli.main",
        """from click.testing import CliRunner
from geoseg_cli.main import geoseg
assert CliRunner().invoke(geoseg, ["predict", "--help"]).exit_code == 0""",
    ],
)
def test_quick_things_load_nothing_heavy(program: str) -> None:
    assert modules_after(program).isdisjoint(HEAVY)


def test_the_library_loads_no_torch() -> None:
    """True for every public name except those that make and write weights."""
    program = "import geoseg\nfor name in set(geoseg.__all__) - {'save_bundle', 'train'}: getattr(geoseg, name)"
    assert modules_after(program).isdisjoint({"torch", "segmentation_models_pytorch", "timm", "lightning", "kornia"})


@pytest.mark.parametrize("name", geoseg.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(geoseg, name) is not None
    assert name in dir(geoseg)


def test_public_names_are_not_shadowed_by_modules() -> None:
    """`import geoseg.x` sets the attribute x, so a module would replace a verb of the same name."""
    modules = {path.stem for path in (ROOT / "geoseg").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert modules & set(geoseg.__all__) == {"errors"}


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="attribute nonsense"):
        _ = geoseg.nonsense


def test_version_is_the_installed_one() -> None:
    assert importlib.metadata.version("geoseg") == geoseg.__version__


def test_constraints_are_plain_pins() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert all(line.count("==") == 1 and not set(line) & set("@/: ") for line in pins)


def plain(requirement: str) -> tuple[str, str]:
    """Return name and version bound of `dask[array]>=2025.1` or of conda's `dask-core >=2025.1`."""
    found = re.fullmatch(r"([\w-]+)(?:\[\w+\])? ?(\S+)", requirement)
    assert found, requirement
    return found[1].lower().replace("_", "-"), found[2]


def test_what_is_imported_is_required() -> None:
    imported = set()
    for path in [*ROOT.glob("geoseg/**/*.py"), *ROOT.glob("cli/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {each.name.partition(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(str(node.module).partition(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"geoseg", "geoseg_cli"}
    owners = importlib.metadata.packages_distributions()
    required = {plain(each)[0] for each in [*PROJECT["dependencies"], *EXTRAS]}
    named = {name: {each.lower().replace("_", "-") for each in owners.get(name, [name])} for name in foreign}
    assert {name for name, of in named.items() if not of & required} <= OPTIONAL


OPTIONAL = {"IPython", "PIL", "dask_geopandas", "torchvision", "wandb", "odc", "pandas", "certifi", "fsspec"}
OPTIONAL |= {"boto3", "google"}  # of S3, and protobuf, which onnx brings
"""Imported if installed, or installed by a requirement."""


def test_classifiers_are_those_of_the_index() -> None:
    assert set(PROJECT["classifiers"]) <= set(classifiers)


def test_the_conda_recipe_requires_the_same() -> None:
    recipe = yaml.safe_load((ROOT / "packaging/conda/recipe/recipe.yaml").read_text(encoding="utf-8"))
    wanted = {CONDA.get(name, name): bound for name, bound in map(plain, PROJECT["dependencies"])}
    run = dict(map(plain, recipe["requirements"]["run"][1:]))
    assert run == wanted
    others = {CONDA.get(name, name): bound for name, bound in map(plain, EXTRAS)}
    assert dict(map(plain, recipe["requirements"]["run_constraints"])) == others
    assert recipe["context"]["version"] == geoseg.__version__
    assert f">={recipe['context']['python_min']}" == PROJECT["requires-python"]
    (entry,) = recipe["build"]["python"]["entry_points"]
    assert entry == f"geoseg = {PROJECT['scripts']['geoseg']}"


def test_the_container_is_made_of_files_that_docker_sees() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {name for line in lines if re.match(r"COPY (?!--)", line) for name in line.split()[1:-1]}
    seen = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"}
    assert copied == seen
    assert all((ROOT / name).exists() for name in copied)
    users = [number for number, line in enumerate(lines) if line.startswith("USER ")]
    assert users
    assert users[-1] < lines.index('ENTRYPOINT ["geoseg"]')
    assert 'CMD ["--help"]' in lines


def steps(workflow: dict[str, Any]) -> list[str]:
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("name", ["tests", "release"])
def test_workflows_run_what_there_is(name: str) -> None:
    workflow = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text(encoding="utf-8"))
    programs = [word for step in steps(workflow) for word in re.findall(r"(?:tools|\.ci)/[\w.]+", step)]
    assert programs
    assert all((ROOT / program).is_file() for program in programs)
    assert workflow["permissions"] == {"contents": "read"}


def test_only_a_tag_publishes_and_only_where_a_maintainer_switched_it_on() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads `on` as True
    jobs = workflow["jobs"]
    assert jobs["pypi"]["if"] == "vars.PUBLISH == 'on'"
    assert {name for name, job in jobs.items() if job.get("needs") == "pypi"} == set(jobs) - {"build", "pypi"}
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")


def test_a_checkout_that_is_not_ready_is_not_released() -> None:
    command = [sys.executable, str(ROOT / "tools" / "release.py"), "v9.9.9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"the tag is v9.9.9, geoseg/version.py says {geoseg.__version__}" in done.stderr
    same = [sys.executable, str(ROOT / "tools" / "release.py"), f"v{geoseg.__version__}"]
    assert " says " not in subprocess.run(same, capture_output=True, text=True, check=False).stderr  # one version


def test_a_command_loads_boto3_when_keys_of_aws_are_asked_for() -> None:
    """rasterio imports boto3 if it is installed, and that takes as long as rasterio and numpy together."""
    pytest.importorskip("boto3")
    program = "from geoseg_cli.process import load_boto3_when_used as later\nlater()\nimport rasterio.session"
    assert "botocore" not in modules_after(f"{program}\nrasterio.Env().__enter__()")
    assert "botocore" in modules_after(f"{program}\nrasterio.session.AWSSession(aws_access_key_id='a')")
    assert "botocore" in modules_after(f"import os; os.environ['AWS_ACCESS_KEY_ID'] = 'a'\n{program}")
