"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tqdm import tqdm

from geoseg_cli.say import say

if TYPE_CHECKING:
    from geoseg.inference.predict import Progress

_LINE_EVERY_S = 30.0


class ProgressBar:
    """Megapixels a second and the time left, on stderr; nothing when quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self.last: Progress | None = None
        """The latest state; None before the first."""
        self._quiet = quiet
        self._bar: tqdm[None] | None = None
        self._start_px = 0
        self._said_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def summary(self) -> str:
        """What was done, to stand behind the name of what was written."""
        if self.last is None or self.last.seconds <= 0:
            return ""
        done_px = self.last.pixels_done - self._start_px
        return f": {done_px / 1e6:.1f} Mpx in {self.last.seconds:.0f} s, {done_px / self.last.seconds / 1e6:.2f} Mpx/s"

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
        if self.last is None:
            self._start_px = state.pixels_done
        self.last = state
        if self._quiet:
            return
        if sys.stderr.isatty():
            self._draw(state)
        elif state.seconds - self._said_s >= _LINE_EVERY_S:
            self._said_s = state.seconds
            say(self._line(state))

    def _draw(self, state: Progress) -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=state.pixels_total, initial=self._start_px, unit="px", unit_scale=True, dynamic_ncols=True
            )
        self._bar.update(state.pixels_done - self._bar.n)

    def _line(self, state: Progress) -> str:
        rate = (state.pixels_done - self._start_px) / state.seconds
        left = tqdm.format_interval((state.pixels_total - state.pixels_done) / rate) if rate else "?"
        share = state.pixels_done / state.pixels_total
        return f"{share:.0%} of {state.pixels_total / 1e6:.0f} Mpx, {rate / 1e6:.2f} Mpx/s, {left} left"
