from .augment import augment as augment
from .augment import context_px as context_px
from .spec import OPERATIONS as OPERATIONS
from .spec import PRESETS as PRESETS
from .spec import augmentation_of as augmentation_of
