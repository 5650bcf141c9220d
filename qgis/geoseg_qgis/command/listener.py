"""Passes the output of `--progress json` on stderr to a QGIS dialog."""

from __future__ import annotations

import json
import re
import time
from typing import Any, Mapping, Protocol, Sequence

from geoseg_qgis.translation import tr

_LINE_EVERY_S = 30.0
_RESUMES, _AGAIN = "the same command resumes", "run the same command again"
_PLAIN = re.compile(r"^geoseg: (error|warning): (.+)")
"""Lines of a command that does not print JSON, or that failed before it read its options."""
_TAIL = re.compile(r"; see geoseg( \w+)? --help\.?$")
_OTHER_PROGRAM = r"\b(?:rio|pip|gdal\w*|ogr2ogr|hf)(?: (?!(?:or|and) )(?:'[^']*'|[^\s;,)']*[^\s;:,)']))+"
"""A command of another program, up to the end of the phrase; its options are not geoseg's."""
_COMMAND = re.compile(
    r"(?<![\w/\\.-])geoseg[ .](\w+)(?![\w/\\-]|\.\w)"
    r"(?: \(in Python geoseg\.\w+\))?(?: (?:'[^']*'|\S+) --out [^;]*)?"
)
"""A command or function, not a part of a path."""
_OPTION = re.compile(rf"{_OTHER_PROGRAM}|'?(?<![\w-])(--[a-z][a-z-]*)'?")


class Feedback(Protocol):
    """The part of QgsProcessingFeedback that is used here."""

    def setProgress(self, percent: float) -> None:
        """Set the progress bar."""

    def setProgressText(self, text: str) -> None:
        """Describe the current step."""

    def pushInfo(self, text: str) -> None:
        """Add a line."""

    def pushWarning(self, text: str) -> None:
        """Add a warning."""

    def pushDebugInfo(self, text: str) -> None:
        """Add a line for debugging."""


class Listener:
    """Passes on the output of a run: one bar for all stages, lines, and the error that ended it.

    `stages` lists the stages in order with their shares of the time; `labels` maps options of the command to their
    names in the dialog, `layers` files to the names of the layers that were exported to them.
    """

    def __init__(
        self,
        feedback: Feedback,
        stages: Sequence[tuple[str, float]],
        labels: Mapping[str, str],
        layers: Mapping[str, str] | None = None,
    ) -> None:
        self.error = ""
        """The last error; empty if there was none."""
        self.last_line = ""
        """The last line from another library, such as the reason for a crash."""
        self.warnings: list[str] = []
        self._feedback, self._labels, self._layers = feedback, labels, layers or {}
        self._ranges = _ranges(stages)
        self._percent, self._stage, self._told_at_s = 0.0, "", 0.0

    def hear(self, line: str) -> None:
        """Pass on a line."""
        told = _parsed(line)
        if told is None:
            self.last_line = line.strip() or self.last_line
            self._feedback.pushDebugInfo(line)
        elif "stage" in told:
            self._move(told)
        elif "error" in told:
            self.error = self.plain(str(told["error"]))
        elif "warning" in told:
            self.warnings.append(self.plain(str(told["warning"])))
            self._feedback.pushWarning(self.warnings[-1])
        else:
            self._feedback.pushInfo(self.plain(" ".join(map(str, told.values()))))

    def plain(self, text: str) -> str:
        """Return a line of the command with the dialog's words and the layers' names."""
        for path, name in self._layers.items():
            text = text.replace(path, f"“{name}”")
        return plain(text, self._labels)

    def _move(self, told: dict[str, Any]) -> None:
        stage = str(told["stage"])
        begin, end = self._ranges.get(stage, (self._percent, self._percent))
        done, total = _number(told.get("done")), _number(told.get("total"))
        share = min(1.0, done / total) if total else 0.0
        self._percent = max(self._percent, begin + (end - begin) * share)
        self._feedback.setProgress(self._percent)
        now = time.monotonic()
        if stage != self._stage or now - self._told_at_s > _LINE_EVERY_S:
            self._stage, self._told_at_s = stage, now
            self._feedback.setProgressText(_stage_text(told, share))


def plain(text: str, labels: Mapping[str, str]) -> str:
    """Return a line of the command with the dialog's labels instead of options.

    The label of `--` is that of the field for all other options, if there is one; that of `info`, for example, is the
    name of its algorithm in the toolbox.
    """
    text = _TAIL.sub("", text).replace("; GEOSEG_DEBUG=1 shows where", "")
    text = text.replace(_RESUMES, tr("run it again with the same settings and outputs to resume"))
    text = text.replace(_AGAIN, tr("run it again with the same settings and outputs"))
    text = _COMMAND.sub(lambda verb: f"“{labels[verb[1]]}”" if verb[1] in labels else verb[0], text)
    others = False

    def label(option: re.Match[str]) -> str:
        nonlocal others
        if option[1] is None:  # of another program
            return option[0]
        # a field for numbers takes no words, such as `--resolution model`
        if option[1] in labels and not text.startswith(" model", option.end()):
            return f"“{labels[option[1]]}”"
        others = True
        return option[0]

    spelled = _OPTION.sub(label, text)
    if others and "--" in labels:
        spelled += tr(" (options go into “{field}”)").format(field=labels["--"])
    return spelled


def _parsed(line: str) -> dict[str, Any] | None:
    """Return what a line tells; None for a line from another library."""
    if line.startswith("geoseg: "):
        found = _PLAIN.match(line)
        return {found[1]: found[2]} if found else None
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and told else None


def _ranges(stages: Sequence[tuple[str, float]]) -> dict[str, tuple[float, float]]:
    """Return the start and end of each stage, in percent."""
    total = sum(share for _, share in stages) or 1.0
    ranges, begin = {}, 0.0
    for name, share in stages:
        ranges[name] = (begin, begin + 100.0 * share / total)
        begin = ranges[name][1]
    return ranges


def _stage_text(told: Mapping[str, Any], share: float) -> str:
    names = {
        "download": tr("Fetching the model"),
        "export": tr("Preparing the model"),
        "map": tr("Mapping"),
        "assemble": tr("Putting the map together"),
        "polygons": tr("Drawing polygons"),
        "decode": tr("Reading the labeled scenes"),
        "train": tr("Training"),
        "evaluate": tr("Comparing"),
        "sample": tr("Drawing points"),
        "page": tr("Making the page"),
    }
    stage = str(told["stage"])
    words = [names.get(stage, stage)]
    if share:
        words.append(f"{share:.0%}")
    if told.get("epoch"):
        words.append(tr("epoch {epoch} of {epochs}").format(epoch=told["epoch"], epochs=told.get("epochs", "?")))
    if _number(told.get("megapixels_per_second")):
        words.append(tr("{rate:.1f} Mpx/s").format(rate=_number(told["megapixels_per_second"])))
    if share < 1 and _number(told.get("seconds_left")):
        words.append(tr("{time} left").format(time=_duration(_number(told["seconds_left"]))))
    return ", ".join(words)


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _duration(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"
