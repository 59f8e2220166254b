"""Fixtures every test may use."""

from pathlib import Path

import pytest

from pipeline.core.cores import wait_without_spinning

wait_without_spinning()  # before any test loads a library with threads of its own
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the reference vectors and FITS test images, which only developers have."""
    if not SHARED.is_dir():
        pytest.skip("the developers' shared/ folder is not beside the checkout")
    return SHARED
