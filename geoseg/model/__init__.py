"""A network, and everything needed to use it correctly."""

from __future__ import annotations

import os

from geoseg.face import attach

# ONNX Runtime reads this when it is imported. Since 1.31 its wheels send usage data home, and complain on stderr if
# they cannot store an identifier. To allow that, set the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__getattr__, __dir__, __all__ = attach(__name__, __file__)
