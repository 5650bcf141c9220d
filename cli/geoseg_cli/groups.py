"""Options under headings, so that a long help text can be skimmed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


class GroupedOption(click.Option):
    """An option that stands under a heading."""

    def __init__(self, *declarations: Any, heading: str, **settings: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*declarations, **settings)
        self.heading = heading


class GroupedCommand(click.Command):
    """A command whose help shows its options under their headings, in the order in which these first occur."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those without a heading last."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
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
