"""The exception tree: every failure a user can cause has a class here.

A message is one paragraph: where, what was found, what was expected. Each class also inherits the
builtin a Python reader expects, keeps a one-string constructor, and so survives pickling.
"""


class DeepLenseError(Exception):
    """Base of every expected failure; the command line prints its text and no traceback."""


class ConfigError(DeepLenseError, ValueError):
    """A configuration is wrong: file and key path, what was found, what is allowed."""


class UnknownKindError(ConfigError):
    """A plug-in name that no module of its family carries."""


class UnitError(ConfigError):
    """A quantity in a unit that does not fit, or that nobody knows."""


class PhysicsError(DeepLenseError, ValueError):
    """A value no lens can have, e.g. a source in front of its lens."""


class EngineError(DeepLenseError, RuntimeError):
    """An engine cannot render a scene, and why."""


class DatasetError(DeepLenseError):
    """Something is wrong with a dataset on disk."""


class DatasetNotFoundError(DatasetError, FileNotFoundError):
    """No dataset lies at the path."""


class DatasetIncompleteError(DatasetError):
    """Shards are missing; the message names the command that finishes them."""


class DatasetMismatchError(DatasetError, ValueError):
    """The dataset was made by another configuration, or has other classes."""


class DatasetIntegrityError(DatasetError):
    """A digest does not match the data it stands for."""


class CheckpointError(DeepLenseError):
    """A run folder that is missing, incomplete, damaged, or of another task."""


class ExportError(DeepLenseError, RuntimeError):
    """A network cannot be exported, or the export does not answer as the network does."""


class TrainingError(DeepLenseError, RuntimeError):
    """Training cannot go on; what was learnt so far is kept."""


class TuningError(DeepLenseError):
    """A study of something else, or one that cannot go on."""


class ScoringError(DeepLenseError):
    """A scoring run as a whole cannot be done (a single bad image is a row, not an error)."""


class ExplanationError(DeepLenseError):
    """A way of explaining that does not apply to a network; the message names others."""


class OutputError(DeepLenseError, OSError):
    """A result cannot be written: no such folder, read-only, or the disk is full."""


class StorageError(DeepLenseError, OSError):
    """A remote store does not answer."""


class MissingExtraError(DeepLenseError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""
