"""What every bar has in common: drawn on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NoReturn, Protocol, Self, TypeVar

from geoseg_cli.say import say

if TYPE_CHECKING:
    from tqdm import tqdm


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
        self.last = state
        if self._quiet:
            return
        if sys.stderr is not None and sys.stderr.isatty():
            if self._bar is None:
                self._bar = self._begin(state)
            self._move(self._bar, state)
        elif state.seconds - self._said_s >= self._line_every_s:
            self._said_s = state.seconds
            say(self._line(state))

    @abstractmethod
    def _begin(self, state: State) -> tqdm[NoReturn]:
        """Return the bar as it stood before a run's first state."""

    @abstractmethod
    def _move(self, bar: tqdm[NoReturn], state: State) -> None:
        """Move the bar to a state."""

    @abstractmethod
    def _line(self, state: State) -> str:
        """Return a state as a line."""


def time_text(seconds: float) -> str:
    """Return seconds as `05:00`."""
    from tqdm import tqdm

    text: str = tqdm.format_interval(seconds)
    return text
