"""Progress on stderr: a bar on a terminal, occasional lines elsewhere, JSON for programs."""

from __future__ import annotations

import math
import sys
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, Self, TypeVar

from geoseg.errors import numbered, spelled
from geoseg_cli.output import as_option, is_quiet, progress_shown, say, say_json
from geoseg_cli.process import InterruptedRunError

if TYPE_CHECKING:
    from tqdm import tqdm

    from geoseg.progress import Download, Progress
    from geoseg.training import TrainingProgress

_JSON_EVERY_S, _LINE_EVERY_S, _DOWNLOAD_LINE_EVERY_S, _TRAINING_LINE_EVERY_S = 0.25, 30.0, 10.0, 60.0
_DOWNLOAD_DELAY_S = 1.0
"""Shorter downloads show no bar."""
_AROUND = ("export", "assemble")
"""Stages before and after the work itself."""
_SCENE_DELAY_S = 2.0
"""One of several scenes shows no bar if it takes less time."""
_FEW_PX = 100_000
"""Smaller counts are reported in pixels, without a rate."""


class _Moment(Protocol):
    """The state of a run at one moment."""

    @property
    def seconds(self) -> float:
        """Time since this run started."""


State = TypeVar("State", bound=_Moment)


class _Bar(ABC, Generic[State]):
    """The progress display of a run; shows nothing if quiet."""

    def __init__(self, *, quiet: bool, line_every_s: float, interrupted: str | None = None) -> None:
        """Start without a state. If Ctrl-C ends the run, the error is "interrupted; " and the text `interrupted`."""
        self.last: State | None = None
        """The latest state; None before the first."""
        self.by_stage: dict[str, State] = {}
        """The latest state of each stage."""
        self._last_json_s = 0.0
        self._last_shown: State | None = None
        self._quiet = quiet
        self._interrupted = interrupted
        self._line_every_s = line_every_s
        self._bar: tqdm[NoReturn] | None = None
        self._last_line_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is KeyboardInterrupt and self._interrupted is not None:
            raise InterruptedRunError(f"interrupted; {self._interrupted}") from None

    def reset(self) -> None:
        """Close the bar as it stands, and start over without a state."""
        self.close()
        self.by_stage.clear()
        self.last = self._last_shown = None
        self._last_line_s = 0.0

    def close(self) -> None:
        """Close the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if not self._quiet and progress_shown() == "json" and self.last is not self._last_shown:
            self._print_json()

    def announce(self, line: str) -> None:
        """Print a line without disrupting the bar."""
        if self._quiet:
            return
        if self._bar is None or sys.stderr is None:
            say(line)
        else:
            self._bar.write(spelled(line, as_option), file=sys.stderr)

    def update(self, state: State) -> None:
        """Show a state."""
        if self.last is not None and self.stage(self.last) != self.stage(state):
            self.close()
            self._last_line_s, self._last_shown = 0.0, None
        self.last = self.by_stage[self.stage(state)] = state
        if self._quiet:
            return
        match progress_shown():
            case "bar" if self.has_length(state):
                if self._bar is None:
                    self._bar = self._begin(state)
                self._move(self._bar, state)
            case "lines" if self.has_length(state) and state.seconds - self._last_line_s >= self._line_every_s:
                self._last_line_s = state.seconds
                say(self._line(state))
            case "json" if self._is_json_due(state):
                self._print_json()

    def stage(self, state: State) -> str:
        """Return the name of a state's stage."""
        return str(getattr(state, "stage", "train"))

    def has_length(self, state: State) -> bool:
        """Return whether the total is known, so that a bar can be drawn; an export has none."""
        return bool(getattr(state, "pixels_total", 1))

    def _is_json_due(self, state: State) -> bool:
        """Return whether a state is the first or last of its stage, or enough time has passed."""
        figures = self._json(state)
        is_end = self._last_shown is None or figures["done"] == figures["total"]
        return is_end or time.monotonic() - self._last_json_s >= _JSON_EVERY_S

    def _print_json(self) -> None:
        if self.last is None:
            return
        self._last_shown, self._last_json_s = self.last, time.monotonic()
        say_json({"stage": self.stage(self.last)} | self._json(self.last))

    def _begin(self, state: State) -> tqdm[NoReturn]:
        from tqdm import tqdm

        return tqdm(dynamic_ncols=True, **self._settings(state))

    @abstractmethod
    def _settings(self, state: State) -> dict[str, Any]:
        """Return tqdm's settings for a new bar, at the position before this run."""

    @abstractmethod
    def _move(self, bar: tqdm[NoReturn], state: State) -> None:
        """Move the bar to a state."""

    @abstractmethod
    def _line(self, state: State) -> str:
        """Return a state as a line for people."""

    @abstractmethod
    def _json(self, state: State) -> dict[str, object]:
        """Return a state for programs, with at least done, total, unit and seconds_left."""


def _time_text(seconds: float) -> str:
    """Return seconds as `05:00`."""
    from tqdm import tqdm

    text: str = tqdm.format_interval(seconds)
    return text


class ProgressBar(_Bar["Progress"]):
    """The progress of work on pixels: megapixels per second and the time left."""

    def __init__(self, *, quiet: bool, interrupted: str | None = None) -> None:
        super().__init__(quiet=quiet, line_every_s=_LINE_EVERY_S, interrupted=interrupted)

    @property
    def summary(self) -> str:
        """A summary of the work, to append to the name of the file written."""
        return "" if self._work is None else self.summary_of(self._work.stage)

    @property
    def figures(self) -> dict[str, int | float]:
        """A summary of the work, for programs."""
        return {} if self._work is None else self.figures_of(self._work.stage)

    @property
    def _work(self) -> Progress | None:
        """The last state of the main work."""
        return next((state for state in reversed(self.by_stage.values()) if state.stage not in _AROUND), None)

    def figures_of(self, stage: str) -> dict[str, int | float]:
        """Return a summary of a stage, for programs."""
        state = self.by_stage.get(stage)
        if state is None:
            return {}
        work: dict[str, int | float] = {"pixels": state.pixels_now, "seconds": round(state.seconds, 3)}
        return work if state.polygons is None else {"polygons": state.polygons} | work

    def summary_of(self, stage: str) -> str:
        """Return a summary of a stage, to append to the name of the file written."""
        state = self.by_stage.get(stage)
        if state is None or not state.pixels_now:  # an earlier run did all of it
            return ""
        work = f"{pixels_text(state.pixels_now)} in {state.seconds:.1f} s"
        if state.polygons is None and state.pixels_now < _FEW_PX:
            return f": {work}"
        if state.polygons is None:
            return f": {work}, {state.megapixels_per_second:.2f} Mpx/s"
        return f": {_grouped(state.polygons)} polygon{'s' * (state.polygons != 1)}, {work}"

    def _settings(self, state: Progress) -> dict[str, Any]:
        several = state.scene is not None
        return {
            "desc": state.scene,
            "delay": _SCENE_DELAY_S if several else 0,
            "leave": None if several else True,
            "total": state.pixels_total,
            "initial": state.pixels_done - state.pixels_now,
            "unit": "px",
            "unit_scale": True,
        }

    def _move(self, bar: tqdm[NoReturn], state: Progress) -> None:
        bar.update(state.pixels_done - bar.n)

    def _line(self, state: Progress) -> str:
        left = "?" if state.seconds_left is None else _time_text(state.seconds_left)
        share = state.pixels_done / state.pixels_total
        rate = state.megapixels_per_second
        total = state.pixels_total
        size = f"{total / 1e6:.0f} Mpx" if total >= 1e6 else pixels_text(total)
        return f"{share:.0%} of {size}, {rate:.2f} Mpx/s, {left} left"

    def _json(self, state: Progress) -> dict[str, object]:
        extras: dict[str, object] = {} if state.polygons is None else {"polygons": state.polygons}
        if state.scene is not None:
            extras |= {"scene": state.scene, "scene_number": state.scene_number, "scenes_total": state.scenes_total}
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
            **extras,
        }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def pixels_text(number: int) -> str:
    """Return a number of pixels for people."""
    return f"{_grouped(number)} px" if number < _FEW_PX else f"{number / 1e6:.1f} Mpx"


def _grouped(number: int) -> str:
    """Return 123456 as `123 456`."""
    return f"{number:,}".replace(",", " ")


class DownloadBar(_Bar["Download"]):
    """The progress of a download: bytes per second and the time left."""

    def __init__(self) -> None:
        super().__init__(quiet=False, line_every_s=_DOWNLOAD_LINE_EVERY_S)

    def hear(self, state: Download) -> None:
        """Show a state, unless the command is quiet; remove the bar when the file is complete."""
        if is_quiet():
            return
        if self.last is not None and self.last.name != state.name:
            self.reset()
        self.update(state)
        if state.bytes_done == state.bytes_total:
            self.reset()

    def has_length(self, state: Download) -> bool:
        """Return whether the total is known: some servers do not report it."""
        return bool(state.bytes_total)

    def _settings(self, state: Download) -> dict[str, Any]:
        return {
            "desc": state.name.rpartition("/")[2],
            "delay": _DOWNLOAD_DELAY_S,
            "leave": False,
            "total": state.bytes_total,
            "unit": "B",
            "unit_scale": True,
        }

    def _move(self, bar: tqdm[NoReturn], state: Download) -> None:
        bar.update(state.bytes_done - bar.n)

    def _line(self, state: Download) -> str:
        from geoseg.machine import size_text

        left = "?" if state.seconds_left is None else _time_text(state.seconds_left)
        share = state.bytes_done / state.bytes_total
        return f"fetching {state.name}: {share:.0%} of {size_text(state.bytes_total)}, {left} left"

    def _json(self, state: Download) -> dict[str, object]:
        return {
            "done": state.bytes_done,
            "total": state.bytes_total or None,
            "unit": "B",
            "name": state.name,
            "seconds": round(state.seconds, 3),
            "seconds_left": _rounded(state.seconds_left, 1),
        }


class TrainingBar(_Bar["TrainingProgress"]):
    """The progress of training: batches, the smoothed loss and the time left."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet, line_every_s=_TRAINING_LINE_EVERY_S)
        self._decoding: ProgressBar | None = None

    @property
    def summary(self) -> str:
        """A summary of the training, to append to the name of the file written."""
        if self.last is None:
            return ""
        return f": {numbered(self.last.batches_done, 'batch')}, this run {_time_text(self.last.seconds)}"

    @property
    def figures(self) -> dict[str, int | float]:
        """A summary of the training, for programs; empty if no batch was left to do."""
        return {} if self.last is None else {"epochs": self.last.epoch, "seconds": round(self.last.seconds, 3)}

    @property
    def kept(self) -> str:
        """The position of an interrupted run, for a message."""
        return "" if self.last is None else f" at batch {self.last.batches_done} of {self.last.batches_total}"

    def close(self) -> None:
        """Close both bars as they stand."""
        self._end_decoding()
        super().close()

    def announce(self, line: str) -> None:
        """Print a line without disrupting a bar."""
        self._end_decoding()
        super().announce(line)

    def decoding(self, state: Progress) -> None:
        """Show how many scenes are decoded."""
        if self._decoding is None:
            self._decoding = ProgressBar(quiet=self._quiet)
        self._decoding.update(state)

    def _begin(self, state: TrainingProgress) -> tqdm[NoReturn]:
        self._end_decoding()
        return super()._begin(state)

    def _settings(self, state: TrainingProgress) -> dict[str, Any]:
        return {"total": state.batches_total, "initial": state.batches_done - 1, "unit": "batch"}

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
            "seconds_left": _rounded(state.seconds_left, 1),
        }

    def _line(self, state: TrainingProgress) -> str:
        return (
            f"epoch {state.epoch} of {state.epochs}, batch {state.batches_done} of {state.batches_total}, "
            f"loss {state.loss:.3f}, {_time_text(state.seconds_left)} left"
        )

    def _end_decoding(self) -> None:
        if self._decoding is not None:
            self._decoding.close()
            self._decoding = None
