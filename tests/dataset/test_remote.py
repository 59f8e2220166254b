"""Datasets on object stores: the same bytes as local ones, whatever dies on the way."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.config import dump
from pipeline.core.errors import (
    ConfigError,
    DatasetError,
    DatasetNotFoundError,
    MissingExtraError,
    OutputError,
)
from pipeline.dataset import lock, place
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.place import Url, filesystem, locate
from pipeline.dataset.rebuild import rebuild
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.store import Dataset, damaged_shards, open_dataset
from tests.dataset.conftest import tree
from tests.dataset.s3 import S3, start_s3
from tests.dataset.test_generate import START


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    server = start_s3()
    before = {name: os.environ.get(name) for name in server.environment}
    os.environ.update(server.environment)
    try:
        filesystem(Url("s3://bucket")).mkdir("bucket")
        yield server
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def url(s3: S3) -> str:
    if s3.gate is None:
        s3.open_gate()
    return f"s3://bucket/{uuid.uuid4().hex}/d.zarr"


def objects(url: str) -> dict[str, bytes]:
    """Every object below a URL with its bytes, by key relative to it."""
    fs, root = filesystem(Url(url)), url.partition("://")[2]
    return {key.removeprefix(f"{root}/"): fs.cat_file(key) for key in fs.find(root)}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://a/b.zarr", Url("s3://a/b.zarr")),
        (Path("s3://a/b.zarr"), Url("s3://a/b.zarr")),  # pathlib folds the slashes
        ("memory://b.zarr/", Url("memory://b.zarr")),
        ("file:///tmp/b.zarr", Path("/tmp/b.zarr")),
        ("b.zarr", Path("b.zarr")),
        ("/a:b/c.zarr", Path("/a:b/c.zarr")),
    ],
)
def test_urls_are_told_from_paths(given: str | Path, expected: object) -> None:
    assert locate(given) == expected


def test_any_fsspec_url_holds_the_bytes_of_the_local_dataset(
    tiny: Dataset, tiny_config: DatasetConfig
) -> None:
    url = f"memory://{uuid.uuid4().hex}.zarr"
    summary = simulate_dataset(tiny_config, url, workers=1)
    assert summary.dataset_sha256 == tiny.sha256
    fs, root = filesystem(Url(url)), f"/{url.removeprefix('memory://')}"
    found = {k.removeprefix(f"{root}/"): fs.cat_file(k) for k in fs.find(root)}
    assert found == tree(tiny.path)
    assert simulate_dataset(tiny_config, url, workers=1).images_per_second == 0.0


@pytest.mark.slow
def test_a_dataset_on_s3_is_the_local_one(
    tiny: Dataset, tiny_config: DatasetConfig, url: str
) -> None:
    summary = simulate_dataset(tiny_config, url, workers=2)
    assert summary.dataset_sha256 == tiny.sha256
    assert objects(url) == tree(tiny.path)
    data = open_dataset(url)
    assert str(data.path) == url
    np.testing.assert_array_equal(
        data.read_images(np.array([3, 59, 3])), tiny.read_images(np.array([3, 59, 3]))
    )
    assert damaged_shards(data) == ()
    assert rebuild(url, 17).identical
    notes = json.loads(objects(url.removesuffix("/d.zarr"))["d.run.json"])
    assert notes[0]["images_made"] == 60
    assert set(objects(url.removesuffix("/d.zarr"))) == {f"d.zarr/{k}" for k in tree(tiny.path)} | {
        "d.run.json"
    }  # no lease is left


@pytest.mark.slow
def test_a_server_that_comes_back_in_time_is_waited_for(
    s3: S3, url: str, tiny: Dataset, tiny_config: DatasetConfig
) -> None:
    timer = threading.Timer(1.5, s3.open_gate)
    s3.kill_gate()
    timer.start()
    assert simulate_dataset(tiny_config, url, workers=1).dataset_sha256 == tiny.sha256
    timer.join()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_dies_in_the_middle_is_a_clear_error_and_a_clean_resume(
    s3: S3, url: str, tiny: Dataset, tiny_config: DatasetConfig, tmp_path: Path, workers: int
) -> None:
    process = start_writer(tmp_path, tiny_config, url, workers, s3)
    root = url.partition("://")[2]
    while not filesystem(Url(url)).find(f"{root}/shard_digest/c"):
        assert process.poll() is None
        time.sleep(0.02)
    s3.kill_gate()
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "does not answer, tried for 2 s" in said
    s3.open_gate()
    with pytest.raises(DatasetError, match="shards are missing"):
        open_dataset(url)
    summary = simulate_dataset(tiny_config, url, workers=1)
    assert summary.resumed
    assert summary.dataset_sha256 == tiny.sha256
    assert objects(url) == tree(tiny.path)


def start_writer(
    folder: Path, config: DatasetConfig, url: str, workers: int, s3: S3
) -> subprocess.Popen[str]:
    (folder / "config.json").write_text(json.dumps(dump(config)))
    (folder / "start.py").write_text(START)
    root = str(Path(__file__).resolve().parents[2])
    given = {**os.environ, **s3.environment, "PYTHONPATH": root}
    return subprocess.Popen(
        [sys.executable, folder / "start.py", folder / "config.json", url, str(workers)],
        env={**given, "DEEPLENSE_STORAGE_PATIENCE": "2"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_second_writer_is_refused_until_the_lease_ends(
    url: str, tiny_config: DatasetConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Url(f"{url}.lease")
    other = {"id": "x", "host": "elsewhere", "pid": 7, "until": time.time() + 1000}
    place.write_bytes(lease, json.dumps(other).encode())
    with pytest.raises(DatasetError, match=r"another process is writing it: 7 on elsewhere"):
        simulate_dataset(tiny_config, url, workers=1)
    assert lock._read(lease) == other
    place.write_bytes(lease, json.dumps({**other, "until": time.time() - 1}).encode())
    simulate_dataset(tiny_config, url, workers=1)
    assert lock._read(lease) is None


@pytest.mark.slow
def test_a_missing_shard_on_s3_is_named(tiny_config: DatasetConfig, url: str) -> None:
    simulate_dataset(tiny_config, url, workers=1)
    filesystem(Url(url)).rm_file(f"{url}/images/c/3/0/0/0")
    data = open_dataset(url)
    assert damaged_shards(data) == (3,)
    with pytest.raises(DatasetError, match="shard 3"):
        data.read_images(slice(27, 30))


def test_what_cannot_be_is_said(url: str, tiny_config: DatasetConfig) -> None:
    with pytest.raises(DatasetNotFoundError, match="no dataset lies there"):
        open_dataset(url)
    with pytest.raises(ConfigError, match="no scheme that fsspec knows"):
        open_dataset("nosuch://a/b.zarr")
    with pytest.raises(OutputError, match="cannot be written"):
        simulate_dataset(tiny_config, "s3://no-such-bucket/d.zarr", workers=1)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(scheme: str, **options: object) -> None:
        raise ImportError("Install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(MissingExtraError, match=r"deeplense-pipeline\[gs\]"):
        open_dataset("gs://bucket/d.zarr")
