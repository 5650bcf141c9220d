from .device import MOST_WAITING as MOST_WAITING
from .device import rows_ahead as rows_ahead
from .job import Job as Job
from .job import TileWriter as TileWriter
from .pipeline import run_pipeline as run_pipeline
from .slabs import Capacity as Capacity
