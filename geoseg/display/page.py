"""One HTML file with everything in it: the library, the styles, the data; its policy forbids all network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from geoseg.atomic import probe_writable, write_durably
from geoseg.errors import OutputError

_SLOT = re.compile(r"\{\{(\w+)\}\}")
_MAP_COMMENT = re.compile(r"\n//# sourceMappingURL=.*$")
_INLINE_HEIGHT_PX = 620


@dataclass(frozen=True, slots=True, repr=False)
class Page:
    """A page that needs nothing else: no network, no server. A notebook shows it in place."""

    title: str
    html: str
    path: Path | None = None
    """Where it was written, if it was."""

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return len(self.html.encode())

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the page, whole or not at all, and return its path. Raises OutputError."""
        target = check_target(path, overwrite=overwrite)
        write_durably(target, self.html.encode())
        return target

    def _repr_html_(self) -> str:
        """Return a frame that holds the page; it may run its own program, hand out its table, and nothing else."""
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" title="{html.escape(self.title)}" '
            'sandbox="allow-scripts allow-downloads" '
            f'style="width:100%;height:{_INLINE_HEIGHT_PX}px;border:1px solid #ccc;border-radius:6px"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Page({self.title!r}, {self.size_bytes / 1e6:.1f} MB)"


def check_target(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Return where a page or picture can be written. OutputError where it cannot, or may not replace what is there."""
    target = probe_writable(path)
    if not target.parent.is_dir():
        raise OutputError(
            f"cannot write {target}: there is no folder {target.parent}; make it, or choose another `out`"
        )
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; add `overwrite=True` to replace it, or choose another `out`")
    return target


def build_page(title: str, data: Mapping[str, object]) -> Page:
    """Return the page that shows some data; whatever text the data holds stays text."""
    scripts = {"leaflet": _MAP_COMMENT.sub("", _part("leaflet.js")), "program": _part("page.js")}
    styles = {"leaflet_style": _part("leaflet.css"), "style": _part("page.css")}
    slots = {
        **scripts,
        **styles,
        "title": html.escape(title),
        "policy": _policy(list(scripts.values()), list(styles.values())),
        "license": _part("leaflet-LICENSE.txt").replace("--", "- -"),
        "data": json_in_html(data),
    }
    return Page(title, _SLOT.sub(lambda slot: slots[slot[1]], _part("page.html")))


def shell_bytes() -> int:
    """Return the size of a page without data."""
    return build_page("", {}).size_bytes


def json_in_html(data: object) -> str:
    """Return JSON that no parser of HTML can take for the end of its script, or for a tag."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode("utf-8", "replace").decode()  # a lone surrogate has no place in a file


def _policy(scripts: list[str], styles: list[str]) -> str:
    """Return a Content-Security-Policy that allows these very texts, pictures inside the page, and nothing else."""
    return (
        f"default-src 'none'; script-src {_hashes(scripts)}; style-src {_hashes(styles)}; img-src data:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def _hashes(texts: list[str]) -> str:
    digests = (hashlib.sha256(text.encode()).digest() for text in texts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


@cache
def _part(name: str) -> str:
    return (files("geoseg.display") / "page" / name).read_text(encoding="utf-8").replace("\r\n", "\n")
