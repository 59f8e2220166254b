"""Reader processes: order, isolation of a file that hangs or kills, bounded memory."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from pipeline.inference.images import ReadOptions, Rejection, RejectReason
from pipeline.inference.prepare import Prepared
from pipeline.inference.readers import ReaderPool, read_all
from pipeline.inference.search import Found, find_images
from pipeline.inference.stacks import Part
from pipeline.inference.target import Target

from .fits_samples import ring, sky_header

TARGET = Target(("F814W",), 0.05, 64, is_unit_free=True)


@pytest.fixture
def many(tmp_path: Path) -> list[Found]:
    for i in range(40):
        fits.PrimaryHDU((ring() + i).astype("f4"), sky_header()).writeto(tmp_path / f"{i:02d}.fits")
    (tmp_path / "07.fits").write_bytes(b"SIMPLE  = damaged")
    return list(find_images([tmp_path]).files)


def test_readers_give_the_outcomes_of_this_process_in_order(many):
    expected = list(read_all(many, TARGET, workers=0))
    found = list(read_all(many * 4, TARGET, workers=2))
    for one, other in zip(expected * 4, found, strict=True):
        assert one.sha256 == other.sha256 and type(one.image) is type(other.image)
        if isinstance(one.image, Prepared):
            np.testing.assert_array_equal(one.image.image, other.image.image)


def test_a_reader_that_dies_or_hangs_is_replaced_and_its_file_has_a_reason(many):
    """The file a stopped or killed reader was at is told; every other one is read."""
    with ReaderPool(1, TARGET, ReadOptions(), timeout=2.0) as pool:
        outcomes = pool.read(many * 8)
        next(outcomes)
        pid = pool._readers[0].process.pid
        os.kill(pid, signal.SIGSTOP)  # hangs
        first = [next(outcomes) for _ in range(150)]
        hung = [o.image for o in first if _reason(o.image) == RejectReason.TIMED_OUT]
        assert pool._readers[0].process.pid != pid
        pid = pool._readers[0].process.pid
        os.kill(pid, signal.SIGKILL)
        rest = list(outcomes)
        died = [o.image for o in rest if _reason(o.image) == RejectReason.CRASHED]
    assert len(hung) == 1 and len(died) <= 1
    assert len(first) + len(rest) == 8 * len(many) - 1
    n_damaged = sum(_reason(o.image) == RejectReason.UNREADABLE for o in (*first, *rest))
    assert n_damaged >= 6


def _reason(image: Prepared | Rejection) -> str | None:
    return image.reason if isinstance(image, Rejection) else None


def test_a_bug_in_one_file_costs_that_file_alone(many):
    """An item no code path expects ends its reader with a traceback, not the run."""
    broken = Found(many[0].path, "broken", None, Part(x=float("nan"), y=0.0))
    found = list(read_all([many[0], broken, many[1]], TARGET, workers=1))
    assert [type(o.image) for o in found] == [Prepared, Rejection, Prepared]
    assert _reason(found[1].image) == RejectReason.CRASHED


def test_a_pipe_in_the_place_of_a_file_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.fits")
    os.mkfifo(tmp_path / "pipe.npy")
    start = time.monotonic()
    found = list(read_all(list(find_images([tmp_path]).files), TARGET, workers=1))
    assert [_reason(o.image) for o in found] == [RejectReason.UNREADABLE] * 2
    assert time.monotonic() - start < 30


def test_leaving_early_ends_the_readers(many):
    pool = ReaderPool(2, TARGET, ReadOptions())
    pids = [reader.process.pid for reader in pool._readers]
    next(pool.read(many))
    pool.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert threading.active_count() >= 1
