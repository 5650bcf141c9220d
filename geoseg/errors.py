"""Everything geoseg raises on purpose; each message is one line that shows the way out."""


class GeosegError(Exception):
    """What went wrong, the value got, the value wanted, the way out."""

    exit_code = 1
    """What the command line returns to the shell."""


class UsageError(GeosegError, ValueError):
    """An argument or option that cannot be right whatever the data."""

    exit_code = 2


class SceneError(GeosegError):
    """A raster that cannot be read, or does not suit the model."""


class ModelError(GeosegError):
    """A model file that cannot be read, is not safe, or does not suit the request."""


class TrainingError(GeosegError):
    """A training that cannot begin, or cannot go on; what was learnt is kept."""


class DivergedError(TrainingError):
    """A loss, or an answer of the network that learns, that is no number."""


class OutputError(GeosegError):
    """A target that exists, cannot be written, or does not fit on the disk."""


class LockedError(OutputError):
    """Another run is writing the same output."""


class ResumeError(OutputError):
    """An unfinished run with other parameters lies beside the output."""


class GeosegWarning(UserWarning):
    """A map will be made, but the reader should know something about it."""


class UnlikeTrainingWarning(GeosegWarning):
    """The scene's statistics or resolution differ from those of the training imagery."""
