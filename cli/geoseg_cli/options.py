"""Options under headings, commands with examples in their help, and the options that several commands share."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from geoseg.given import nearest
from geoseg_cli import parameter_types as types
from geoseg_cli.output import PROGRESS, be_quiet, show_progress

Decorator = Callable[[Any], Any]
_EXAMPLE = "Example: "
_FILES, _FOLDERS = frozenset({"FILE", "TIF", "PNG", "JSON", "PATH"}), frozenset({"FOLDER"})
"""Metavars that stand for a path."""
_SECOND = {"tabulate": ("--by",), "train": ("--labels",)}
"""The option that a surplus file must be meant for, by command."""
_SYNONYMS = {
    "--cutline": "--aoi",
    "--mask": "--aoi",
    "--bounds": "--bbox",
    "--extent": "--bbox",
    "--force": "--overwrite",
    "--gpu": "--device",
    "--jobs": "--workers",
    "--learning-rate": "--lr",
    "--out": "--report",
    "--output": "--out",
    "--t-srs": "--crs",
    "--threads": "--workers",
    "--weights": "--model",
}
"""Option names of other programs and our names for them, for suggestions. Misspellings need no entry."""
_DASHES = re.compile("^[-\u2010-\u2015\u2212]+")
"""One dash where two are needed, and dashes that text processors make of two hyphens."""


class GroupedOption(click.Option):
    """An option under a heading of the help, with shell completion of its words or paths."""

    def __init__(self, *declarations: Any, heading: str, words: tuple[str, ...] = (), **settings: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*declarations, **settings)
        self.heading, self._words = heading, words

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return matching words, or leave a path to the shell; otherwise use the completion of the type."""
        if self.metavar in _FILES | _FOLDERS:
            return _complete_path(ctx, self, incomplete)
        source = self._words or getattr(getattr(self.type, "func", None), "words", ())
        words = source() if callable(source) else source
        matches = [CompletionItem(word) for word in words if word.startswith(incomplete)]
        return matches or super().shell_complete(ctx, incomplete)


def _complete_path(_ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave the completion of a path to the shell."""
    kind = "dir" if getattr(parameter, "metavar", None) in _FOLDERS else "file"
    return [CompletionItem(incomplete, type=kind)]


def path_argument(name: str, **settings: Any) -> Decorator:  # noqa: ANN401 - click's own
    """Return click's `argument` for a path."""
    return click.argument(name, shell_complete=_complete_path, **settings)


def grouped(heading: str) -> Callable[..., Decorator]:
    """Return click's `option` for options under a heading."""

    def option(*declarations: str, **settings: Any) -> Decorator:  # noqa: ANN401 - click's own
        return click.option(*declarations, cls=GroupedOption, heading=heading, **settings)

    return option


class ExampleCommand(click.Command):
    """A command whose docstring has `Example: ...` paragraphs; the help shows each on one line, ready to copy."""

    @property
    def examples(self) -> list[str]:
        """The commands in the docstring."""
        return [" ".join(text.removeprefix(_EXAMPLE).split()) for text in self._paragraphs() if _is_example(text)]

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the docstring, examples last."""
        for text in self._paragraphs():
            if not _is_example(text):
                formatter.write_paragraph()
                with formatter.indentation():
                    formatter.write_text(text)
        if self.examples:
            with formatter.section("Examples" if len(self.examples) > 1 else "Example"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; for an unknown option suggest the nearest one."""
        names, words = _option_names(self, ctx), list(args)  # click empties `args`
        for typed, _ in () if ctx.resilient_parsing else _with_values(self, ctx, args):
            option = _DASHES.sub("--", typed.partition("=")[0], count=1).replace("_", "-")
            meant = option if option in names else _SYNONYMS.get(option)
            if meant in names and len(option) > 3 and not typed.startswith("--"):  # click reads -out as -o ut
                raise _no_such_option(typed, f"did you mean {meant}?", ctx)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            suggestion = _nearest_option(error.option_name, names)
            hint = None if suggestion is None else f"did you mean {suggestion}?"
            commands = self.commands if isinstance(self, click.Group) else {}
            name = next((word for word in words if word in commands), None)
            if name is not None and error.option_name in _option_names(commands[name], ctx):
                hint = f"put it after the command: geoseg {name} {error.option_name}"
            raise _no_such_option(error.option_name, hint, ctx) from None

    def _paragraphs(self) -> list[str]:
        return [text for text in inspect.cleandoc(self.help or "").split("\n\n") if text]


class GroupedCommand(ExampleCommand):
    """A command whose help groups options under headings, ordered by the first option of each."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; if there are too many (a shell expands `*.tif`), suggest a fix."""
        ctx.allow_extra_args = True
        original_args = list(args)
        try:
            super().parse_args(ctx, args)
        except click.MissingParameter as error:
            new = self._new_file(ctx, original_args)
            if new is None or "--out" not in getattr(error.param, "opts", ()):
                raise
            ctx.fail(f"missing option --out (did you mean --out {new}?)")
        if ctx.args and not ctx.resilient_parsing:
            arguments = " and ".join(
                parameter.make_metavar(ctx) for parameter in self.params if isinstance(parameter, click.Argument)
            )
            arguments = arguments.replace("[", "").replace("]", "")
            more = f" and {len(ctx.args) - 1} more" if len(ctx.args) > 1 else ""
            correction = f"takes only {arguments}{self._suggestion(ctx)}" if arguments else "takes no arguments"
            ctx.fail(f"unexpected argument {ctx.args[0]!r}{more}: {ctx.info_name} {correction}")
        if not ctx.resilient_parsing:
            self._check_values(ctx, original_args)
        return ctx.args

    def _new_file(self, ctx: click.Context, args: list[str]) -> str | None:
        """Return an argument, not the first, that names a file that does not exist yet; None if there is none."""
        values, surplus, _ = self.make_parser(ctx).parse_args(args)
        optional = (
            values.get(parameter.name or "") for parameter in self.params[1:] if isinstance(parameter, click.Argument)
        )
        return next(
            (argument for argument in [*optional, *surplus] if isinstance(argument, str) and names_output(argument)),
            None,
        )

    def _suggestion(self, ctx: click.Context) -> str:
        """Return advice for a surplus argument: the option it must be meant for, if there is only one."""
        (first, *others), names = ctx.args, {parameter.opts[0]: parameter.name for parameter in self.params}
        candidates = ("--out", "--report") if names_output(first) else _SECOND.get(self.name or "", ())
        option = next(
            (name for name in candidates if name in names and ctx.params.get(names[name] or "") is None), None
        )
        return "; run it once for each" if others or option is None else f" (did you mean {option} {first}?)"

    def _check_values(self, ctx: click.Context, args: list[str]) -> None:
        """Reject empty paths, from an unset shell variable: they would mean the current folder.

        Also an option in the place of a value: click would write a file called --overwrite, -overwrite or -q.
        """
        names = _option_names(self, ctx)
        one_dash = {name for each in self.get_params(ctx) for name in each.opts if name[0] == "-" != name[1:2]}
        one_dash |= {name[1:] for name in names}
        of_files = {name for each in self.params if each.metavar in _FILES | _FOLDERS for name in each.opts}
        for typed, values in _with_values(self, ctx, args):
            known = {*names, *(one_dash if typed in of_files else ())}
            for option in (word for word in values if word in known):
                ctx.fail(f"{typed} needs a value, got the option {option}")
        for parameter in self.params:
            value = ctx.params.get(parameter.name or "")
            is_option = isinstance(parameter, click.Option)
            if is_option and parameter.metavar not in _FILES | _FOLDERS:
                continue
            if any(
                isinstance(path, str) and not path.strip() for path in (value if isinstance(value, tuple) else (value,))
            ):
                name = parameter.opts[0] if is_option else parameter.make_metavar(ctx).strip("[].")
                ctx.fail(f"{name} is empty: is a shell variable not set? Give a path")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options; those without a heading come last."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "heading", ""), []).append(record)
        last = groups.pop("", [])
        for heading, records in [*groups.items(), ("Other", last)]:
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def names_output(argument: str) -> bool:
    """Return whether an argument names a file that does not exist yet."""
    path = Path(argument)
    return not argument.startswith("-") and bool(path.suffix) and "://" not in argument and not path.exists()


def _option_names(command: click.Command, ctx: click.Context) -> list[str]:
    names = [name for option in command.get_params(ctx) for name in (*option.opts, *option.secondary_opts)]
    return [name for name in names if name.startswith("--")]


def _with_values(command: click.Command, ctx: click.Context, args: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the arguments, options with the values after them; up to `--`, in a group up to the command."""
    counts = {
        name: option.nargs
        for option in command.get_params(ctx)
        if isinstance(option, click.Option) and not (option.is_flag or option.count)
        for name in option.opts
    }
    rest = iter(args)
    for typed in rest:
        if typed == "--" or (isinstance(command, click.Group) and not _DASHES.match(typed)):
            return
        yield typed, list(itertools.islice(rest, counts.get(typed, 0)))


def _no_such_option(name: str, hint: str | None, ctx: click.Context) -> click.NoSuchOption:
    return click.NoSuchOption(name, f"no such option {name!r}" + (f" ({hint})" if hint else ""), ctx=ctx)


def _nearest_option(name: str, options: list[str]) -> str | None:
    """Return the known option nearest to a name, ignoring the dashes that all share."""
    name = name.replace("_", "-")
    synonym = _SYNONYMS.get(name)
    if synonym in options:
        return synonym
    near = nearest(name.lstrip("-"), [option.lstrip("-") for option in options])
    return None if near is None else f"--{near}"


def _is_example(paragraph: str) -> bool:
    return paragraph.startswith(_EXAMPLE)


def replacing(heading: str, overwrite: str) -> Decorator:
    """Return --mkdir and --overwrite; `overwrite` is the help text of the latter."""
    option = grouped(heading)
    return together(
        option("--mkdir", is_flag=True, help="Create missing folders."),
        option("--overwrite", is_flag=True, help=overwrite),
    )


def as_json(heading: str, text: str) -> Decorator:
    """Return --json, passed to the command as `as_json`."""
    return grouped(heading)("--json", "as_json", is_flag=True, help=text)


def telling(
    heading: str,
    json: str = "Print what was written as JSON.",
    quiet: str = "Show only warnings and errors.",
    *,
    has_progress: bool = True,
) -> Decorator:
    """Return --json, --progress, which applies to the whole process and is not passed to the command, and --quiet."""
    option = grouped(heading)
    progress = option(
        "--progress", type=types.one_of("progress", PROGRESS), metavar="HOW", expose_value=False,
        is_eager=True,  # so that an error in another option is also reported as JSON
        callback=lambda _context, _parameter, how: show_progress(how or "auto"),
        help="Progress on stderr: auto (a bar on a terminal, else lines), bar, lines, json or none. [default: auto]",
    )  # fmt: skip
    return together(
        as_json(heading, json),
        *([progress] if has_progress else []),
        option("--quiet", "-q", is_flag=True, help=quiet, callback=lambda _context, _parameter, flag: be_quiet(flag)),
    )


def borders(heading: str) -> Decorator:
    """Return the options for the minimum area of polygons and the shape of their borders."""
    option = grouped(heading)
    return together(
        option(
            "--min-area", metavar="AREA",
            help="Merge smaller regions into the neighbor with the longest shared border: 100 (m2), 0.5ha, 25px. "
            "[default: keep all]",
        ),
        option(
            "--simplify", metavar="LENGTH",
            help="About how far borders may move to drop vertices: 1.5 (m), 1.5px. Neighbors still share their "
            "borders. [default: keep every pixel corner]",
        ),
        option("--smooth", is_flag=True, help="Round the pixel steps of borders."),
    )  # fmt: skip


def new_layer(heading: str) -> Decorator:
    """Return --layer, for writing polygons."""
    text = (
        "Layer to write in a GeoPackage; an existing file on a disk keeps its other layers, one in a store may have "
        "none. [default: the map's name]"
    )
    return layer(heading, text)


def out(heading: str, text: str, metavar: str = "FILE", *, required: bool = True) -> Decorator:
    """Return --out."""
    return grouped(heading)("--out", "-o", required=required, metavar=metavar, help=text)


def used(values: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given, including zeros; the library has defaults for all others."""
    return {name: value for name, value in values.items() if value is not None and value is not False and value != ()}


def together(*added: Decorator) -> Decorator:
    """Return one decorator that adds options in the given order."""

    def add(command: Any) -> Any:  # noqa: ANN401 - click's own
        for decorator in reversed(added):
            command = decorator(command)
        return command

    return add


def aoi(heading: str, text: str) -> Decorator:
    """Return --aoi and --aoi-crs."""
    option = grouped(heading)
    return together(
        option("--aoi", metavar="FILE", help=f"{text} [default: all of it]"),
        option("--aoi-crs", metavar="CRS", help="CRS of --aoi, where its file names none."),
    )


def layer(heading: str, text: str) -> Decorator:
    """Return --layer, for files with several."""
    return grouped(heading)("--layer", metavar="NAME", help=text)


def bands(heading: str, text: str) -> Decorator:
    """Return --bands: numbers and names."""
    return grouped(heading)("--bands", type=types.bands, metavar="B,B,B", help=text)


def scale(heading: str, text: str) -> Decorator:
    """Return --scale: two values."""
    return grouped(heading)("--scale", type=types.scale, metavar="LOW,HIGH", help=text)


def network(heading: str, overlap: str, batch_size: str) -> Decorator:
    """Return the options of a network for mapping; `overlap` and `batch_size` describe the defaults of these two."""
    option = grouped(heading)
    return together(
        option("--window", type=int, metavar="PX", help="Side of the network's windows. [default: the model's]"),
        option("--overlap", type=int, metavar="PX", help=f"Pixels shared by neighboring windows. [default: {overlap}]"),
        option(
            "--blend",
            type=types.word("blend", *types.BLENDS),
            metavar="NAME",
            help=f"Weights of overlapping windows: {types.listed(types.BLENDS)}. [default: hann]",
        ),
        option(
            "--tta",
            type=int,
            metavar="N",
            words=("1", "2", "4", "8"),
            help="Test-time augmentation: mean over 1, 2, 4 or 8 flips and rotations. [default: 1]",
        ),
        option("--batch-size", type=int, metavar="N", help=f"Windows in a batch. [default: {batch_size}]"),
        option(
            "--device",
            type=types.device(*types.DEVICES),
            metavar="NAME",
            help="auto, cpu, cuda, cuda:1, mps, onnx or torch-cpu; geoseg predict also takes several GPUs: "
            "cuda:0,cuda:1 or cuda:all. [default: auto]",
        ),
    )
