from .capacity import Capacity as Capacity
from .engine_sweep import EngineSweep as EngineSweep
from .engine_sweep import begin_sweep as begin_sweep
from .engine_sweep import course_of as course_of
from .job import Job as Job
from .mailbox import EndOfRunError as EndOfRunError
from .pipeline import run_pipeline as run_pipeline
