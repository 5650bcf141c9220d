"""Options under headings, so that a long help text can be skimmed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from geoseg.nearest import nearest

_EXAMPLE = "Example: "
_SYNONYMS = {
    "--aoi": "--bbox",
    "--bounds": "--bbox",
    "--extent": "--bbox",
    "--force": "--overwrite",
    "--gpu": "--device",
    "--jobs": "--workers",
    "--learning-rate": "--lr",
    "--output": "--out",
    "--threads": "--workers",
    "--weights": "--model",
}
"""What other programs call an option, where a command has the one meant; those that look alike need no entry."""


_FILES, _FOLDERS = frozenset({"FILE", "TIF", "PNG", "JSON", "PATH"}), frozenset({"FOLDER"})
"""What stands for a path in a help text."""


class GroupedOption(click.Option):
    """An option that stands under a heading, and completes its words and paths in a shell."""

    def __init__(self, *declarations: Any, heading: str, words: tuple[str, ...] = (), **settings: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*declarations, **settings)
        self.heading, self._words = heading, words

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the words that begin so, or leave paths to the shell; the type's own completion if it is neither."""
        if self.metavar in _FILES | _FOLDERS:
            return complete_path(ctx, self, incomplete)
        known = self._words or getattr(getattr(self.type, "func", None), "words", ())
        words = known() if callable(known) else known
        found = [CompletionItem(word) for word in words if word.startswith(incomplete)]
        return found or super().shell_complete(ctx, incomplete)


def complete_path(_ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave the completion of a file's, or a folder's, name to the shell."""
    kind = "dir" if getattr(parameter, "metavar", None) in _FOLDERS else "file"
    return [CompletionItem(incomplete, type=kind)]


def path_argument(name: str, **settings: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - click's own
    """Return click's `argument` for a path, which a shell completes."""
    return click.argument(name, shell_complete=complete_path, **settings)


class ExampleCommand(click.Command):
    """A command with paragraphs that begin with `Example: ` in its docstring: each is one line, to be copied."""

    @property
    def examples(self) -> list[str]:
        """The commands in the docstring."""
        return [" ".join(text.removeprefix(_EXAMPLE).split()) for text in self._paragraphs() if _is_example(text)]

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the docstring, its examples last."""
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
        """Read the arguments; of an option that there is not, say the one that was probably meant, if any."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            known = [name for option in self.get_params(ctx) for name in (*option.opts, *option.secondary_opts)]
            meant = _meant(error.option_name, [name for name in known if name.startswith("--")])
            text = f"no such option {error.option_name!r}" + (f" (did you mean {meant}?)" if meant else "")
            raise click.NoSuchOption(error.option_name, text, ctx=ctx) from None

    def _paragraphs(self) -> list[str]:
        return [text for text in inspect.cleandoc(self.help or "").split("\n\n") if text]


class GroupedCommand(ExampleCommand):
    """A command whose help shows its options under their headings, in the order in which these first occur."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; where there are too many of them (a shell writes out `*.tif`), say what to do."""
        ctx.allow_extra_args = True
        super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            taken = " and ".join(each.make_metavar(ctx) for each in self.params if isinstance(each, click.Argument))
            taken = taken.replace("[", "").replace("]", "")
            more = f" and {len(ctx.args) - 1} more" if len(ctx.args) > 1 else ""
            way_out = f"takes {taken} alone; run it once for each" if taken else "takes no argument; leave it out"
            ctx.fail(f"unexpected argument {ctx.args[0]!r}{more}: {ctx.info_name} {way_out}")
        return ctx.args

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those without a heading last."""
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


def grouped(heading: str) -> Callable[..., Callable[[Any], Any]]:
    """Return click's `option` for options under a heading."""

    def option(*declarations: str, **settings: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - click's own
        return click.option(*declarations, cls=GroupedOption, heading=heading, **settings)

    return option


def _meant(name: str, known: list[str]) -> str | None:
    """Return the option that one was probably meant to be; the dashes, which all share, make none alike."""
    name = name.replace("_", "-")
    synonym = _SYNONYMS.get(name)
    if synonym in known:
        return synonym
    near = nearest(name.lstrip("-"), [each.lstrip("-") for each in known])
    return None if near is None else f"--{near}"


def _is_example(paragraph: str) -> bool:
    return paragraph.startswith(_EXAMPLE)
