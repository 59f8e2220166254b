"""Images that exist become a dataset: the same pixels, honest labels, clean splits, no surprise."""

import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError, DatasetError, DatasetMismatchError
from pipeline.dataset.splits import SPLITS
from pipeline.dataset.store import Dataset, damaged_shards, open_dataset
from pipeline.exchange.choose import ImportConfig, import_config
from pipeline.exchange.import_images import ImportSummary, import_images

from .conftest import deeplense_folder, pair, pictures, save

CONFIG = ImportConfig(pixel_scale=0.05, shard_size=10)


def run(root: Path, config: ImportConfig = CONFIG, labels: Path | None = None) -> ImportSummary:
    return import_images(root, root.parent / "out.zarr", config, labels)


def made(summary: ImportSummary) -> tuple[Dataset, list[dict[str, str]]]:
    """The dataset, and where each of its images came from."""
    with Path(summary.files).open() as stream:
        return open_dataset(summary.path), list(csv.DictReader(stream))


def rejects(summary: ImportSummary) -> dict[str, tuple[str, str]]:
    assert summary.rejects is not None
    with Path(summary.rejects).open() as stream:
        rows = list(csv.DictReader(stream))
    return {
        row["path"] + (f"[{row['row']}]" if row["row"] else ""): (row["reason"], row["detail"])
        for row in rows
    }


def by_file(summary: ImportSummary) -> dict[str, int]:
    return {row["path"]: int(row["index"]) for row in made(summary)[1]}


def tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_a_deeplense_folder_keeps_pixels_classes_and_axion_masses(tmp_path: Path) -> None:
    images = deeplense_folder(tmp_path / "model")
    summary = run(tmp_path / "model")
    data, files = made(summary)
    assert data.class_names == ("no", "subhalo", "vortex")
    assert summary.classes == {"no": 12, "subhalo": 12, "vortex": 12}
    assert (data.origin, data.pixel_scale, data.bands) == ("import", 0.05, ("unknown",))
    assert data.truth_info()["axion_mass"].unit == "eV"
    stored, mass = data.read_images(slice(None)), data.truth("axion_mass")
    for row in files:
        i, k = int(row["index"]), int(row["path"].split("_")[-1].removesuffix(".npy"))
        kind = ["no_sub", "cdm", "axion"].index(row["path"].split("/")[0])
        np.testing.assert_array_equal(stored[i, 0], images[kind, k].astype(np.float32))
        assert data.labels[i] == kind
        expected = 10.0 ** -(23.0 + k / 10) if kind == 2 else np.nan
        np.testing.assert_equal(mass[i], expected)
    assert not damaged_shards(data)


def test_the_same_images_in_any_layout_make_the_same_dataset(tmp_path: Path) -> None:
    images = pictures(20).reshape(2, 10, 16, 16)
    for name, stack in zip(("no", "cdm"), images, strict=True):
        for i, image in enumerate(stack):
            save(tmp_path / "a/singles" / name / f"{i}.npy", image)
        save(tmp_path / "b/stacks" / f"{name}.npy", stack)
        save(tmp_path / "c/bands" / name / "all.npy", stack[:, None].astype(np.float32))
        objects = np.empty(10, object)
        objects[:] = list(stack)
        save(tmp_path / "d/objects" / name / "all.npy", objects)
    (tmp_path / "e").mkdir()
    labels = np.repeat(["no", "cdm"], 10)
    np.savez(tmp_path / "e/archive.npz", images=images.reshape(20, 16, 16), label=labels)
    roots = ("a/singles", "b/stacks", "c/bands", "d/objects", "e/archive.npz")
    hashes = {run(tmp_path / root).dataset_sha256 for root in roots}
    assert len(hashes) == 1


def test_names_and_order_of_files_do_not_matter(tmp_path: Path) -> None:
    deeplense_folder(tmp_path / "a/model")
    (tmp_path / "b/other").mkdir(parents=True)
    for old in sorted((tmp_path / "a/model").rglob("*.npy"), reverse=True):
        folder = tmp_path / "b/other" / old.parent.name
        folder.mkdir(exist_ok=True)
        shutil.copy(old, folder / f"{hash(old.name) & 0xFFFFFF}.npy")
    assert run(tmp_path / "a/model").dataset_sha256 == run(tmp_path / "b/other").dataset_sha256


def test_an_interrupted_import_goes_on_to_the_same_bytes(folder: Path) -> None:
    whole = run(folder)
    path = Path(whole.path)
    expected = tree(path)
    attributes = json.loads((path / "zarr.json").read_text())
    del attributes["attributes"]["dataset_sha256"]
    (path / "zarr.json").write_text(json.dumps(attributes))
    (path / "shard_digest" / "c" / "2" / "0").unlink()
    chunk = path / "images" / "c" / "2" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:100])
    again = run(folder)
    assert again.resumed
    assert again.dataset_sha256 == whole.dataset_sha256
    found = tree(path)
    assert {k: v for k, v in found.items() if k != "zarr.json"} == {
        k: v for k, v in expected.items() if k != "zarr.json"
    }
    assert not run(folder).resumed


def test_other_images_do_not_complete_a_dataset(folder: Path) -> None:
    run(folder)
    save(folder / "cdm" / "one_more.npy", pictures(1, seed=9)[0])
    with pytest.raises(DatasetMismatchError, match="content_sha256"):
        run(folder)


def test_a_file_that_changes_meanwhile_is_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipeline.exchange.import_images as module

    real = module.choose

    def change(*arguments: object) -> object:
        save(folder / "cdm" / "cdm_sim_3.npy", pictures(1, seed=9)[0])
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "choose", change)
    with pytest.raises(DatasetError, match="changed while it was imported"):
        run(folder)


@given(n=st.integers(1, 200), seed=st.integers(0, 3))
@settings(max_examples=6, deadline=None)
def test_splits_depend_on_pixels_alone_and_have_the_asked_sizes(
    tmp_path_factory: pytest.TempPathFactory, n: int, seed: int
) -> None:
    root = tmp_path_factory.mktemp("stack") / "no.npy"
    images = pictures(200)
    config = import_config(pixel_scale=1.0, seed=seed, fractions=(0.6, 0.2, 0.2))
    save(root, images)
    data, files = made(run(root, config))
    split = np.empty(200, np.int64)
    for row in files:
        split[int(row["row"])] = data.split[int(row["index"])]
    assert abs(np.mean(split == 0) - 0.6) < 4 * np.sqrt(0.24 / 200)
    shutil.rmtree(data.path)
    save(root, images[:n])
    part, files = made(run(root, config))
    for row in files:
        assert part.split[int(row["index"])] == split[int(row["row"])]


def test_no_duplicate_lies_in_two_splits(tmp_path: Path) -> None:
    root = tmp_path / "model"
    images = pictures(60)
    save(root / "no" / "a.npy", images)
    save(root / "no" / "b.npy", np.roll(images, 7, axis=0))
    save(root / "no" / "c.npy", images[:30].astype(np.float32))
    summary = run(root)
    data = open_dataset(summary.path)
    assert (summary.images, summary.duplicates, summary.moved) == (150, 90, 0)
    stored = [image.tobytes() for image in data.read_images(slice(None))]
    where = {}
    for image, split in zip(stored, data.split.tolist(), strict=True):
        assert where.setdefault(image, split) == split


def test_given_splits_are_kept_and_duplicates_across_them_leave_the_test(tmp_path: Path) -> None:
    root = tmp_path / "model"
    images = pictures(30)
    for name, part in (("train", images[:10]), ("valid", images[8:20]), ("test", images[18:])):
        save(root / name / "sphere" / "x.npy", part)
    summary = run(root)
    assert summary.splits == {"train": 12, "val": 12, "test": 10}
    assert (summary.duplicates, summary.moved) == (4, 4)
    anew = import_images(root, tmp_path / "new.zarr", CONFIG.with_changes(splits_from="content"))
    assert anew.splits != summary.splits and anew.moved == 0


def test_a_class_without_images_in_a_split_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("train", "val"):
        save(tmp_path / "model" / name / "no" / "x.npy", pictures(5, seed=len(name)))
    run(tmp_path / "model")
    assert "class no has no images to test with" in caplog.text


def test_every_reject_is_listed_with_its_reason(tmp_path: Path) -> None:
    root = tmp_path / "model"
    images = pictures(8)
    save(root / "no" / "good.npy", images[:6])
    bad = images[6:].copy()
    bad[0, 3, 3] = np.nan
    bad[1] = 4.0
    save(root / "no" / "bad.npy", bad)
    save(root / "no" / "huge.npy", np.full((16, 16), 1e300) * images[0])
    save(root / "no" / "small.npy", pictures(1, 8)[0])
    save(root / "no" / "colour.npy", np.zeros((2, 3, 16, 16)))
    save(root / "no" / "complex.npy", images[0] + 1j)
    save(root / "loose.npy", images[7])
    (root / "no" / "cut.npy").write_bytes((root / "no" / "good.npy").read_bytes()[:999])
    (root / "no" / "text.npy").write_text("hello")
    (root / "no" / "notes.txt").write_text("not an image")
    save(root / "no" / "twice.npy", images[1])
    save(root / "cdm" / "twice.npy", images[1])
    summary = run(root)
    found = rejects(summary)
    assert {name: reason for name, (reason, _) in found.items()} == {
        "no/bad.npy[0]": "not_finite",
        "no/bad.npy[1]": "blank",
        "no/huge.npy": "not_finite",
        "no/small.npy[0]": "wrong_shape",
        "no/colour.npy": "wrong_shape",
        "no/complex.npy": "wrong_type",
        "loose.npy": "no_label",
        "no/cut.npy": "unreadable",
        "no/text.npy": "unreadable",
        "no/twice.npy[0]": "contradictory",
        "cdm/twice.npy[0]": "contradictory",
        "no/good.npy[1]": "contradictory",
    }
    assert "no and subhalo" in found["no/twice.npy[0]"][1]
    assert summary.rejected == len(found) == sum(summary.reasons.values())
    assert summary.images == 5


def test_a_hostile_file_is_a_row_of_the_rejects_and_nothing_of_it_runs(
    folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "created"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {target}",)

    save(folder / "axion" / "evil.npy", pair(pictures(1)[0], Evil()))  # type: ignore[arg-type]
    (folder / "axion" / "bare.npy").write_bytes(pickle.dumps(Evil()))
    summary = run(folder)
    assert summary.images == 36
    reason, detail = rejects(summary)["axion/evil.npy"]
    assert reason == "unsafe_pickle"
    assert "posix.system" in detail
    assert rejects(summary)["axion/bare.npy"][0] == "unreadable"
    assert not target.exists()


def test_nothing_but_rejects_is_an_error_that_names_the_table(tmp_path: Path) -> None:
    (tmp_path / "model" / "no").mkdir(parents=True)
    (tmp_path / "model" / "no" / "x.npy").write_text("hello")
    with pytest.raises(DatasetError, match=r"out\.rejects\.csv; first no/x\.npy: not an \.npy"):
        run(tmp_path / "model")
    assert (tmp_path / "out.rejects.csv").exists()
    assert not (tmp_path / "out.zarr").exists()


def sky(image: np.ndarray, scale: float | None = 0.1, **cards: object) -> fits.PrimaryHDU:
    hdu = fits.PrimaryHDU(image.astype(np.float32))
    if scale is not None:
        hdu.header["CTYPE1"], hdu.header["CTYPE2"] = "RA---TAN", "DEC--TAN"
        hdu.header["CD1_1"], hdu.header["CD2_2"] = -scale / 3600, scale / 3600
    hdu.header.update(cards)
    return hdu


def test_fits_files_with_a_table_of_labels(tmp_path: Path) -> None:
    root = tmp_path / "cutouts"
    root.mkdir()
    images = pictures(10)
    for i, image in enumerate(images):
        sky(image, 0.1 if i != 4 else 0.3, FILTER="F814W", BUNIT="electron/s").writeto(
            root / f"{i}.fits"
        )
    table = Table(
        {
            "path": [f"{i}.fits" for i in range(9)] + ["gone.fits"],
            "label": ["cdm", "no"] * 5,
            "split": ["train", "test"] * 5,
            "theta_E": [1.0 + i / 10 for i in range(10)],
            "comment": ["x"] * 10,
        },
        units={"theta_E": "arcsec"},
    )
    table["theta_E"].description = "Einstein radius"
    table.write(tmp_path / "labels.ecsv", format="ascii.ecsv")
    summary = run(root, ImportConfig(), tmp_path / "labels.ecsv")
    data, files = made(summary)
    assert (data.pixel_scale, data.bands, data.unit) == (
        pytest.approx(0.1),
        ("F814W",),
        "electron/s",
    )
    assert data.truth_info()["theta_E"].description == "Einstein radius"
    assert data.truth_info()["theta_E"].unit == "arcsec"
    assert list(data.truth_info()) == ["theta_E"]
    for row in files:
        i, k = int(row["index"]), int(row["path"][0])
        np.testing.assert_array_equal(
            data.read_images(slice(i, i + 1))[0, 0], images[k].astype("f4")
        )
        assert row["label"] == data.class_names[data.labels[i]] == ("no" if k % 2 else "subhalo")
        assert SPLITS[data.split[i]] == ("test" if k % 2 else "train")
        assert data.truth("theta_E")[i] == 1.0 + k / 10
    assert {name: reason for name, (reason, _) in rejects(summary).items()} == {
        "9.fits": "no_label",
        "gone.fits": "unreadable",
        "4.fits[0]": "pixel_scale_mismatch",
    }


def test_a_table_without_paths_labels_a_stack_row_by_row(tmp_path: Path) -> None:
    stack = save(tmp_path / "stack.npy", pictures(6))
    (tmp_path / "labels.csv").write_text(
        "label,q\n" + "".join(f"{k % 2},0.{k}\n" for k in range(6))
    )
    config = import_config(pixel_scale=0.1, aliases=("0=no", "1=cdm"))
    data, files = made(run(stack, config, tmp_path / "labels.csv"))
    assert data.class_names == ("no", "cdm")
    for row in files:
        assert data.truth("q")[int(row["index"])] == int(row["row"]) / 10
    (tmp_path / "short.csv").write_text("label\nno\n")
    with pytest.raises(DatasetError, match="1 rows of labels for 6 images"):
        run(stack, config, tmp_path / "short.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,q\na.npy,1\n", "no column of labels"),
        ("path,label,split\na.npy,no,later\n", "'later' is none of train, val, test"),
        ("path,label\na.npy,no\na.npy,no\n", "'a.npy' stands there twice"),
        ("label\nno\n", "no column of paths"),
        ("path,label\na,no,more,still\n", "cannot be read"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    text: str, said: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ConfigError, match=said):
        run(folder, CONFIG, tmp_path / "labels.csv")


@pytest.mark.parametrize("label", ["../../up", "a/b", ".hidden", "x" * 65, "a\\b"])
def test_a_label_that_could_lead_out_of_a_folder_is_no_class(label: str, tmp_path: Path) -> None:
    save(tmp_path / "model" / "a.npy", pictures(1)[0])
    save(tmp_path / "model" / "b.npy", pictures(1, seed=1)[0])
    (tmp_path / "l.csv").write_text(f"path,label\na.npy,{label}\nb.npy,no\n")
    summary = run(tmp_path / "model", CONFIG, tmp_path / "l.csv")
    assert rejects(summary)["a.npy"][0] == "bad_label"
    assert list(summary.classes) == ["no"]


def test_several_bands(tmp_path: Path) -> None:
    images = pictures(24).reshape(12, 2, 16, 16)
    save(tmp_path / "model" / "no" / "stack.npy", images)
    save(tmp_path / "model" / "cdm" / "one.npy", pictures(2, seed=4))
    config = ImportConfig(pixel_scale=0.1, bands=("g", "r"))
    data = open_dataset(run(tmp_path / "model", config).path)
    assert data.image_shape == (2, 16, 16)
    assert data.bands == ("g", "r")
    assert np.bincount(data.labels).tolist() == [12, 1]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: None, "no such file or folder"),
        (lambda p: p.mkdir(), "no images among 0 files"),
        (lambda p: p.write_text("x"), "neither .npy, .npz nor FITS"),
    ],
)
def test_nothing_to_import_is_said(make: object, said: str, tmp_path: Path) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    with pytest.raises(ConfigError, match=said):
        run(tmp_path / "x")


def test_a_missing_pixel_scale_is_asked_for_before_anything_is_read(folder: Path) -> None:
    with pytest.raises(ConfigError, match="--pixel-scale"):
        run(folder, ImportConfig())


def test_a_network_can_be_trained_on_it(folder: Path) -> None:
    from pipeline.dataset.preprocess import PreprocessConfig, fit_preprocess

    preprocess = fit_preprocess(open_dataset(run(folder).path), PreprocessConfig())
    assert (preprocess.bands, preprocess.pixel_scale, preprocess.size) == (("unknown",), 0.05, 16)


def deeplense(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", "import", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_the_command(folder: Path, tmp_path: Path) -> None:
    (folder / "cdm" / "text.npy").write_text("hello")
    call = (folder, "--out", tmp_path / "d.zarr", "--pixel-scale", 0.05, "--alias", "cdm=wdm")
    done = deeplense(*call, "--json", "--strict")
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    assert found["classes"] == {"no": 12, "vortex": 12, "wdm": 12}
    assert found["reasons"] == {"unreadable": 1}
    assert found["dataset_sha256"] == open_dataset(tmp_path / "d.zarr").sha256
    again = deeplense(*call)
    assert again.returncode == 0
    assert "1 rejected (1 unreadable)" in again.stdout
    wrong = deeplense(folder, "--out", tmp_path / "e.zarr", "--alias", "cdm")
    assert wrong.returncode == 2
    assert "FOLDER=CLASS" in wrong.stderr
