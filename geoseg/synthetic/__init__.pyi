from .landscape import Landscape as Landscape
from .landscape import write_landscape as write_landscape
