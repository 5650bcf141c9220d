from .fingerprint import encoder_fingerprint as encoder_fingerprint
from .import_weights import import_weights as import_weights
from .presets import PRESETS as PRESETS
