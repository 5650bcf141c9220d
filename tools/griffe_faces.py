"""Make the API reference show a package's function rather than the module with the same name that defines it."""

from __future__ import annotations

from typing import Any

import griffe


class Faces(griffe.Extension):
    """Resolve `geoseg.predict` to the function, as geoseg/face.py does, where griffe finds the module."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:  # noqa: ANN401
        """Point the aliases of a package past the modules of the same name."""
        for name, member in list(pkg.members.items()):
            path = member.target_path if member.is_alias else ""
            if path.startswith(f"{pkg.name}."):
                target = loader.modules_collection.get_member(path)
                if target.is_module and name in target.members:
                    pkg.set_member(name, griffe.Alias(name, f"{path}.{name}", parent=pkg))
