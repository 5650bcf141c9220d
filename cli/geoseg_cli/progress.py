"""How far a run over pixels is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from geoseg_cli.bar import Bar, time_text

if TYPE_CHECKING:
    from tqdm import tqdm

    from geoseg.progress import Progress

_LINE_EVERY_S = 30.0
_AROUND = ("export", "assemble")
"""Stages that come before and after the work."""
_FEW_PX = 100_000
"""Fewer are not told in megapixels, nor how many of them a second."""


class ProgressBar(Bar["Progress"]):
    """Megapixels a second and the time left, on stderr; nothing when quiet."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet, line_every_s=_LINE_EVERY_S)

    @property
    def summary(self) -> str:
        """What was done, to stand behind the name of what was written."""
        return "" if self._work is None else self.summary_of(self._work.stage)

    @property
    def figures(self) -> dict[str, int | float]:
        """What was done, for programs."""
        return {} if self._work is None else self.figures_of(self._work.stage)

    @property
    def _work(self) -> Progress | None:
        """The last state of what a run is for."""
        return next((state for state in reversed(self.by_stage.values()) if state.stage not in _AROUND), None)

    def figures_of(self, stage: str) -> dict[str, int | float]:
        """Return what was done in a stage, for programs."""
        state = self.by_stage.get(stage)
        if state is None:
            return {}
        work: dict[str, int | float] = {"pixels": state.pixels_now, "seconds": round(state.seconds, 3)}
        return work if state.polygons is None else {"polygons": state.polygons} | work

    def summary_of(self, stage: str) -> str:
        """Return what was done in a stage, to stand behind the name of what was written."""
        state = self.by_stage.get(stage)
        if state is None:
            return ""
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

    def _json(self, state: Progress) -> dict[str, object]:
        known = {} if state.polygons is None else {"polygons": state.polygons}
        pieces = {"pieces_done": state.pieces_done, "pieces_total": state.pieces_total}
        counted = (state.pixels_done, state.pixels_total, "px")
        done, total, unit = counted if state.pixels_total else (state.pieces_done, state.pieces_total, "step")
        return {
            "done": done,
            "total": total,
            "unit": unit,
            **pieces,
            "megapixels_per_second": round(state.megapixels_per_second, 3) if state.pixels_total else None,
            "seconds": round(state.seconds, 3),
            "seconds_left": 0.0 if done == total else _rounded(state.seconds_left, 1),
            **known,
        }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _pixels(number: int) -> str:
    return f"{_grouped(number)} px" if number < _FEW_PX else f"{number / 1e6:.1f} Mpx"


def _grouped(number: int) -> str:
    """Return 123456 as `123 456`."""
    return f"{number:,}".replace(",", " ")
