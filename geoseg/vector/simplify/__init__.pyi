from .generalize import LONGEST_PX as LONGEST_PX
from .generalize import Generalization as Generalization
from .generalize import generalize as generalize
from .simplification import Obstacles as Obstacles
