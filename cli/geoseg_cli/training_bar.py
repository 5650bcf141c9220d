"""How far a training is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from geoseg_cli.progress import ProgressBar
from geoseg_cli.say import say

if TYPE_CHECKING:
    from tqdm import tqdm

    from geoseg.progress import Progress
    from geoseg.training.told import TrainingProgress

_LINE_EVERY_S = 60.0


class TrainingBar:
    """Batches, the smoothed loss and the time left, on stderr; nothing when quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._last: TrainingProgress | None = None
        self._decoding: ProgressBar | None = None
        self._bar: tqdm[NoReturn] | None = None
        self._said_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_decoding()
        if self._bar is not None:
            self._bar.close()

    @property
    def summary(self) -> str:
        """What was done, to stand behind the name of what was written."""
        return (
            "" if self._last is None else f": {self._last.batches_done} batches, this run {_time(self._last.seconds)}"
        )

    @property
    def kept(self) -> str:
        """Where an interrupted run stands."""
        return "" if self._last is None else f" at batch {self._last.batches_done} of {self._last.batches_total}"

    def announce(self, line: str) -> None:
        """Print a line without tearing the bar."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            self._end_decoding()
            say(line)

    def decoding(self, state: Progress) -> None:
        """Show how far the scenes are decoded."""
        if self._decoding is None:
            self._decoding = ProgressBar(quiet=self._quiet)
        self._decoding.update(state)

    def update(self, state: TrainingProgress) -> None:
        """Show the state."""
        self._last = state
        if self._quiet:
            return
        if sys.stderr is not None and sys.stderr.isatty():
            self._draw(state)
        elif state.seconds - self._said_s >= _LINE_EVERY_S:
            self._said_s = state.seconds
            say(
                f"epoch {state.epoch} of {state.epochs}, batch {state.batches_done} of {state.batches_total}, "
                f"loss {state.loss:.3f}, {_time(state.seconds_left)} left"
            )

    def _draw(self, state: TrainingProgress) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._end_decoding()
            self._bar = tqdm(
                total=state.batches_total, initial=state.batches_done - 1, unit="batch", dynamic_ncols=True
            )
        self._bar.set_postfix_str(f"epoch {state.epoch}, loss {state.loss:.3f}", refresh=False)
        self._bar.update(state.batches_done - self._bar.n)

    def _end_decoding(self) -> None:
        if self._decoding is not None:
            self._decoding.__exit__(None, None, None)
            self._decoding = None


def _time(seconds: float) -> str:
    from tqdm import tqdm

    text: str = tqdm.format_interval(seconds)
    return text
