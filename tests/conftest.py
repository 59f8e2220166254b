"""Fixtures every test may use."""

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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


@pytest.fixture
def full_disk() -> Callable[[], AbstractContextManager[None]]:
    """Inside it, here and in processes started, a file's bytes beyond 20 kB fail to be written."""

    @contextmanager
    def limited() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
