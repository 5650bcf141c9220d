"""Check that this checkout is ready for release as a tag, and report all problems at once.

python tools/release.py v0.1.0
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
URLS = ("Homepage", "Repository", "Issues")


def main() -> None:
    """Exit with the problems found."""
    tag = sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__)
    found = faults(tag)
    if found:
        sys.exit("not ready:\n" + "\n".join(f"- {each}" for each in found))
    print(f"{tag} is ready")


def faults(tag: str) -> list[str]:
    """Return the problems that prevent a release of this checkout as a tag."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in PLACES}
    found = []
    version = PLACES["geoseg/version.py"]
    (own,) = re.findall(version, texts["geoseg/version.py"])
    if tag != f"v{own}":
        found.append(f"the tag is {tag}, geoseg/version.py says {own}")
    for name, pattern in PLACES.items():
        said = re.findall(pattern, texts[name])
        if said[:1] != [own]:
            found.append(f"{name} says {said[0] if said else 'no version'}, geoseg/version.py {own}")
    headings = re.findall(r"(?m)^## (\d[\d.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    if headings[:1] != [own]:
        found.append(f"CHANGELOG.md has no heading '## {own}', the first of its versions")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    missing = [name for name in URLS if name not in project.get("urls", {})]
    if missing:
        found.append(f"[project.urls] of pyproject.toml lacks {', '.join(missing)}")
    if not any("email" in author for author in project["authors"]):
        found.append("the authors of pyproject.toml have no email, which QGIS's plugin repository wants")
    if "REPLACE" in texts["packaging/conda/recipe/recipe.yaml"]:
        found.append("packaging/conda/recipe/recipe.yaml names no maintainer")
    return found


PLACES = {
    "geoseg/version.py": r'VERSION = "([^"]+)"',
    "qgis/geoseg_qgis/metadata.txt": r"(?m)^version=(.+)$",
    "packaging/conda/recipe/recipe.yaml": r'(?m)^  version: "([^"]+)"',
    "CITATION.cff": r"(?m)^version: (.+)$",
}
"""Places that state the version; geoseg/version.py is authoritative."""


if __name__ == "__main__":
    main()
