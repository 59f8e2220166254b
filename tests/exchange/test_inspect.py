"""An inspection says what is in a dataset, whole or not, and its page stands alone."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import DatasetError, DatasetNotFoundError
from pipeline.dataset.inspection import inspect_dataset
from pipeline.dataset.splits import SPLITS
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.exchange.choose import ImportConfig
from pipeline.exchange.import_images import import_images
from pipeline.exchange.merge import merge_datasets
from pipeline.report.inspect_page import inspect_and_report

from .conftest import pictures, save


class Checker(HTMLParser):
    """Collects what a page refers to, and fails on tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.n_images = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        self.n_images += tag == "img"
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_of(path: Path, out: Path) -> tuple[str, Checker]:
    inspect_and_report(path, out)
    text = out.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert not checker.open
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in checker.addresses)
    assert "<script" not in text
    return text, checker


@pytest.fixture
def broken(simulated: Dataset, tmp_path: Path) -> Path:
    """The dataset with shard 2 missing and shard 4 damaged; seven shards of nine images."""
    path = tmp_path / "broken.zarr"
    shutil.copytree(simulated.path, path)
    meta = json.loads((path / "zarr.json").read_text())
    del meta["attributes"]["dataset_sha256"]
    (path / "zarr.json").write_text(json.dumps(meta))
    (path / "shard_digest" / "c" / "2" / "0").unlink()
    shutil.rmtree(path / "images" / "c" / "2")
    chunk = path / "images" / "c" / "4" / "0" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[777] ^= 1
    chunk.write_bytes(bytes(content))
    return path


def test_counts_and_parameters_are_those_of_the_dataset(simulated: Dataset) -> None:
    found = inspect_dataset(simulated.path)
    assert found.is_complete and not found.missing and not found.damaged
    assert (found.n_copies, found.n_across) == (0, 0)
    for k, name in enumerate(simulated.class_names):
        for j, split in enumerate(SPLITS):
            n = int(((simulated.labels == k) & (simulated.split == j)).sum())
            assert found.counts[name][split] == n
    assert [p.name for p in found.parameters] == list(simulated.truth_info())
    for parameter in found.parameters:
        for k, name in enumerate(simulated.class_names):
            values = simulated.truth(parameter.name)[simulated.labels == k]
            values = values[np.isfinite(values)]
            spread = parameter.by_class[name]
            assert spread.n == len(values)
            if len(values):
                expected = values.min(), np.median(values), values.max()
                assert (spread.low, spread.median, spread.high) == expected


def test_an_unfinished_and_damaged_dataset_is_described_by_what_is_whole(
    broken: Path, simulated: Dataset, tmp_path: Path
) -> None:
    found = inspect_dataset(broken)
    assert not found.is_complete
    assert (found.missing, found.damaged) == ((2,), (4,))
    good = np.array([i for i in range(60) if i // 9 not in (2, 4)])
    np.testing.assert_array_equal(found.rows, good)
    np.testing.assert_array_equal(found.labels, simulated.labels[good])
    np.testing.assert_array_equal(found.truth["theta_E"], simulated.truth("theta_E")[good])
    text, _ = page_of(broken, tmp_path / "b.html")
    assert "What is wrong" in text
    assert re.search(r"<td>2</td><td>missing</td><td>18 to 26</td>", text)
    assert re.search(r"<td>4</td><td>damaged</td><td>36 to 44</td>", text)
    assert "none: not complete" in text


def test_without_pixels_damage_and_copies_are_not_looked_for(broken: Path) -> None:
    found = inspect_dataset(broken, pixels=False)
    assert (found.missing, found.damaged) == ((2,), ())
    assert found.n_copies is None
    assert found.to_json()["duplicates_across_splits"] is None


def test_the_page_of_a_simulation_shows_everything(simulated: Dataset, tmp_path: Path) -> None:
    text, checker = page_of(Path(simulated.path), tmp_path / "x.html")
    varying = [p for p in inspect_dataset(simulated.path).parameters if not p.is_constant]
    assert checker.n_images == 3 * 16
    assert text.count("<svg") == len(varying) > 10
    for name, about in simulated.truth_info().items():
        assert f">{name}</td>" in text
        assert about.description.split(",")[0] in text
    assert simulated.sha256 in text
    assert "theta_E" in text and "The configuration, every value with its unit" in text
    assert simulated.versions["numpy"] in text


def test_copies_across_splits_come_first_and_are_marked(tmp_path: Path) -> None:
    images = pictures(30)
    root = tmp_path / "model"
    for name, part in (("train", images[:15]), ("test", images[14:])):
        save(root / name / "no" / "x.npy", part)
    save(root / "train" / "no" / "again.npy", images[:3])
    import_images(root, tmp_path / "d.zarr", ImportConfig(pixel_scale=0.1, shard_size=8))
    data = open_dataset(tmp_path / "d.zarr")
    clean = inspect_dataset(data.path)
    assert (clean.n_copies, clean.n_across, len(clean.copies)) == (4, 0, 4)
    for copies in clean.copies:
        stored = data.read_images(np.array(copies.images))
        assert all(np.array_equal(stored[0], image) for image in stored[1:])
    text, _ = page_of(Path(data.path), tmp_path / "x.html")
    assert "No group lies in two splits" in text


def test_a_merged_dataset_names_its_sources(simulated: Dataset, tmp_path: Path) -> None:
    unit, bands = simulated.unit, simulated.bands
    config = ImportConfig(pixel_scale=0.05, unit=unit, bands=bands)
    save(tmp_path / "model" / "a<b>c" / "x.npy", pictures(9, 24))
    import_images(tmp_path / "model", tmp_path / "i.zarr", config)
    merge_datasets([Path(simulated.path), tmp_path / "i.zarr"], tmp_path / "m.zarr")
    text, _ = page_of(tmp_path / "m.zarr", tmp_path / "m.html")
    assert simulated.sha256 in text
    assert open_dataset(tmp_path / "i.zarr").sha256 in text
    assert "<b>" not in text and "a&lt;b&gt;c" in text


def test_what_is_no_dataset_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError):
        inspect_dataset(tmp_path / "none.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DatasetError, match="not a dataset"):
        inspect_dataset(tmp_path / "folder")


@pytest.mark.slow
def test_the_command(simulated: Dataset, broken: Path, tmp_path: Path) -> None:
    def deeplense(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline", "inspect", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    done = deeplense(simulated.path, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["complete"] is True
    assert found["dataset_sha256"] == simulated.sha256
    assert found["parameters"][0].keys() == {"name", "unit", "description", "by_class"}
    done = deeplense(broken, "--out", tmp_path / "x.html")
    assert done.returncode == 0, done.stderr
    assert "1 of 7 shards missing: 2" in done.stdout
    assert "1 of 7 shards damaged: 4" in done.stdout
    assert (tmp_path / "x.html").exists()
