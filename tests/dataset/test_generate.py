"""A dataset is a pure function of its configuration, however often its making was interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from pipeline.core.config import dump
from pipeline.core.errors import (
    DatasetError,
    DatasetIncompleteError,
    DatasetMismatchError,
    DatasetNotFoundError,
    OutputError,
)
from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.dataset.generate import simulation_spec
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.single import simulate
from pipeline.dataset.store import Dataset, damaged_shards, open_dataset
from pipeline.dataset.writer import ShardStore
from tests.dataset.conftest import TINY, tree

START = (
    "import sys, json; from pathlib import Path\n"
    "from pipeline.core.config import validate\n"
    "from pipeline.dataset.config import DatasetConfig\n"
    "from pipeline.dataset.simulate import simulate_dataset\n"
    "if __name__ == '__main__':\n"
    "    config = validate(json.loads(Path(sys.argv[1]).read_text()), DatasetConfig)\n"
    "    simulate_dataset(config, Path(sys.argv[2]), workers=int(sys.argv[3]))\n"
)


def start(folder: Path, config: DatasetConfig, out: Path, workers: int) -> subprocess.Popen[bytes]:
    """Run ``simulate_dataset`` in its own process, which a test may then kill."""
    (folder / "config.json").write_text(json.dumps(dump(config)))
    (folder / "start.py").write_text(START)
    command = [sys.executable, str(folder / "start.py"), str(folder / "config.json"), str(out)]
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen([*command, str(workers)], env={**os.environ, "PYTHONPATH": root})


def wait_for_a_shard(path: Path) -> None:
    """Return once at least one digest is on disk."""
    while not list(path.glob("shard_digest/c/*")):
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_and_resumed_gives_identical_bytes(
    tiny: Dataset, tiny_config: DatasetConfig, tmp_path: Path, workers: int
) -> None:
    out = tmp_path / "tiny.zarr"
    process = start(tmp_path, tiny_config, out, workers)
    wait_for_a_shard(out)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(DatasetIncompleteError, match="shards are missing"):
        open_dataset(out)
    wait_until_unlocked(out, tiny_config)
    summary = simulate_dataset(tiny_config, out, workers=1)
    assert summary.resumed
    assert summary.dataset_sha256 == tiny.sha256
    assert tree(out) == tree(tiny.path)


def wait_until_unlocked(out: Path, config: DatasetConfig) -> None:
    """Wait for orphaned workers to notice that their parent is gone and leave."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        before = len(ShardStore(out, simulation_spec(config)).missing())
        time.sleep(0.3)
        if len(ShardStore(out, simulation_spec(config)).missing()) == before:
            return


def test_number_of_workers_does_not_matter(
    tiny: Dataset, tiny_config: DatasetConfig, tmp_path: Path
) -> None:
    simulate_dataset(tiny_config, tmp_path / "two.zarr", workers=2)
    assert tree(tmp_path / "two.zarr") == tree(tiny.path)


def test_shard_size_does_not_change_an_image(tiny: Dataset, tmp_path: Path) -> None:
    config = load_dataset_config("demo", [*TINY, "n_images=10", "shard_size=4"])
    simulate_dataset(config, tmp_path / "a.zarr", workers=1)
    mine = open_dataset(tmp_path / "a.zarr").read_images(slice(0, 10))
    np.testing.assert_array_equal(mine, tiny.read_images(slice(0, 10)))


def test_one_image_alone_is_the_image_of_the_dataset(
    tiny: Dataset, tiny_config: DatasetConfig
) -> None:
    for index in (0, 1, 17, 59):
        alone = simulate(tiny_config, index)
        np.testing.assert_array_equal(alone.image, tiny.read_images(slice(index, index + 1))[0])
        assert alone.class_name == tiny.class_names[tiny.labels[index]]
        for name in tiny.truth_info():
            np.testing.assert_equal(alone.scene.truth[name], tiny.truth(name)[index])


def test_growing_keeps_every_image_and_equals_one_go(
    tiny: Dataset, tiny_config: DatasetConfig, tmp_path: Path
) -> None:
    out = tmp_path / "grow.zarr"
    small = load_dataset_config("demo", [*TINY, "n_images=30"])
    simulate_dataset(small, out, workers=1)
    summary = simulate_dataset(tiny_config, out, workers=1)
    assert summary.dataset_sha256 == tiny.sha256
    assert tree(out) == tree(tiny.path)
    with pytest.raises(DatasetMismatchError, match="can grow but not shrink"):
        simulate_dataset(small, out, workers=1)


def test_the_same_call_on_a_complete_dataset_does_nothing(
    tiny: Dataset, tiny_config: DatasetConfig
) -> None:
    before = {p: p.stat().st_mtime_ns for p in (tiny.path / "images").rglob("*")}
    summary = simulate_dataset(tiny_config, tiny.path, workers=2)
    assert (summary.resumed, summary.images_per_second) == (False, 0.0)
    assert {p: p.stat().st_mtime_ns for p in (tiny.path / "images").rglob("*")} == before


def test_another_configuration_is_refused_and_named(tiny: Dataset) -> None:
    other = load_dataset_config("demo", [*TINY, "seed=99"])
    before = tree(tiny.path)
    with pytest.raises(DatasetMismatchError, match="seed"):
        simulate_dataset(other, tiny.path, workers=1)
    assert tree(tiny.path) == before


def test_a_second_writer_is_refused(tiny_config: DatasetConfig, tmp_path: Path) -> None:
    out = tmp_path / "busy.zarr"
    process = start(tmp_path, tiny_config.with_changes(n_images=6000), out, 1)
    wait_for_a_shard(out)
    with pytest.raises(DatasetError, match="another process is writing"):
        simulate_dataset(tiny_config.with_changes(n_images=6000), out, workers=1)
    process.kill()
    process.wait()


def test_a_flipped_bit_is_found_in_its_shard(tiny_config: DatasetConfig, tmp_path: Path) -> None:
    out = tmp_path / "tiny.zarr"
    simulate_dataset(tiny_config, out, workers=1)
    dataset = open_dataset(out)
    assert damaged_shards(dataset) == ()
    file = out / "images/c/2/0/0/0"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    assert damaged_shards(dataset) == (2,)


def test_plain_zarr_reads_everything(tiny: Dataset) -> None:
    group = zarr.open_group(tiny.path, mode="r")
    assert group["images"].shape == (60, 1, 24, 24)
    assert np.isfinite(group["images"][:]).all()
    assert group["label"].attrs["class_names"] == ["no", "subhalo", "vortex"]
    assert np.bincount(group["label"][:]).tolist() == [20, 20, 20]
    for name, column in tiny.truth_info().items():
        assert group[f"truth/{name}"].attrs["unit"] == column.unit
        assert column.description


def test_what_is_not_a_dataset_is_said_to_be_so(tmp_path: Path, tiny_config: DatasetConfig) -> None:
    with pytest.raises(DatasetNotFoundError, match="no dataset"):
        open_dataset(tmp_path / "none.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DatasetError, match=r"zarr\.json"):
        open_dataset(tmp_path / "folder")
    zarr.create_group(tmp_path / "foreign.zarr")
    with pytest.raises(DatasetError, match="not a deeplense-dataset"):
        open_dataset(tmp_path / "foreign.zarr")
    with pytest.raises(DatasetError, match="not a deeplense-dataset"):
        simulate_dataset(tiny_config, tmp_path / "foreign.zarr", workers=1)
    (tmp_path / "file.zarr").write_text("mine")
    with pytest.raises(DatasetError, match="a file lies there"):
        simulate_dataset(tiny_config, tmp_path / "file.zarr", workers=1)
    assert (tmp_path / "file.zarr").read_text() == "mine"


def test_a_newer_format_is_refused(tiny_config: DatasetConfig, tmp_path: Path) -> None:
    out = tmp_path / "new.zarr"
    ShardStore.prepare(out, simulation_spec(tiny_config))
    meta = json.loads((out / "zarr.json").read_text())
    meta["attributes"]["format_version"] = 99
    (out / "zarr.json").write_text(json.dumps(meta))
    with pytest.raises(DatasetError, match="format version 99"):
        open_dataset(out)


def test_an_unwritable_place_is_refused_before_work(tiny_config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="not a folder"):
        simulate_dataset(tiny_config, tmp_path / "file" / "a.zarr", workers=1)
