"""`geoseg train`: its options, output and errors."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from geoseg.model import ModelBundle
from geoseg.training import RECIPES, Recipe, losses
from geoseg.training.recipe import OPTIONS
from geoseg_cli.evaluate import evaluate
from geoseg_cli.main import geoseg as command
from geoseg_cli.output import as_option, speak_of
from geoseg_cli.parameter_types import LOSSES, TRAINING_WORDS
from geoseg_cli.train import _recipe_options, _take_recipe, train
from tests.cli.conftest import Run
from tests.training.tiny import TINY, write_data

SMALL = (
    "--architecture", "PlainUnet", "--encoder", "none", "--arguments", '{"depth": 2, "channels": 8}', "--init", "none",
    "--gsd", "none", "--crop", 64, "--window", 64, "--lr", 0.01, "--batch-size", 2, "--batches", 3, "--epochs", 2,
    "--device", "cpu", "--threads", 1,
)  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace the library's `train` with a function that records its arguments, and return them."""
    told: dict[str, Any] = {}

    def verb(data: str, out: str, **settings: Any) -> None:
        told.update(settings, data=data, out=out)

    monkeypatch.setattr("geoseg.training.train", verb)
    return told


def options_of(*arguments: object) -> dict[str, Any]:
    """Return the plain values that the given options produce."""
    told: dict[str, Any] = {}

    @click.command()
    @_recipe_options
    def catch(**given: Any) -> None:
        told.update(_take_recipe(given))

    result = CliRunner().invoke(catch, [str(argument) for argument in arguments], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return told


def test_every_option_of_a_recipe_is_one_of_the_command() -> None:
    names = {parameter.name for parameter in train.params}
    assert {name.removesuffix("_text") for name in OPTIONS} <= names


def test_options_give_every_option_a_value_of_its_type() -> None:
    """Every option, set to a value other than its default, arrives in the recipe."""
    wanted = Recipe(
        architecture="Unet", encoder="resnet18", arguments_text='{"decoder_channels": [8, 8, 8, 8, 8]}',
        encoder_weights="imagenet", init="mine.safetensors", norm="group", trainable="decoder",
        gsd_m=2.0, size_px=700, crop_px=256,
        rare=0.25, augmentation="flips", normalization="dataset", ignore=("water", "barren_land"), loss="dice",
        weights="auto", optimizer="sgd", lr=0.5, weight_decay=0.1, momentum=0.5, betas=(0.8, 0.9), eps=1e-4,
        amsgrad=True, schedule="multi-step", warmup=0.2, step_epochs=7, milestones=(3, 9), gamma=0.7, floor=0.3,
        batch_size=3, accumulate=4, epochs=11, batches=17, clip=1.5, average=0.5, start_share=0.25, precision="bf16",
        patience=6, valid_every=2, seed=5, window_px=768,
    )  # fmt: skip
    plain = wanted.to_json()
    assert not [name for name in OPTIONS if getattr(wanted, name) == getattr(Recipe(), name)]
    arguments: list[object] = []
    flags = {parameter.name: parameter.opts[0] for parameter in train.params}
    for name, value in plain.items():
        if isinstance(value, bool):
            arguments.append(flags[name])
            continue
        text = '{"decoder_channels": [8, 8, 8, 8, 8]}' if isinstance(value, dict) else str(value)
        arguments += [flags[name], ",".join(map(str, value)) if isinstance(value, list) else text]
    assert Recipe.from_json(options_of(*arguments)) == wanted


@pytest.mark.parametrize(
    ("flag", "word", "name"),
    [
        ("--encoder", "none", "encoder"), ("--encoder-weights", "none", "encoder_weights"), ("--init", "none", "init"),
        ("--gsd", "none", "gsd_m"), ("--size", "none", "size_px"), ("--lr", "auto", "lr"),
        ("--batch-size", "auto", "batch_size"), ("--batches", "auto", "batches"), ("--patience", "none", "patience"),
        ("--window", "none", "window_px"),
    ],
)  # fmt: skip
def test_words_stand_for_nothing(flag: str, word: str, name: str) -> None:
    assert options_of(flag, word) == {name: None}
    base = Recipe(size_px=9999, batches=3, patience=3, window_px=64, encoder_weights="imagenet")
    assert getattr(Recipe.from_json(options_of(flag, word), base), name) is None


@pytest.mark.parametrize(("flag", "name"), [("--encoder", "encoder"), ("--encoder-weights", "encoder_weights")])
def test_a_word_that_stands_for_nothing_elsewhere_is_left_to_the_library(flag: str, name: str) -> None:
    assert options_of(flag, "auto") == {name: "auto"}


def test_no_option_changes_nothing() -> None:
    assert options_of() == {}
    assert options_of("--ignore", "none") == {"ignore": []}
    assert options_of("--no-amsgrad") == {"amsgrad": False}


def test_settings_arrive(run: Run, asked: dict[str, Any]) -> None:
    result = run(
        "train", "scenes", "--out", "m.safetensors", "--recipe", "unet-adamw", "--report", "r", "--split", "random:0.7",
        "--bands", "4,3,2", "--data-gsd", 3, "--tolerance", 0, "--checkpoint-every", 0, "--devices", 2, "--overwrite",
        "--epochs", 3, "--labels", "l.tif", "--legend", "c.csv", "--cache", "c",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    recipe = asked.pop("recipe")
    assert recipe == RECIPES["unet-adamw"].recipe.changed(epochs=3)
    for name in ("progress", "decoding", "announce"):
        assert callable(asked.pop(name))
    assert asked == {
        "data": "scenes", "out": "m.safetensors", "report": "r", "split_rule": "random:0.7", "bands": (4, 3, 2),
        "data_gsd_m": 3.0, "tolerance": 0.0, "checkpoint_minutes": 0.0, "devices": 2, "overwrite": True,
        "labels": "l.tif", "legend": "c.csv", "cache": "c",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--recipe", "best"], "unknown recipe 'best'; geoseg has default, "),
        (["--optimizer", "lion"], "optimizer must be one of adam, adamw, rmsprop, sgd, got 'lion'"),
        (["--lr", "much"], "expected a number or auto, got 'much'"),
        (["--lr", "-1"], "lr must be"),
        (["--crop", "0"], "crop must be 16 to 16384, got 0"),
        (["--betas", "0.9"], "betas"),
        (["--betas", "a,b"], "expected numbers with commas"),
        (["--milestones", "1.5"], "must be a list of whole numbers"),
        (["--arguments", "[1]"], "a JSON object"),
        (["--arguments", '{"depht": 2}', "--architecture", "PlainUnet", "--encoder", "none"], "no argument 'depht'"),
        (["--architecture", "Hourglass"], "unknown architecture 'Hourglass'"),
        (["--augmentation", "spin"], "unknown augmentation 'spin'"),
        (["--loss", "l2"], "l2"),
        (["--weights", "1,2"], "one number for each of 6 classes"),
        (["--split", "random:2"], "random:2"),
        (["--schedule", "multi-step"], "milestones"),
        (["--devices", "0"], "--devices"),
        (["--device", "tpu"], "device must be one of"),
        (["--precision", "16"], "precision 16 needs a GPU"),
        (["--wandb"], "pip install wandb"),
        (["--normalization", "model", "--init", "none"], "--normalization model needs --init"),
        (["--crop", "50"], "50"),
        (["--checkpoint-every", "-1"], "--checkpoint-every"),
        ([], "--out"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_one_line(run: Run, data: Path, arguments: list[str], said: str) -> None:
    out = data.parent / "m.safetensors"
    given = ["--out", out, *arguments] if arguments else []
    result = run("train", data, "--cache", data.parent / "cache", "--device", "cpu", *given, "--quiet")
    assert result.exit_code == (1 if "argument" in said or "architecture" in said else 2), result.stderr
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("geoseg: error: ")
    assert "unexpected" not in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("--recipe", "defualt"), "default"),
        (("--recipe", "unet_adamw"), "unet-adamw"),
        (("--architecture", "Unett"), "Unet"),
        (("--architecture", "deeplab-v3-plus"), "DeepLabV3Plus"),
        (("--loss", "cross_entropy"), "cross-entropy"),
        (("--loss", "0.5 cross-entropy:smoothing=0.1 + 2*dise"), "dice"),
        (("--schedule", "cosin"), "cosine"),
        (("--schedule", "One-Cycle"), "one-cycle"),
        (("--optimizer", "adma"), "adam"),
        (("--norm", "grop"), "group"),
        (("--normalization", "data-set"), "dataset"),
        (("--precision", "bf-16"), "bf16"),
        (("--augmentation", "hflip:0.5,color/gausian-blur:0.2"), "gaussian-blur"),
        (("--augmentation", "stronger"), "strong"),
        (("--device", "cdua"), "cuda"),
    ],
)
def test_a_word_that_is_nearly_one_is_refused_before_the_data(run: Run, arguments: tuple[str, str], meant: str) -> None:
    result = run("train", "no-such-folder", "--out", "m.safetensors", *arguments)
    assert result.exit_code == 2
    assert f"(did you mean {meant}?)" in result.stderr
    assert f"'{arguments[0]}'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--architecture", "deeplabv3plus"), ("--loss", "1e-1 dice+.5 lovasz + focal:gamma=2"), ("--device", "cuda:1"),
        ("--augmentation", "flips,shift-scale-rotate:0.5:degrees=20,motion-blur/gaussian-blur:0.3"),
    ],
)  # fmt: skip
def test_words_as_the_library_reads_them_pass(run: Run, asked: dict[str, Any], arguments: tuple[str, str]) -> None:
    result = run("train", "scenes", "--out", "m.safetensors", *arguments)
    assert result.exit_code == 0, result.stderr
    assert asked["device"] == "cuda:1" if "--device" in arguments else arguments[1] in str(asked["recipe"])


def test_the_words_are_the_librarys() -> None:
    assert set(LOSSES) == set(losses.LOSSES)
    assert all(find() for find in TRAINING_WORDS.values())
    assert set(TRAINING_WORDS) - {"recipe"} <= set(OPTIONS)


def test_json_tells_what_came_of_it(run: Run, data: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "m.safetensors", tmp_path / "report"
    done = run("train", data, "--out", out, "--report", report, "--cache", tmp_path / "c", "--json", "--quiet", *SMALL)
    assert (done.exit_code, done.stderr) == (0, "")
    told, bundle = json.loads(done.stdout), ModelBundle.open(out)
    figures = json.loads((report / "metrics.json").read_text())
    assert (report / "report.md").exists()
    assert told.pop("seconds") > 0
    assert told == {
        "path": str(out), "report": str(report), "best_epoch": bundle.provenance["epoch"], "epochs": TINY.epochs,
        "batches": 6, "miou": figures["miou_without_unknown"], "temperature": bundle.temperature,
        "metrics": bundle.metrics,
    }  # fmt: skip


def test_json_of_a_training_without_validation(run: Run, data: Path, tmp_path: Path) -> None:
    words = ("--split", "all", "--cache", tmp_path / "c", "--json", "--quiet", *SMALL)
    done = run("train", data, "--out", tmp_path / "m.safetensors", *words)
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["miou"], told["temperature"], told["metrics"]) == (None, 1.0, {})
    assert "report" not in told


def test_a_training_from_the_command_line(run: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    result = run("train", data, "--out", out, "--cache", tmp_path / "cache", *SMALL)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    heading = next(line for line in lines if line.lstrip().startswith("epoch ") and "mIoU" in line)
    assert heading.split() == [
        "epoch", "train", "valid", "mIoU", "urban", "agricultur", "rangeland", "forest", "water", "barren",
    ]  # fmt: skip
    rows = [line.split() for line in lines if line.split()[:1] in (["1/2"], ["2/2"])]
    assert [len(row) for row in rows] == [10, 10]
    assert len({len(line) for line in lines if "/2 " in line or line == heading}) == 1
    assert lines[-1].startswith(f"wrote {out}: 6 batches")
    assert ModelBundle.open(out).provenance["recipe"]["epochs"] == TINY.epochs
    again = run("train", data, "--out", out, *SMALL)
    assert (again.exit_code, again.stderr) == (
        1,
        f"geoseg: error: {out} exists; add --overwrite to replace it, or choose another --out\n",
    )


def test_recipes_are_listed_with_source_data_and_figure(run: Run) -> None:
    result = run("train", "--recipes")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    for name, named in RECIPES.items():
        at = lines.index(name)
        assert lines[at + 1 : at + 4] == [
            f"    {named.source}", f"    data: {named.data}", f"    figure: {named.figure}",
        ]  # fmt: skip


@pytest.mark.parametrize("missing", ["lightning", "tensorboard"])
def test_what_is_not_installed_is_said(run: Run, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    find: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == missing else find(name, *rest))
    result = run("train", "data", "--out", "m.safetensors")
    assert result.exit_code == 2
    assert result.stderr == f"geoseg: error: training needs {missing}; pip install 'geoseg[train]'\n"


@pytest.mark.parametrize("option", ["--help", "--recipes"])
def test_help_loads_no_network(option: str) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from geoseg_cli.main import geoseg; "
        f"assert CliRunner().invoke(geoseg, ['train', {option!r}]).exit_code == 0; "
        "print([name for name in ('torch', 'lightning', 'kornia', 'smp', 'rasterio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_has_every_option_under_a_heading() -> None:
    text = CliRunner().invoke(command, ["train", "--help"]).output
    for heading in ("Run:", "Data:", "Network:", "Network input:", "Learning:", "Bundle:"):
        assert heading in text
    assert all(parameter.opts[0] in text for parameter in train.params if isinstance(parameter, click.Option))


def test_messages_name_the_options_of_the_command_that_runs() -> None:
    """A parameter may have different options in two commands, and None a different word for each parameter."""
    try:
        speak_of(train)
        flags = {parameter.name: parameter.opts[0] for parameter in train.params}
        assert all(as_option(name, None) == flags[name.removesuffix("_text")] for name in OPTIONS if name in flags)
        assert as_option("data_gsd_m", "0.5") == "--data-gsd 0.5"
        assert as_option("split_rule", "'blocks:0.2'") == "--split blocks:0.2"
        assert [as_option(name, "None") for name in ("lr", "size_px", "init")] == [
            "--lr auto", "--size none", "--init none",
        ]  # fmt: skip
        speak_of(evaluate)
        assert as_option("split_rule", "'folders'") == "--split-rule folders"
    finally:
        speak_of()
