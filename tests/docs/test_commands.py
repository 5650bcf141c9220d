from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rasterio.rio.main import main_group as rio

from geoseg_cli.main import geoseg
from tests.docs import world
from tests.docs.blocks import BLOCKS, PAGES, ROOT, commands_of

README = [block for block in BLOCKS if block.page == "README.md" and block.language == "sh"]
IN_README = {" ".join(words) for block in README for words in commands_of(block)}
COMMANDS = {
    " ".join(words[1:]): (block.place, words[1:])
    for block in BLOCKS
    if block.language == "sh"
    for words in commands_of(block)
    if words[0] == "geoseg" and " ".join(words) not in IN_README
}
"""Each command once, with its last place in the pages; the README's commands have their own test."""

ONLY_PARSED = {
    "train": "a training takes minutes",
    "s3://imagery/scene.tif": "it needs a store",
    "--shard": "one share of several makes no map",
    "doctor": "what it finds is the machine's matter",
    "hf://owner/name": "needs the hub; tests/model/test_hub.py has a stand-in",
    "hf://IGNF/FLAIR-INC_rgb_15cl_resnet34-unet": "likewise",
    "item.json": "tests/raster/test_stac.py has items",
    "items.json": "as above",
    "https://example.org/{z}/{x}/{y}.png": "tests/inference/test_map_server.py has a server of tiles",
    "folder/": "needs a folder that save_pretrained wrote; tests/model/test_pretrained.py runs it",
}
OUTPUTS = {
    "predict": ("--out", "--confidence", "--probabilities", "--polygons"),
    "vectorize": ("--out", "--png"),
    "preview": ("--out",),
    "evaluate": ("--report",),
    "sample": ("--out",),
    "tabulate": ("--out",),
    "import": ("--out",),
}


def parse(words: list[str]) -> None:
    """Let click parse a command line with all its options and types, without running it."""
    with geoseg.make_context("geoseg", list(words)) as context:
        name, command, rest = geoseg.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        assert name is not None
        command.make_context(name, rest, parent=context).close()


@pytest.mark.parametrize("line", COMMANDS, ids=[place for place, _ in COMMANDS.values()])
def test_commands_run(line: str, folder: Path) -> None:
    words = COMMANDS[line][1]
    parse(words)
    if any(mark in words for mark in ONLY_PARSED):
        return
    if "--scale" in words and "scene.tif" in words:
        world.write_16_bit(folder / "scene.tif")
    if words[0] == "import" and "--list-presets" not in words:
        world.write_weights(folder / words[1])
    if "flair.safetensors" in words and words[0] == "predict":
        world.write_flair(folder / "flair.safetensors")
    made = [
        Path(words[at + 1].replace("{name}", "other"))
        for at, word in enumerate(words)
        if word in OUTPUTS.get(words[0], ())
    ]
    for path in made:
        path.unlink(missing_ok=True)
    done = CliRunner().invoke(geoseg, words)
    assert done.exit_code == 0, done.output
    if "--dry-run" not in words:
        assert [path for path in made if not path.exists()] == []


def test_the_readme_is_followed_to_the_letter(folder: Path) -> None:
    """All commands run in order in one folder; only trainings are skipped, since their model is there already."""
    for product in folder.glob("landcover*"):
        product.unlink()
    (folder / "confidence.tif").unlink()
    commands = [words[1:] for block in README for words in commands_of(block) if words[0] == "geoseg"]
    assert len(commands) > 10
    for words in commands:
        parse(words)
        if words[0] in ONLY_PARSED:
            continue
        done = CliRunner().invoke(geoseg, words)
        assert done.exit_code == 0, f"{words}: {done.output}"
    made = {"demo.tif", "demo.gpkg", "demo.html", "landcover.tif", "landcover.gpkg", "map.html", "accuracy", "exam"}
    assert made <= {path.name for path in folder.iterdir()}


OTHERS = {
    (place, tuple(words))
    for block in BLOCKS
    if block.language == "sh"
    for words in commands_of(block)
    if words[0] != "geoseg"
    for place in [block.place]
}


@pytest.mark.parametrize(("place", "words"), sorted(OTHERS))
def test_other_programs_find_what_they_name(place: str, words: tuple[str, ...]) -> None:
    match words:
        case ["make", *targets]:
            rules = set(re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
            assert [target for target in targets if "=" not in target and target not in rules] == []
        case [("pip" | "pip3"), "install", *_]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
                "optional-dependencies"
            ]
            named = [
                extra for word in words for group in re.findall(r"\[([\w,]+)\]", word) for extra in group.split(",")
            ]
            assert [extra for extra in named if extra not in extras] == []
        case ["docker", "run", *_]:
            parse(list(words[words.index("geoseg") + 1 :]))
        case ["qgis_process", "run", algorithm, *given]:
            algorithms = ROOT / "qgis" / "geoseg_qgis" / "algorithms"
            declared = "".join(
                (algorithms / f"{name}.py").read_text(encoding="utf-8")
                for name in (algorithm.removeprefix("geoseg:"), "algorithm")
            )
            names = [word.removeprefix("--").partition("=")[0] for word in given]
            assert [name for name in names if f'"{name}"' not in declared] == []
        case ["qgis_process", "plugins", "enable", name]:
            assert (ROOT / "qgis" / name).is_dir()
        case [("python" | "py"), "-m", "venv", _] | ["git", "clone", *_] | ["cd", _] | ["source", _]:
            pass
        case ["rio", command, *_]:
            from rasterio.rio.main import main_group  # noqa: PLC0415

            assert command in main_group.commands
        case [(".ci/run"), *_]:
            assert (ROOT / words[0]).is_file()
        case _:
            pytest.fail(f"{place} runs {words[0]}, which no test knows; teach this one how to check it")


def test_nodata_is_said_by_rio_and_obeyed(folder: Path) -> None:
    """The FAQ's answer on black borders works: nodata set by `rio edit-info` is nodata in the map."""
    import rasterio  # noqa: PLC0415
    from rasterio.rio.main import main_group  # noqa: PLC0415

    with rasterio.open("scene.tif", "r+") as file:
        data = file.read()
        data[:, :40] = 0
        file.write(data)
    block = next(block for block in BLOCKS if "rio edit-info" in block.code)
    first, second = commands_of(block)
    assert CliRunner().invoke(main_group, first[1:]).exit_code == 0
    assert CliRunner().invoke(geoseg, second[1:]).exit_code == 0
    with rasterio.open(folder / "landcover.tif") as file:
        codes = file.read(1)
    assert (codes[:40] == 255).all()
    assert (codes[40:] != 255).any()


FOREIGN = {"--group", "--logdir", "--to", "--execute", "--inplace"}  # of pip, TensorBoard and nbconvert
FOREIGN |= {"--noversioncheck", "--python", "--upgrade", "--build-arg", "--gpus"}  # of QGIS, uv, pip and Docker
FOREIGN |= {"--task", "--keras", "--output"}  # of optimum-cli and tf2onnx


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_are_spoken_of_exist(page: Path) -> None:
    known = {
        name
        for command in geoseg.commands.values()
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help", "--version"}
    spoken = {
        option
        for code in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
        if not code.startswith("rio ")  # checked by a separate test
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code)
    }
    assert spoken - known - FOREIGN == set()


SOURCES = [*(ROOT / "geoseg").rglob("*.py"), *(ROOT / "cli").rglob("*.py"), *PAGES]
RIO = {
    (name, option)
    for path in SOURCES
    for name, rest in re.findall(
        r"\brio (?!has )([a-z-]+)((?: (?:--[a-z-]+|'[^']+'|[\w.*]+))*)", path.read_text(encoding="utf-8")
    )
    for option in [None, *re.findall(r" (--[a-z-]+)", rest)]
}
"""Every rio command that a message or a page recommends, with each of its options."""


@pytest.mark.parametrize(("name", "option"), sorted(RIO, key=str))
def test_what_is_proposed_of_rio_is_there(name: str, option: str | None) -> None:
    command = rio.get_command(click.Context(rio), name)
    assert command is not None
    known = {spelling for parameter in command.params for spelling in (*parameter.opts, *parameter.secondary_opts)}
    assert option is None or option in known


def test_messages_propose_no_program_that_pip_does_not_bring() -> None:
    said = re.compile(r"gdal(?:info|warp|buildvrt)|gdal_[a-z]+(?:\.py)? -(?!co|expand)|ogrinfo|ogr2ogr")
    found = {path: said.findall(path.read_text(encoding="utf-8")) for path in SOURCES if path.suffix == ".py"}
    assert not {path: names for path, names in found.items() if names}
