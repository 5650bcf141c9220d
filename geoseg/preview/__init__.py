"""Pictures of a map, for people.

`geoseg.preview` is a verb, and this room has its name: whichever of the two Python finds there can be called.
"""

import sys
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    def __call__(self, *given: Any, **knobs: Any) -> Any:  # noqa: ANN401 - see geoseg.preview.preview
        from geoseg.preview.preview import preview  # noqa: PLC0415 - on its first use

        return preview(*given, **knobs)


sys.modules[__name__].__class__ = _Verb
