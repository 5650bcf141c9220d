from .engine_sweep import EngineSweep as EngineSweep
from .engine_sweep import begin_sweep as begin_sweep
from .engine_sweep import course_of as course_of
