"""How far a training is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NoReturn

from geoseg_cli.bar import Bar, time_text
from geoseg_cli.progress import ProgressBar

if TYPE_CHECKING:
    from tqdm import tqdm

    from geoseg.progress import Progress
    from geoseg.training import TrainingProgress

_LINE_EVERY_S = 60.0


class TrainingBar(Bar["TrainingProgress"]):
    """Batches, the smoothed loss and the time left, on stderr; nothing when quiet."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet, line_every_s=_LINE_EVERY_S)
        self._decoding: ProgressBar | None = None

    @property
    def summary(self) -> str:
        """What was done, to stand behind the name of what was written."""
        if self.last is None:
            return ""
        return f": {self.last.batches_done} batches, this run {time_text(self.last.seconds)}"

    @property
    def figures(self) -> dict[str, int | float]:
        """What was done, for programs; nothing where no batch was left to do."""
        return {} if self.last is None else {"epochs": self.last.epoch, "seconds": round(self.last.seconds, 3)}

    @property
    def kept(self) -> str:
        """Where an interrupted run stands."""
        return "" if self.last is None else f" at batch {self.last.batches_done} of {self.last.batches_total}"

    def close(self) -> None:
        """Leave both bars as they stand."""
        self._end_decoding()
        super().close()

    def announce(self, line: str) -> None:
        """Print a line without tearing a bar."""
        self._end_decoding()
        super().announce(line)

    def decoding(self, state: Progress) -> None:
        """Show how far the scenes are decoded."""
        if self._decoding is None:
            self._decoding = ProgressBar(quiet=self._quiet)
        self._decoding.update(state)

    def _begin(self, state: TrainingProgress) -> tqdm[NoReturn]:
        from tqdm import tqdm

        self._end_decoding()
        return tqdm(total=state.batches_total, initial=state.batches_done - 1, unit="batch", dynamic_ncols=True)

    def _move(self, bar: tqdm[NoReturn], state: TrainingProgress) -> None:
        bar.set_postfix_str(f"epoch {state.epoch}, loss {state.loss:.3f}", refresh=False)
        bar.update(state.batches_done - bar.n)

    def _json(self, state: TrainingProgress) -> dict[str, object]:
        return {
            "done": state.batches_done,
            "total": state.batches_total,
            "unit": "batch",
            "epoch": state.epoch,
            "epochs": state.epochs,
            "loss": round(state.loss, 6) if math.isfinite(state.loss) else None,
            "seconds": round(state.seconds, 3),
            "seconds_left": None if state.seconds_left is None else round(state.seconds_left, 1),
        }

    def _line(self, state: TrainingProgress) -> str:
        return (
            f"epoch {state.epoch} of {state.epochs}, batch {state.batches_done} of {state.batches_total}, "
            f"loss {state.loss:.3f}, {time_text(state.seconds_left)} left"
        )

    def _end_decoding(self) -> None:
        if self._decoding is not None:
            self._decoding.close()
            self._decoding = None
