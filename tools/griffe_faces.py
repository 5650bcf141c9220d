"""For the API reference: a verb of a face is the function, not the file with the same name that holds it."""

from __future__ import annotations

from typing import Any

import griffe


class Faces(griffe.Extension):
    """Let `geoseg.predict` be the function, where Python's faces (geoseg/face.py) say so and griffe finds a file."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:  # noqa: ANN401
        """Point the aliases of a package past files of their own name."""
        for name, member in list(pkg.members.items()):
            path = member.target_path if member.is_alias else ""
            if path.startswith(f"{pkg.name}."):
                target = loader.modules_collection.get_member(path)
                if target.is_module and name in target.members:
                    pkg.set_member(name, griffe.Alias(name, f"{path}.{name}", parent=pkg))
