"""Strong-lens simulation, training and inference; every name here is resolved on first use."""

from importlib import import_module
from typing import Any

__all__ = ["__version__", "load_run", "open_dataset", "simulate"]

#: Public name -> module that defines it.
_HOME = {
    "load_run": "pipeline.checkpoint.any_run",
    "open_dataset": "pipeline.dataset.store",
    "simulate": "pipeline.dataset.single",
}


def __getattr__(name: str) -> Any:  # Any: whatever the name stands for
    if name == "__version__":
        from importlib.metadata import version

        return version("deeplense-pipeline")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
