"""Pictures of a map, for people.

`geoseg.preview` is a verb, and this room has its name: whichever of the two Python finds there can be called.
"""

import sys
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        """What is told of the verb: `help(geoseg.preview)` and `geoseg.preview?` ask for it."""
        from geoseg.preview.preview import preview  # noqa: PLC0415 - on its first use

        return preview.__doc__

    def __call__(self, *given: Any, **knobs: Any) -> Any:  # noqa: ANN401 - see geoseg.preview.preview
        from geoseg.preview.preview import preview  # noqa: PLC0415 - on its first use

        return preview(*given, **knobs)


sys.modules[__name__].__class__ = _Verb
