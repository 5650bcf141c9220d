"""Options that mean the same in several commands, defined once; a command says the heading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from geoseg_cli import values
from geoseg_cli.groups import grouped
from geoseg_cli.say import PROGRESS, show_progress

Decorator = Callable[[Any], Any]


def quiet(heading: str, text: str = "Only warnings and errors.") -> Decorator:
    """Return --quiet."""
    return grouped(heading)("--quiet", "-q", is_flag=True, help=text)


def progress(heading: str) -> Decorator:
    """Return --progress; how it is shown is a matter of the whole process, so no command takes it as an argument."""
    return grouped(heading)(
        "--progress",
        type=values.one_of("progress", PROGRESS),
        metavar="HOW",
        is_eager=True,  # an error in another option is a line of JSON too
        expose_value=False,
        callback=_show_progress,
        help="On stderr: auto, a bar on a terminal, else lines; bar; lines, one now and then; json, for programs; "
        "or none. [default: auto]",
    )


def _show_progress(_context: click.Context, _parameter: click.Parameter, how: str | None) -> None:
    show_progress(how or "auto")


def mkdir(heading: str) -> Decorator:
    """Return --mkdir."""
    return grouped(heading)("--mkdir", is_flag=True, help="Make folders that are not there.")


def as_json(heading: str, text: str = "Print what was written as JSON, for programs.") -> Decorator:
    """Return --json, which arrives as `as_json`."""
    return grouped(heading)("--json", "as_json", is_flag=True, help=text)


def overwrite(heading: str, text: str) -> Decorator:
    """Return --overwrite."""
    return grouped(heading)("--overwrite", is_flag=True, help=text)


def out(heading: str, text: str, metavar: str = "FILE") -> Decorator:
    """Return --out, without which there is no run."""
    return grouped(heading)("--out", "-o", required=True, metavar=metavar, help=text)


def layer(heading: str, text: str) -> Decorator:
    """Return --layer, of a source of features that has several."""
    return grouped(heading)("--layer", metavar="NAME", help=text)


def bands(heading: str, text: str) -> Decorator:
    """Return --bands: numbers and names."""
    return grouped(heading)("--bands", type=values.bands, metavar="B,B,B", help=text)


def scale(heading: str, text: str) -> Decorator:
    """Return --scale: two values."""
    return grouped(heading)("--scale", type=values.scale, metavar="LOW,HIGH", help=text)


def window(heading: str) -> Decorator:
    """Return --window, of a network that maps."""
    text = "Side of the squares the network sees. [default: the model's]"
    return grouped(heading)("--window", type=int, metavar="PX", help=text)


def overlap(heading: str, default: str) -> Decorator:
    """Return --overlap, of a network that maps."""
    text = f"Pixels that neighbouring windows share. [default: {default}]"
    return grouped(heading)("--overlap", type=int, metavar="PX", help=text)


def blend(heading: str, text: str) -> Decorator:
    """Return --blend, one of a few words, which the help lists after a text."""
    text = f"{text}: {values.listed(values.BLENDS)}. [default: hann]"
    return grouped(heading)("--blend", type=values.word("blend", *values.BLENDS), metavar="NAME", help=text)


def tta(heading: str) -> Decorator:
    """Return --tta."""
    text = "Mean over 1, 2, 4 or 8 symmetries of the square. [default: 1]"
    return grouped(heading)("--tta", type=int, metavar="N", words=("1", "2", "4", "8"), help=text)


def batch_size(heading: str, text: str) -> Decorator:
    """Return --batch-size, of a network that maps."""
    return grouped(heading)("--batch-size", type=int, metavar="N", help=text)


def device(heading: str) -> Decorator:
    """Return --device, of a network that maps."""
    text = "auto, cpu, cuda, cuda:1, mps, onnx or torch-cpu. [default: auto]"
    return grouped(heading)("--device", type=values.word("device", *values.DEVICES), metavar="NAME", help=text)
