"""What a look at this machine found: one finding after another, each with the way to mend it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["fit", "unfit", "broken"]
"""unfit: geoseg works, but for what the text names. broken: it does not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    """A key that stays the same from version to version."""
    state: State
    text: str
    remedy: str = ""
    """What to do; empty where all is well."""


@dataclass(frozen=True, slots=True, repr=False)
class Diagnosis:
    """All that was looked at, in order."""

    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether geoseg can work here."""
        return all(finding.state != "broken" for finding in self.findings)

    def __repr__(self) -> str:
        return self.describe()

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return {"usable": self.usable, "findings": [asdict(finding) for finding in self.findings]}

    def describe(self) -> str:
        """Return a line for each finding, and one below it for each remedy."""
        width = max(len(finding.name) for finding in self.findings)
        lines = []
        for finding in self.findings:
            mark = {"fit": "ok    ", "unfit": "note  ", "broken": "BROKEN"}[finding.state]
            lines.append(f"{mark}  {finding.name:<{width}}  {finding.text}")
            if finding.remedy:
                lines.append(f"{'':<{8 + width}}  -> {finding.remedy}")
        return "\n".join(lines)
