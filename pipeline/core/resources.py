"""Where the shipped files are: ``sim_params/`` of the checkout, or its copy inside the wheel."""

from pathlib import Path


def sim_params() -> Path:
    """Folder of the dataset presets; ``instruments/`` and ``training/`` lie inside it."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "sim_params"
    return installed if installed.is_dir() else package.parent / "sim_params"
