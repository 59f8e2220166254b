"""What is damaged is named and made again, exactly that; a budget stops between shards."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import DatasetError, DatasetIntegrityError, OutputError
from pipeline.dataset.audit import audit_dataset
from pipeline.dataset.budget import estimate_cost, plain_bytes
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.generate import simulation_spec
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.store import Dataset, damaged_shards, open_dataset
from tests.dataset.conftest import tree


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 16
    file.write_bytes(bytes(data))


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path) -> None:
    os.truncate(file, 0)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "flipped bit": flip, "truncated": truncate, "empty": empty, "missing": Path.unlink,
}  # fmt: skip
FILES = [
    "images/c/2/0/0/0", "images/c/6/0/0/0", "truth/theta_E/c/2", "components/value/c/2/0",
    "components/offset/c/2", "label/c/2", "truth/n_sub/c/6",
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_shard_is_named_and_repaired_to_the_same_bytes(
    tiny: Dataset, tiny_config: DatasetConfig, tmp_path: Path, file: str, damage: str
) -> None:
    path = tmp_path / "d.zarr"
    shutil.copytree(tiny.path, path)
    DAMAGES[damage](path / file)
    shard = int(file.partition("/c/")[2].partition("/")[0])
    assert damaged_shards(open_dataset(path)) == (shard,)
    untouched = {p: p.stat().st_ino for p in (path / "images/c").rglob("*") if p.is_file()}
    summary = simulate_dataset(tiny_config, path, workers=1, repair=True)
    assert summary.repaired == (shard,)
    assert summary.dataset_sha256 == tiny.sha256
    assert tree(path) == tree(tiny.path)
    changed = {p for p, inode in untouched.items() if p.stat().st_ino != inode}
    assert changed <= {path / f"images/c/{shard}/0/0/0"}


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_reading_a_damaged_shard_is_an_error_that_names_it(
    tiny: Dataset, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "d.zarr"
    shutil.copytree(tiny.path, path)
    DAMAGES[damage](path / "images/c/2/0/0/0")
    with pytest.raises(DatasetError, match="2"):
        open_dataset(path).read_images(np.arange(60))
    assert audit_dataset(path, n_resimulate=0).damaged_shards == (2,)


def test_a_repair_that_comes_out_different_is_said(
    tiny: Dataset, tiny_config: DatasetConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.dataset import workers

    path = tmp_path / "d.zarr"
    shutil.copytree(tiny.path, path)
    flip(path / "images/c/2/0/0/0")
    make_shard = workers.make_shard

    def other_machine(*arguments):  # type: ignore[no-untyped-def]
        values = make_shard(*arguments)
        values["images"][0, 0, 0, 0] += 1e-3
        return values

    monkeypatch.setattr(workers, "make_shard", other_machine)
    with pytest.raises(DatasetIntegrityError, match="shards 2 were made again but came out"):
        simulate_dataset(tiny_config, path, workers=1, repair=True)


def test_a_sound_dataset_needs_no_repair(tiny: Dataset, tiny_config: DatasetConfig) -> None:
    summary = simulate_dataset(tiny_config, tiny.path, workers=1, repair=True)
    assert (summary.repaired, summary.images_per_second) == ((), 0.0)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_budget_of_gigabytes_stops_between_shards_and_the_rest_comes_later(
    tiny: Dataset, tiny_config: DatasetConfig, tmp_path: Path, workers: int
) -> None:
    out = tmp_path / "d.zarr"
    gigabytes = 30 * plain_bytes(simulation_spec(tiny_config)) * 1.5 / 1e9
    summary = simulate_dataset(tiny_config, out, workers=workers, max_gb=gigabytes)
    assert not summary.complete
    assert "--max-gb" in summary.stopped
    assert summary.dataset_sha256 == ""
    assert summary.estimate is not None
    assert summary.estimate.images == 60
    size = sum(len(content) for content in tree(out).values()) / 1e9
    assert 0.3 * gigabytes < size
    with pytest.raises(DatasetError, match="shards are missing"):
        open_dataset(out)
    assert simulate_dataset(tiny_config, out, workers=1).dataset_sha256 == tiny.sha256
    assert tree(out) == tree(tiny.path)


def test_a_budget_of_time_stops_before_the_next_shard(
    tiny_config: DatasetConfig, tmp_path: Path
) -> None:
    summary = simulate_dataset(tiny_config, tmp_path / "d.zarr", workers=1, max_hours=1e-9)
    assert not summary.complete
    assert "--max-hours" in summary.stopped


def test_the_estimate_is_of_the_size_that_comes_out(
    tiny: Dataset, tiny_config: DatasetConfig
) -> None:
    found = estimate_cost(tiny_config, 60, 1)
    values = [tiny.read_shard(k) for k in range(tiny.n_shards)]
    size = sum(array.nbytes for shard in values for array in shard.values()) / 1e9
    assert found.gigabytes == pytest.approx(size, rel=0.2)
    assert found.hours == pytest.approx(60 / found.images_per_second / 3600, rel=0.01)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=640k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_disk_is_a_clear_error_and_a_clean_resume(
    small_disk: Path, tiny: Dataset, tiny_config: DatasetConfig, workers: int
) -> None:
    out = small_disk / "d.zarr"
    with pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)):
        simulate_dataset(tiny_config, out, workers=workers)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    summary = simulate_dataset(tiny_config, out, workers=1)
    assert summary.dataset_sha256 == tiny.sha256
    assert tree(out) == tree(tiny.path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tiny_config: DatasetConfig, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="cannot write into"):
        simulate_dataset(tiny_config, tmp_path / "d.zarr", workers=1)


def test_a_read_only_disk_is_refused(small_disk: Path, tiny_config: DatasetConfig) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OutputError, match="cannot write into"):
        simulate_dataset(tiny_config, small_disk / "d.zarr", workers=1)
