from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from geoseg.errors import ModelError, UsageError
from geoseg.legend import DEEPGLOBE, Legend
from geoseg.model import ModelBundle, ModelCard, Normalization, frozen_text
from geoseg.model.bundle import to_mlm
from geoseg.model.bundle.mlm import from_mlm
from geoseg.raster import BandStatistics

CARD = ModelCard(
    name="coast, 10 m",
    architecture="DeepLabV3Plus",
    arguments_text=frozen_text({"encoder_name": "resnet18", "in_channels": 4, "classes": 6}, "arguments"),
    legend=DEEPGLOBE,
    output_codes=(4, 0, 1, 2, 3, 5),
    bands=("blue", "green", "red", "nir"),
    dtype="uint16",
    normalization=Normalization((1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0), (0.0, 10000.0)),
    statistics=BandStatistics((1.0,) * 4, (2.0,) * 4, (0.0,) * 4, (9.0,) * 4),
    gsd_m=10.0,
    window_px=256,
    overlap_px=32,
    temperature=1.7,
    provenance_text='{"trained_on": ["a", "b"]}',
    metrics_text='{"miou": 0.5}',
)
SOURCE = "the metadata of a file"
HYPER = "mlm:hyperparameters"
FREE = {"geoseg:provenance", "geoseg:metrics", HYPER}


def leaves(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every value inside a JSON value, starting with the value itself."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from leaves(inner, (*path, key))


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def changed(path: tuple[str | int, ...], new: object) -> Any:
    whole = copy.deepcopy(to_mlm(CARD))
    if not path:
        return new
    at(whole, path[:-1])[path[-1]] = new
    return whole


def test_what_is_written_is_read() -> None:
    assert from_mlm(json.loads(json.dumps(to_mlm(CARD))), SOURCE) == CARD


def test_a_header_of_the_first_format_is_read() -> None:
    old = to_mlm(CARD)
    old["geoseg:format"] = 1
    old["mlm:input"][0]["input"]["dim_order"] = ["batch", "channel", "height", "width"]
    for row in old["mlm:output"][0]["classification:classes"]:
        del row["description"]
    assert from_mlm(json.loads(json.dumps(old)), SOURCE) == CARD


def test_what_the_extension_asks_for_is_there() -> None:
    """MLM 1.5 wants an axis for bands, classification 1.1 a value and a description for each class."""
    (image,), (logits,) = (to_mlm(CARD)[key] for key in ("mlm:input", "mlm:output"))
    assert "bands" in image["input"]["dim_order"]
    assert len(image["input"]["shape"]) == len(image["input"]["dim_order"]) == 4
    assert all(isinstance(row["value"], int) and row["description"] for row in logits["classification:classes"])
    assert len(image["value_scaling"]) == len(image["bands"])


def test_without_what_may_be_unknown() -> None:
    bare = changed(("gsd",), None)
    bare["geoseg:statistics"] = None
    card = from_mlm(bare, SOURCE)
    assert card.gsd_m is None
    assert card.statistics is None


TEXTS = ["", "a\nb", "\x1b[2J", "x" * 5000]
ODD: list[Any] = [None, True, -1, 0, 10**12, 1e300, -0.5, *TEXTS, [], {}, [[]], [1] * 2000, {"a": 1}]


@pytest.mark.parametrize("odd", ODD, ids=[repr(value)[:20] for value in ODD])
def test_no_odd_value_anywhere_surprises(odd: object) -> None:
    """Every value is replaced in turn; the card still reads and writes, or fails with a one-line ModelError."""
    for path in leaves(to_mlm(CARD)):
        said = told(changed(path, odd))
        assert said.isprintable(), path
        assert said.startswith((SOURCE, "{")), path
        assert len(said) < 600 or said.startswith("{"), path


def told(hostile: object) -> str:
    """Return the card after reading and writing, or the error message."""
    try:
        return json.dumps(to_mlm(from_mlm(hostile, SOURCE)))
    except ModelError as refusal:
        return str(refusal)


def test_nothing_may_be_missing_or_added() -> None:
    for path in leaves(to_mlm(CARD)):
        if (
            path
            and isinstance(path[-1], str)
            and not {"geoseg:provenance", "geoseg:metrics", "mlm:hyperparameters"} & set(path)
        ):
            lacking = changed(path, None)
            del at(lacking, path[:-1])[path[-1]]
            with pytest.raises(ModelError):
                from_mlm(lacking, SOURCE)
    added = to_mlm(CARD) | {"hooks": "os.system"}
    with pytest.raises(ModelError, match="unknown field 'hooks'"):
        from_mlm(added, SOURCE)


WRONG: dict[str, tuple[tuple[str | int, ...], object, str]] = {
    "architecture": (("mlm:architecture",), "os.system", "unknown architecture 'os.system'; geoseg knows Unet"),
    "newer format": (("geoseg:format",), 3, "update geoseg"),
    "other framework": (("mlm:framework",), "TensorFlow", "must be 'PyTorch'"),
    "hub encoder": (
        ("mlm:hyperparameters", "encoder_name"),
        "tu-hf-hub:evil/model",
        "must be a name of letters",
    ),
    "path encoder": ((HYPER, "encoder_name"), "../../x", "encoder_name must be"),
    "unknown argument": ((HYPER, "pretrained"), True, "no argument 'pretrained'"),
    "weights asked for": ((HYPER, "encoder_weights"), "imagenet", "no argument 'encoder_weights'"),
    "huge decoder": (
        ("mlm:hyperparameters", "decoder_channels"),
        10**9,
        "must be an integer 1 to 4096",
    ),
    "one channel": (
        (HYPER, "classes"),
        1,
        "one output channel, for its class against everything else, but 6 class codes",
    ),
    "no class": ((HYPER, "classes"), 0, "classes must be an integer 1 to 255"),
    "more channels than codes": ((HYPER, "classes"), 7, "7 output channels but 6 class codes"),
    "code not in the legend": (("geoseg:output_codes", 0), 9, "must be distinct codes of the legend"),
    "code twice": (("geoseg:output_codes", 0), 5, "must be distinct codes of the legend"),
    "nodata as a class": (("mlm:output", 0, "classification:classes", 0, "value"), 255, "255 is nodata"),
    "control letters": (("mlm:output", 0, "classification:classes", 0, "name"), "water\x1b[31m", "class name"),
    "right-to-left override": (("mlm:output", 0, "classification:classes", 0, "name"), "water\u202e", "printable"),
    "description": (("mlm:output", 0, "classification:classes", 0, "description"), 7, "must be text"),
    "color": (("mlm:output", 0, "classification:classes", 0, "color_hint"), "red", "six hexadecimal digits"),
    "zero std": (("mlm:input", 0, "value_scaling", 0, "stddev"), 0, "`std` must be positive"),
    "min-max": (("mlm:input", 0, "value_scaling", 0, "type"), "min-max", "must be 'z-score'"),
    "window": (("mlm:input", 0, "input", "shape"), [-1, 4, 250, 250], "multiple of 32"),
    "window not square": (("mlm:input", 0, "input", "shape"), [-1, 4, 250, 256], "shape must be"),
    "data type": (("geoseg:data_type",), "complex128", "`dtype` must be one of"),
    "temperature": (("geoseg:temperature",), 0, "`temperature` must be"),
    "overlap": (("geoseg:overlap_px",), 256, "`overlap_px` must be"),
    "band twice": (("mlm:input", 0, "bands", 0), "red", "band names must be distinct"),
    "metres": (("gsd",), -1, "`gsd_m` must be"),
}


@pytest.mark.parametrize(("path", "value", "wanted"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_said(path: tuple[str | int, ...], value: object, wanted: str) -> None:
    hostile = changed(path, value)
    if path[0] == "mlm:input" and path[-1] == "shape" and isinstance(value, list):
        hostile["mlm:output"][0]["result"]["shape"] = [-1, 6, value[-1], value[-1]]
    with pytest.raises(ModelError) as refusal:
        from_mlm(hostile, SOURCE)
    assert wanted in str(refusal.value)


def test_a_card_made_by_hand_is_checked_too(tiny: ModelBundle) -> None:
    small = Legend(DEEPGLOBE.classes[:2])
    with pytest.raises(UsageError, match="7 output channels but 2 class codes"):
        ModelCard(
            name="x",
            architecture=tiny.architecture,
            arguments_text=tiny.arguments_text,
            legend=small,
            output_codes=small.codes,
            bands=tiny.bands,
            dtype="uint8",
            normalization=tiny.normalization,
        )
