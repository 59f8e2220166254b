"""Datasets are put together and taken apart without losing a pixel, a truth or their origin."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError, DatasetIntegrityError, DatasetMismatchError
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.duplicates import image_digests, same_pixels
from pipeline.dataset.reading import read_column
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.store import Dataset, damaged_shards, open_dataset
from pipeline.exchange.choose import ImportConfig, import_config
from pipeline.exchange.divide import split_dataset
from pipeline.exchange.export import export_dataset
from pipeline.exchange.import_images import import_images
from pipeline.exchange.merge import merge_datasets
from pipeline.exchange.origin import INDEX_ARRAY, SOURCE_ARRAY

from .conftest import pictures, save

CONFIG = ImportConfig(pixel_scale=0.05, shard_size=7)


def imported(root: Path, images: dict[str, np.ndarray], config: ImportConfig = CONFIG) -> Path:
    """A dataset of some images by folder."""
    for name, stack in images.items():
        save(root / "images" / name / "stack.npy", stack)
    return Path(import_images(root / "images", root / "data.zarr", config).path)


def tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def unfinish(path: Path, shard: int) -> None:
    """Leave a dataset as a kill would have, with one shard missing."""
    meta = json.loads((path / "zarr.json").read_text())
    del meta["attributes"]["dataset_sha256"]
    (path / "zarr.json").write_text(json.dumps(meta))
    (path / "shard_digest" / "c" / str(shard) / "0").unlink()
    shutil.rmtree(path / "images" / "c" / str(shard))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Thirty images of another seed than ``simulated``."""
    overrides = ["n_images=30", "shard_size=9", "n_pix=24", "seed=5"]
    config = load_dataset_config("demo", overrides)
    path = tmp_path_factory.mktemp("other") / "other.zarr"
    simulate_dataset(config, path, workers=1)
    return open_dataset(path)


def test_every_image_of_every_source_is_there_once_with_its_truth_and_origin(
    simulated: Dataset, other: Dataset, tmp_path: Path
) -> None:
    paths = [Path(simulated.path), Path(other.path)]
    summary = merge_datasets(paths, tmp_path / "m.zarr")
    data = open_dataset(tmp_path / "m.zarr")
    assert (data.n_images, summary.duplicates, summary.moved) == (90, 0, 0)
    assert data.origin == "merge"
    assert summary.sources == (simulated.sha256, other.sha256)
    made_from = data.spec.attributes["made_from"]
    assert [m["dataset_sha256"] for m in made_from] == list(summary.sources)
    assert set(data.truth_info()) == set(simulated.truth_info()) | set(other.truth_info())
    source, number = read_column(data, SOURCE_ARRAY), read_column(data, INDEX_ARRAY)
    assert len({(a, b) for a, b in zip(source.tolist(), number.tolist(), strict=True)}) == 90
    images = data.read_images(slice(None))
    for k, origin in enumerate((simulated, other)):
        here, there = np.flatnonzero(source == k), number[source == k]
        np.testing.assert_array_equal(images[here], origin.read_images(there))
        np.testing.assert_array_equal(data.labels[here], origin.labels[there])
        np.testing.assert_array_equal(data.split[here], origin.split[there])
        for name in data.truth_info():
            known = name in origin.truth_info()
            expected = origin.truth(name)[there] if known else np.full(len(there), np.nan)
            np.testing.assert_array_equal(data.truth(name)[here], expected)
    assert not damaged_shards(data)
    # interleaved: each third of the images holds a third of either source, give or take one
    thirds = [int((source[i : i + 30] == 1).sum()) for i in (0, 30, 60)]
    assert max(thirds) - min(thirds) <= 1


def test_truths_are_united_and_unknown_where_a_source_has_none(tmp_path: Path) -> None:
    for name in ("a", "b"):
        root = tmp_path / name
        save(root / "stack.npy", pictures(4, seed=ord(name)))
        (root / "l.csv").write_text(f"label,q,only_{name}\n" + "no,0.5,7\n" * 4)
        import_images(root / "stack.npy", root / "d.zarr", CONFIG, root / "l.csv")
    merge_datasets([tmp_path / "a/d.zarr", tmp_path / "b/d.zarr"], tmp_path / "m.zarr")
    data = open_dataset(tmp_path / "m.zarr")
    source = read_column(data, SOURCE_ARRAY)
    assert (data.truth("q") == 0.5).all()
    np.testing.assert_array_equal(data.truth("only_a"), np.where(source == 0, 7.0, np.nan))
    np.testing.assert_array_equal(data.truth("only_b"), np.where(source == 1, 7.0, np.nan))


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    a = imported(tmp_path / "a", {"no": pictures(9), "cdm": pictures(9, seed=1)})
    config = import_config(pixel_scale=0.05, aliases=("axion=vortex",))
    b = imported(tmp_path / "b", {"axion": pictures(9, seed=2), "cdm": pictures(9, seed=3)}, config)
    assert open_dataset(b).class_names == ("subhalo", "vortex")
    summary = merge_datasets([b, a], tmp_path / "m.zarr")
    data = open_dataset(summary.path)
    assert data.class_names == ("subhalo", "vortex", "no")
    assert summary.classes == {"subhalo": 18, "vortex": 9, "no": 9}
    for source, origin in ((0, open_dataset(b)), (1, open_dataset(a))):
        here = read_column(data, SOURCE_ARRAY) == source
        number = read_column(data, INDEX_ARRAY)[here]
        names = [data.class_names[k] for k in data.labels[here]]
        assert names == [origin.class_names[k] for k in origin.labels[number]]


@given(n=st.integers(1, 30), resplit=st.booleans(), seed=st.integers(0, 5))
@settings(max_examples=4, deadline=None)
def test_no_duplicate_lies_in_two_splits(
    tmp_path_factory: pytest.TempPathFactory, n: int, resplit: bool, seed: int
) -> None:
    root = tmp_path_factory.mktemp("merge")
    images = pictures(60)
    a = imported(root / "a", {"no": images[:40]}, CONFIG.with_changes(seed=1))
    b = imported(root / "b", {"no": np.roll(images[40 - n :], 3, axis=0)}, CONFIG)
    summary = merge_datasets([a, b], root / "m.zarr", resplit=resplit, seed=seed)
    data = open_dataset(summary.path)
    assert summary.duplicates == n
    group = same_pixels(image_digests(data.read_images(slice(None))))
    for g in set(group.tolist()):
        assert len(set(data.split[group == g].tolist())) == 1


def test_a_new_division_does_not_depend_on_the_order_of_the_datasets(tmp_path: Path) -> None:
    a = imported(tmp_path / "a", {"no": pictures(40)})
    b = imported(tmp_path / "b", {"no": pictures(30, seed=1)})
    where = []
    for k, paths in enumerate(([a, b], [b, a])):
        data = open_dataset(merge_datasets(paths, tmp_path / f"{k}.zarr", resplit=True).path)
        images = data.read_images(slice(None))
        where.append({i.tobytes(): int(s) for i, s in zip(images, data.split, strict=True)})
    assert where[0] == where[1]


def test_a_galaxy_stays_in_one_split(tmp_path: Path) -> None:
    for name, seed, shift in (("a", 0, 0), ("b", 1, 1)):
        root = tmp_path / name
        save(root / "stack.npy", pictures(20, seed=seed))
        rows = [
            f"no,{SPLIT},{k}" for k, SPLIT in zip(range(20), ["train", "test"] * 10, strict=True)
        ]
        rows = rows[shift:] + rows[:shift]
        (root / "l.csv").write_text("label,split,source_stamp\n" + "\n".join(rows) + "\n")
        import_images(root / "stack.npy", root / "d.zarr", CONFIG, root / "l.csv")
    data = open_dataset(
        merge_datasets([tmp_path / "a/d.zarr", tmp_path / "b/d.zarr"], tmp_path / "m.zarr").path
    )
    stamp = data.truth("source_stamp")
    for number in range(20):
        assert len(set(data.split[stamp == number].tolist())) == 1


def test_an_interrupted_merge_goes_on_to_the_same_bytes(
    simulated: Dataset, other: Dataset, tmp_path: Path
) -> None:
    paths = [Path(simulated.path), Path(other.path)]
    whole = merge_datasets(paths, tmp_path / "m.zarr")
    expected = tree(tmp_path / "m.zarr")
    unfinish(tmp_path / "m.zarr", 4)
    again = merge_datasets(paths, tmp_path / "m.zarr")
    assert again.resumed and again.dataset_sha256 == whole.dataset_sha256
    found = tree(tmp_path / "m.zarr")
    assert {k: v for k, v in found.items() if k != "zarr.json"} == {
        k: v for k, v in expected.items() if k != "zarr.json"
    }
    with pytest.raises(DatasetMismatchError, match="another merge"):
        merge_datasets(paths, tmp_path / "m.zarr", resplit=True)


def test_what_does_not_go_together_is_refused_by_name(simulated: Dataset, tmp_path: Path) -> None:
    path = Path(simulated.path)
    with pytest.raises(ConfigError, match="at least two"):
        merge_datasets([path], tmp_path / "m.zarr")
    with pytest.raises(ConfigError, match="the same dataset"):
        merge_datasets([path, path], tmp_path / "m.zarr")
    images = {"no": pictures(9, 24)}
    whole = {"bands": simulated.bands, "unit": simulated.unit, "pixel_scale": 0.05}
    for k, (change, said) in enumerate(
        [
            ({"bands": ("g",)}, "bands g, but hst_acs_f814w"),
            ({"unit": "adu"}, "unit adu, but electron/s"),
            ({"pixel_scale": 0.06}, "pixels of 0.06 arcsec, but 0.05 arcsec"),
        ]
    ):
        wrong = imported(tmp_path / str(k), images, CONFIG.with_changes(**{**whole, **change}))
        with pytest.raises(DatasetMismatchError, match=said):
            merge_datasets([path, wrong], tmp_path / "m.zarr")
    small = imported(tmp_path / "small", {"no": pictures(9, 16)}, CONFIG.with_changes(**whole))
    with pytest.raises(DatasetMismatchError, match="1, 16, 16, but 1, 24, 24"):
        merge_datasets([path, small], tmp_path / "m.zarr")
    assert not (tmp_path / "m.zarr").exists()


def test_a_truth_in_two_units_is_refused(tmp_path: Path) -> None:
    for name, unit in (("a", "arcsec"), ("b", "mas")):
        root = tmp_path / name
        save(root / "stack.npy", pictures(5, seed=len(unit)))
        (root / "l.ecsv").write_text(
            "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: label, datatype: string}\n"
            f"# - {{name: theta_E, unit: {unit}, datatype: float64}}\nlabel theta_E\n"
            + "no 1.0\n"
            * 5
        )
        import_images(root / "stack.npy", root / "d.zarr", CONFIG, root / "l.ecsv")
    with pytest.raises(DatasetMismatchError, match="unit of theta_E is 'mas'"):
        merge_datasets([tmp_path / "a/d.zarr", tmp_path / "b/d.zarr"], tmp_path / "m.zarr")


def test_a_damaged_source_is_not_merged(simulated: Dataset, other: Dataset, tmp_path: Path) -> None:
    bad = tmp_path / "bad.zarr"
    shutil.copytree(other.path, bad)
    chunk = bad / "images" / "c" / "2" / "0" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[1234] ^= 1
    chunk.write_bytes(bytes(content))
    with pytest.raises(DatasetIntegrityError, match="shard 2 is damaged"):
        merge_datasets([Path(simulated.path), bad], tmp_path / "m.zarr")


@pytest.mark.parametrize("by", ["split", "class"])
def test_parts_by_split_or_class_hold_every_image_once(
    simulated: Dataset, tmp_path: Path, by: str
) -> None:
    summary = split_dataset(Path(simulated.path), tmp_path / "parts", by=by)  # type: ignore[arg-type]
    assert summary.images == 60
    seen: list[int] = []
    for part in summary.parts:
        data = open_dataset(part.path)
        assert data.class_names == simulated.class_names
        number = read_column(data, INDEX_ARRAY)
        seen += number.tolist()
        np.testing.assert_array_equal(data.read_images(slice(None)), simulated.read_images(number))
        kinds = data.split if by == "split" else data.labels
        names = ("train", "val", "test") if by == "split" else data.class_names
        assert {names[k] for k in kinds} == {part.name}
        np.testing.assert_array_equal(data.truth("theta_E"), simulated.truth("theta_E")[number])
    assert sorted(seen) == list(range(60))


def test_fractions_are_exact_alike_and_keep_copies_together(tmp_path: Path) -> None:
    images = pictures(200)
    root = imported(
        tmp_path, {"no": np.concatenate([images[:100], images[:20]]), "cdm": images[100:]}
    )
    summary = split_dataset(root, tmp_path / "parts", by="fraction", fractions=(0.25, 0.5))
    assert [p.name for p in summary.parts] == ["part-1", "part-2"]
    found = [open_dataset(p.path) for p in summary.parts]
    for data, share in zip(found, (0.25, 0.5), strict=True):
        for label, n in ((0, 120), (1, 100)):
            # rounding in each of three splits, and groups of two copies
            assert abs(int((data.labels == label).sum()) - share * n) <= 4
    pixels = [{i.tobytes() for i in data.read_images(slice(None))} for data in found]
    assert not pixels[0] & pixels[1]
    anew = split_dataset(root, tmp_path / "anew", by="fraction", fractions=(0.25,), seed=1)
    again = {i.tobytes() for i in open_dataset(anew.parts[0].path).read_images(slice(None))}
    assert again != pixels[0]


@pytest.mark.parametrize(
    ("by", "fractions"),
    [("fraction", ()), ("split", (0.5,)), ("fraction", (0.5, 0.6)), ("fraction", (-0.1,))],
)
def test_fractions_that_make_no_sense_are_refused(
    simulated: Dataset, tmp_path: Path, by: str, fractions: tuple[float, ...]
) -> None:
    with pytest.raises(ConfigError, match="fraction"):
        split_dataset(Path(simulated.path), tmp_path, by=by, fractions=fractions)  # type: ignore[arg-type]


def test_parts_put_together_again_lead_back_to_the_first_dataset(
    simulated: Dataset, tmp_path: Path
) -> None:
    parts = split_dataset(Path(simulated.path), tmp_path / "parts").parts
    whole = merge_datasets([Path(p.path) for p in parts], tmp_path / "m.zarr")
    data = open_dataset(whole.path)
    (source,) = data.spec.attributes["sources"]
    assert source["dataset_sha256"] == simulated.sha256
    number = read_column(data, INDEX_ARRAY)
    assert sorted(number.tolist()) == list(range(60))
    np.testing.assert_array_equal(data.read_images(slice(None)), simulated.read_images(number))
    # so the telescope is known, and a survey's error map can be made
    export_dataset(Path(data.path), tmp_path / "fits", "fits", splits=["test"])
    path = next((tmp_path / "fits").rglob("*.fits"))
    with fits.open(path) as hdus:
        assert "ERR" in [hdu.name for hdu in hdus]


def test_datasets_at_urls_are_imported_merged_and_divided(tmp_path: Path) -> None:
    stacks = [save(tmp_path / str(k) / "no" / "x.npy", pictures(20, seed=k)) for k in (0, 1)]
    for where in ("memory://exchange", str(tmp_path / "local")):
        paths = [f"{where}/{k}.zarr" for k in (0, 1)]
        for stack, path in zip(stacks, paths, strict=True):
            import_images(stack.parents[1], path, CONFIG)
        merge_datasets(paths, f"{where}/m.zarr")
        split_dataset(f"{where}/m.zarr", f"{where}/parts")
    for name in ("0.zarr", "m.zarr", "parts/train.zarr"):
        remote, local = (
            open_dataset(f"{w}/{name}") for w in ("memory://exchange", tmp_path / "local")
        )
        assert remote.sha256 == local.sha256
        assert damaged_shards(remote) == ()


@pytest.mark.slow
def test_the_commands(simulated: Dataset, other: Dataset, tmp_path: Path) -> None:
    def deeplense(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    out = tmp_path / "m.zarr"
    done = deeplense("merge", simulated.path, other.path, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["images"] == 90
    assert found["dataset_sha256"] == open_dataset(out).sha256
    call = ("split", out, "--out", tmp_path / "p", "--by", "fraction", "--fraction", 0.3, "--json")
    done = deeplense(*call)
    assert done.returncode == 0, done.stderr
    assert [p["name"] for p in json.loads(done.stdout)["parts"]] == ["part-1"]
    assert deeplense("merge", out, "--out", tmp_path / "x.zarr").returncode == 2
    bad = deeplense(
        "merge", out, other.path, "--out", tmp_path / "x.zarr", "--fractions", 0.5, 0.3, 0.3
    )
    assert bad.returncode == 2
    assert "add up to 1" in bad.stderr
