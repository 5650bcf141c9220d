from .fingerprint import encoder_fingerprint as encoder_fingerprint
from .fingerprint import is_classifier as is_classifier
from .import_weights import import_once as import_once
from .import_weights import import_weights as import_weights
from .presets import PRESETS as PRESETS
