"""A network, and all that is needed to use it rightly."""

from __future__ import annotations

import os

from geoseg.face import attach

# ONNX Runtime reads this when it is imported. Since 1.31 its wheels send usage data home, and say so on stderr where
# they cannot keep an identifier; whoever wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__getattr__, __dir__, __all__ = attach(__name__, __file__)
