from .mixture import find_mixture as find_mixture
from .mixture import find_scenes as find_scenes
from .mixture import map_pairs as map_pairs
from .mixture_file import is_mixture_file as is_mixture_file
from .mixture_file import of_entry as of_entry
