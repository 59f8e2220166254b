"""Fixtures of the checkpoint tests."""

from pathlib import Path

import pytest

from .untrained_run import write_run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    write_run(folder)
    return folder
