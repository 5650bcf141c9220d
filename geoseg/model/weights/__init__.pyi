from .import_weights import import_once as import_once
from .import_weights import import_weights as import_weights
from .presets import PRESETS as PRESETS
