"""What every bar has in common: drawn on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NoReturn, Protocol, Self, TypeVar

from geoseg_cli.say import progress_shown, say, say_json

if TYPE_CHECKING:
    from tqdm import tqdm


_TELL_EVERY_S = 0.25


class Moment(Protocol):
    """A moment of a run."""

    @property
    def seconds(self) -> float:
        """Time since this run began."""


State = TypeVar("State", bound=Moment)


class Bar(ABC, Generic[State]):
    """How far a run is, on stderr; nothing when quiet."""

    def __init__(self, *, quiet: bool, line_every_s: float) -> None:
        self.last: State | None = None
        """The latest state; None before the first."""
        self.by_stage: dict[str, State] = {}
        """The latest state of each stage."""
        self._told_at_s = 0.0
        self._told: State | None = None
        self._quiet = quiet
        self._line_every_s = line_every_s
        self._bar: tqdm[NoReturn] | None = None
        self._said_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if not self._quiet and progress_shown() == "json" and self.last is not self._told:
            self._tell()

    def announce(self, line: str) -> None:
        """Print a line without tearing the bar."""
        if self._quiet:
            return
        if self._bar is None:
            say(line)
        else:
            self._bar.write(line, file=sys.stderr)

    def update(self, state: State) -> None:
        """Show the state."""
        if self.last is not None and self.stage(self.last) != self.stage(state):
            self.close()
            self._said_s, self._told = 0.0, None
        self.last = self.by_stage[self.stage(state)] = state
        if self._quiet:
            return
        match progress_shown():
            case "bar" if self.has_length(state):
                if self._bar is None:
                    self._bar = self._begin(state)
                self._move(self._bar, state)
            case "lines" if self.has_length(state) and state.seconds - self._said_s >= self._line_every_s:
                self._said_s = state.seconds
                say(self._line(state))
            case "json" if self._is_time_to_tell(state):
                self._tell()

    def stage(self, state: State) -> str:
        """Return the name of what is done in this state."""
        return str(getattr(state, "stage", "train"))

    def has_length(self, state: State) -> bool:
        """Tell whether there is anything to draw: an export is either done or not."""
        return bool(getattr(state, "pixels_total", 1))

    def _is_time_to_tell(self, state: State) -> bool:
        """Tell the first and the last state of a stage, and now and then one between."""
        told = self._json(state)
        is_end = self._told is None or told["done"] == told["total"]
        return is_end or time.monotonic() - self._told_at_s >= _TELL_EVERY_S

    def _tell(self) -> None:
        """Print the last state as JSON; a stage's first and last are always told."""
        if self.last is None:
            return
        self._told, self._told_at_s = self.last, time.monotonic()
        say_json({"stage": self.stage(self.last)} | self._json(self.last))

    @abstractmethod
    def _begin(self, state: State) -> tqdm[NoReturn]:
        """Return the bar as it stood before a run's first state."""

    @abstractmethod
    def _move(self, bar: tqdm[NoReturn], state: State) -> None:
        """Move the bar to a state."""

    @abstractmethod
    def _line(self, state: State) -> str:
        """Return a state as a line."""

    @abstractmethod
    def _json(self, state: State) -> dict[str, object]:
        """Return a state for programs: done, total, unit, seconds_left and what else is known."""


def time_text(seconds: float) -> str:
    """Return seconds as `05:00`."""
    from tqdm import tqdm

    text: str = tqdm.format_interval(seconds)
    return text
