"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from geoseg_cli.say import say

if TYPE_CHECKING:
    from tqdm import tqdm

    from geoseg.progress import Progress

_LINE_EVERY_S = 30.0


class ProgressBar:
    """Megapixels a second and the time left, on stderr; nothing when quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self.last: Progress | None = None
        """The latest state; None before the first."""
        self._quiet = quiet
        self._bar: tqdm[NoReturn] | None = None
        self._said_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def figures(self) -> dict[str, int | float]:
        """What was done, for programs."""
        if self.last is None:
            return {}
        work: dict[str, int | float] = {"pixels": self.last.pixels_now, "seconds": round(self.last.seconds, 3)}
        return work if self.last.polygons is None else {"polygons": self.last.polygons} | work

    @property
    def summary(self) -> str:
        """What was done, to stand behind the name of what was written."""
        if self.last is None:
            return ""
        state = self.last
        work = f"{state.pixels_now / 1e6:.1f} Mpx in {state.seconds:.1f} s"
        if state.polygons is None:
            return f": {work}, {state.megapixels_per_second:.2f} Mpx/s"
        return f": {_grouped(state.polygons)} polygon{'s' * (state.polygons != 1)}, {work}"

    def announce(self, line: str) -> None:
        """Print a line without tearing the bar."""
        if self._quiet:
            return
        if self._bar is None:
            say(line)
        else:
            self._bar.write(line, file=sys.stderr)

    def update(self, state: Progress) -> None:
        """Show the state."""
        self.last = state
        if self._quiet:
            return
        if sys.stderr is not None and sys.stderr.isatty():
            self._draw(state)
        elif state.seconds - self._said_s >= _LINE_EVERY_S:
            self._said_s = state.seconds
            say(_line(state))

    def _draw(self, state: Progress) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(
                total=state.pixels_total,
                initial=state.pixels_done - state.pixels_now,
                unit="px",
                unit_scale=True,
                dynamic_ncols=True,
            )
        self._bar.update(state.pixels_done - self._bar.n)


def _line(state: Progress) -> str:
    from tqdm import tqdm

    left = "?" if state.seconds_left is None else tqdm.format_interval(state.seconds_left)
    share = state.pixels_done / state.pixels_total
    rate = state.megapixels_per_second
    return f"{share:.0%} of {state.pixels_total / 1e6:.0f} Mpx, {rate:.2f} Mpx/s, {left} left"


def _grouped(number: int) -> str:
    """Return 123456 as `123 456`."""
    return f"{number:,}".replace(",", " ")
