"""A dataset describes itself: one that nobody simulated opens, resumes and is audited the same."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from pipeline.core.errors import DatasetError, DatasetIncompleteError, DatasetMismatchError
from pipeline.dataset.audit import audit_dataset
from pipeline.dataset.layout import StoreSpec, describe, image_arrays
from pipeline.dataset.store import damaged_shards, open_dataset
from pipeline.dataset.writer import write_store
from pipeline.physics.components import TruthColumn
from tests.dataset.conftest import tree

MASS = TruthColumn("M_sun", "mass of somebody's lens")


def foreign_spec(n_images: int = 10, origin_sha256: str = "0" * 64) -> StoreSpec:
    classes = ("lens", "other")
    return StoreSpec(
        arrays=image_arrays(classes, (2, 5, 7), {"mass": MASS}, unit="count"),
        n_images=n_images,
        shard_size=4,
        attributes={**describe(classes, ("g", "r"), 0.2), "description": "from a survey"},
        origin="import",
        origin_sha256=origin_sha256,
    )


def values(rows: slice) -> dict[str, NDArray[Any]]:
    index = np.arange(rows.start, rows.stop)
    pixels = index[:, None, None, None] + np.arange(70).reshape(2, 5, 7) / 70.0
    return {
        "images": pixels.astype(np.float32),
        "label": (index % 2).astype(np.int16),
        "split": (index % 3).astype(np.int8),
        "truth/mass": 1e12 + index.astype(float),
    }


def write(path: Path, spec: StoreSpec, n_shards: int = 100) -> None:
    with write_store(path, spec) as store:
        for shard in store.missing()[:n_shards]:
            store.write(shard, values(store.rows(shard)))
        if not store.missing():
            store.seal()


def test_an_imported_dataset_says_everything_itself(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", foreign_spec())
    data = open_dataset(tmp_path / "a.zarr")
    assert (data.class_names, data.bands, data.pixel_scale) == (("lens", "other"), ("g", "r"), 0.2)
    assert (data.n_images, data.image_shape, data.shard_size) == (10, (2, 5, 7), 4)
    assert (data.unit, data.description, data.origin) == ("count", "from a survey", "import")
    assert data.truth_info() == {"mass": MASS}
    np.testing.assert_array_equal(data.truth("mass"), 1e12 + np.arange(10.0))
    np.testing.assert_array_equal(data.read_images(slice(0, 10)), values(slice(0, 10))["images"])
    assert data.indices("val").tolist() == [1, 4, 7]
    assert data.simulation is None
    with pytest.raises(DatasetError, match=r"needs the configuration .* import"):
        data.require_simulation("re-simulation")


def test_it_is_resumed_to_the_same_bytes_and_says_which_command_does_it(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", foreign_spec())
    write(tmp_path / "b.zarr", foreign_spec(), n_shards=1)
    with pytest.raises(DatasetIncompleteError, match=r"2 of 3 shards .* 'deeplense import'"):
        open_dataset(tmp_path / "b.zarr")
    write(tmp_path / "b.zarr", foreign_spec())
    assert tree(tmp_path / "a.zarr") == tree(tmp_path / "b.zarr")


def test_it_grows_only_from_the_same_origin(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", foreign_spec())
    with pytest.raises(DatasetMismatchError, match="made by another import"):
        write(tmp_path / "a.zarr", foreign_spec(origin_sha256="1" * 64))
    write(tmp_path / "a.zarr", foreign_spec(n_images=13))
    write(tmp_path / "b.zarr", foreign_spec(n_images=13))
    assert tree(tmp_path / "a.zarr") == tree(tmp_path / "b.zarr")


def test_another_kind_of_device_does_not_finish_it(tmp_path: Path) -> None:
    on_gpu = dataclasses.replace(foreign_spec(), device=lambda: "gpu")
    write(tmp_path / "a.zarr", on_gpu, n_shards=1)
    with pytest.raises(DatasetMismatchError, match=r"begun on a gpu, .* the cpu here"):
        write(tmp_path / "a.zarr", foreign_spec())
    write(tmp_path / "a.zarr", on_gpu)
    write(tmp_path / "a.zarr", foreign_spec())  # complete: nothing is computed


def test_a_shard_read_is_the_shard_written(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", foreign_spec())
    data = open_dataset(tmp_path / "a.zarr")
    for shard in range(data.n_shards):
        found, expected = data.read_shard(shard), values(data.rows(shard))
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)
    assert damaged_shards(data) == ()


def test_threads_that_open_it_at_once_disturb_no_other_reader(tmp_path: Path) -> None:
    """Zarr's settings belong to the process: what one thread asks for must not reach another."""
    write(tmp_path / "a.zarr", foreign_spec())

    def open_one(turn: int) -> NDArray[Any]:
        if turn % 2:  # a new one, whose digests are missing chunks: these are no error
            with write_store(tmp_path / f"{turn}.zarr", foreign_spec()) as store:
                assert store.missing() == (0, 1, 2)
        return open_dataset(tmp_path / "a.zarr").truth("mass")

    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(open_one, range(24)):
            np.testing.assert_array_equal(found, 1e12 + np.arange(10.0))
    assert zarr.config.get("array.read_missing_chunks")


def test_its_audit_judges_the_pixels_and_names_what_it_cannot_judge(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", foreign_spec())
    audit = audit_dataset(tmp_path / "a.zarr")
    assert audit.passed
    assert {c.name for c in audit.checks if c.state == "passed"} == {
        "digests", "finite", "duplicates",
    }  # fmt: skip
    assert "import" in audit.not_judged[0].detail
