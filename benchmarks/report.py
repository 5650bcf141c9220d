"""A report of measurements and of the machine: a table to read, and JSON to keep."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

_PACKAGES = ("geoseg", "numpy", "onnxruntime", "torch", "segmentation-models-pytorch", "rasterio", "dask")
_QUIET_LOAD = 0.6
"""Load average over the last minute below which the machine counts as quiet."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure that the project promises, and its measured value."""

    what: str
    got: float
    wanted: float
    at_least: bool
    """True: `got` must be at least `wanted`; False: at most."""
    unit: str = ""

    @property
    def reached(self) -> bool:
        """Return whether the promise is kept."""
        return self.got >= self.wanted if self.at_least else self.got <= self.wanted

    def __str__(self) -> str:
        """Return one line of Markdown."""
        bound = "at least" if self.at_least else "at most"
        verdict = "reached" if self.reached else "**missed**"
        return f"- {self.what}: {self.got:.3g}{self.unit}, wanted {bound} {self.wanted:g}{self.unit}: {verdict}"


def machine() -> dict[str, object]:
    """Return date, processor, cores, load and versions."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > _QUIET_LOAD:
        print(f"the machine is not quiet (load {load:.1f}): these figures are no measurement", file=sys.stderr)
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": cores(),
        "load before": round(load, 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


@dataclass(slots=True)
class Report:
    """The rows of one benchmark, filled as it runs."""

    title: str
    conditions: str
    """The sizes, model and settings of the run, in a sentence or two."""
    rows: list[dict[str, object]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    machine: dict[str, object] = field(default_factory=machine)

    def add(self, **row: object) -> None:
        """Add a row, and show it on stderr at once, because a benchmark may take long."""
        self.rows.append(row)
        print("  ".join(f"{name} {_text(value)}" for name, value in row.items()), file=sys.stderr, flush=True)

    def figure(self, what: str, got: float, *, wanted: float, at_least: bool, unit: str = "") -> None:
        """Add a promised figure."""
        self.figures.append(Figure(what, got, wanted, at_least, unit))

    def to_markdown(self) -> str:
        """Return title, machine, table and figures."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = [f"## {self.title}", "", self.conditions, "", _sentence(self.machine), ""]
        lines += [_line(names), _line("---" for _ in names)]
        lines += [_line(_text(row.get(name, "")) for name in names) for row in self.rows]
        return "\n".join([*lines, "", *map(str, self.figures)])

    def publish(self, json_path: Path | None) -> int:
        """Print the table, write the JSON if asked to; return the exit code: 1 if a figure was missed."""
        print(self.to_markdown())
        if json_path is not None:
            json_path.write_text(json.dumps(asdict(self), indent=2, default=str) + "\n", encoding="utf-8")
        return 0 if all(figure.reached for figure in self.figures) else 1


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _sentence(facts: dict[str, object]) -> str:
    versions = facts["versions"]
    packages = (
        ", ".join(f"{name} {version}" for name, version in versions.items()) if isinstance(versions, dict) else ""
    )
    return (
        f"{facts['date']}; {facts['processor']}, {facts['cores']} cores, load before {facts['load before']}; "
        f"{facts['system']}, Python {facts['python']}, {packages}."
    )


def _line(cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"  # type: ignore[call-overload]


def _text(value: object) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )
