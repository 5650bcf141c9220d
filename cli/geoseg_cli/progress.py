"""How far a run over pixels is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from geoseg_cli.bar import Bar, time_text

if TYPE_CHECKING:
    from tqdm import tqdm

    from geoseg.progress import Progress

_LINE_EVERY_S = 30.0
_FEW_PX = 100_000
"""Fewer are not told in megapixels, nor how many of them a second."""


class ProgressBar(Bar["Progress"]):
    """Megapixels a second and the time left, on stderr; nothing when quiet."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet, line_every_s=_LINE_EVERY_S)

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
        work = f"{_pixels(state.pixels_now)} in {state.seconds:.1f} s"
        if state.polygons is None and state.pixels_now < _FEW_PX:
            return f": {work}"
        if state.polygons is None:
            return f": {work}, {state.megapixels_per_second:.2f} Mpx/s"
        return f": {_grouped(state.polygons)} polygon{'s' * (state.polygons != 1)}, {work}"

    def _begin(self, state: Progress) -> tqdm[NoReturn]:
        from tqdm import tqdm

        return tqdm(
            total=state.pixels_total,
            initial=state.pixels_done - state.pixels_now,
            unit="px",
            unit_scale=True,
            dynamic_ncols=True,
        )

    def _move(self, bar: tqdm[NoReturn], state: Progress) -> None:
        bar.update(state.pixels_done - bar.n)

    def _line(self, state: Progress) -> str:
        left = "?" if state.seconds_left is None else time_text(state.seconds_left)
        share = state.pixels_done / state.pixels_total
        rate = state.megapixels_per_second
        return f"{share:.0%} of {state.pixels_total / 1e6:.0f} Mpx, {rate:.2f} Mpx/s, {left} left"


def _pixels(number: int) -> str:
    return f"{_grouped(number)} px" if number < _FEW_PX else f"{number / 1e6:.1f} Mpx"


def _grouped(number: int) -> str:
    """Return 123456 as `123 456`."""
    return f"{number:,}".replace(",", " ")
