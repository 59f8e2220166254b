"""What leaves in other formats is the same data, and the scorer sees the same images."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.checkpoint.load import load_run
from pipeline.core.errors import ConfigError, DatasetError
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.single import simulate
from pipeline.dataset.splits import SPLITS
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.exchange.choose import ImportConfig
from pipeline.exchange.divide import split_dataset
from pipeline.exchange.export import export_dataset
from pipeline.exchange.fits_cards import card, image_hdu, primary_hdu
from pipeline.exchange.fits_file import AB_JANSKY
from pipeline.exchange.import_images import import_images
from pipeline.exchange.npy import read_npy
from pipeline.inference.images import RawImage, read_image
from pipeline.inference.prepare import Prepared, Target, prepare_image
from pipeline.inference.score import iter_prepared, score_table
from pipeline.physics.detector import background_rms, variance

from ..checkpoint.untrained_run import CLASSES, SIZE, write_run
from .conftest import deeplense_folder


@pytest.fixture(scope="module")
def lenses(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Lenses of the size that the untrained network takes."""
    config = load_dataset_config("demo", ["n_images=24", "shard_size=9", f"n_pix={SIZE}"])
    path = tmp_path_factory.mktemp("lenses") / "demo.zarr"
    simulate_dataset(config, path, workers=1)
    return open_dataset(path)


@pytest.fixture(scope="module")
def files(lenses: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those lenses as FITS files."""
    out = tmp_path_factory.mktemp("fits") / "cutouts"
    export_dataset(Path(lenses.path), out, "fits")
    return out


def place(data: Dataset, out: Path, index: int, suffix: str) -> Path:
    label, split = data.class_names[data.labels[index]], SPLITS[data.split[index]]
    width = len(str(data.n_images - 1))
    return out / split / label / f"{index:0{width}d}.{suffix}"


def tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("normalise", ["noise", "fixed"])
def test_the_scorer_sees_the_pixels_of_the_dataset_bit_for_bit(
    lenses: Dataset, files: Path, normalise: str
) -> None:
    target = Target(lenses.bands, lenses.pixel_scale, SIZE, normalise == "noise")
    images = lenses.read_images(slice(None))
    for i, image in enumerate(images):
        raw, _ = read_image(place(lenses, files, i, "fits"))
        assert isinstance(raw, RawImage)
        assert (raw.hdu, raw.unit, raw.band, raw.flags) == ("SCI", "electron/s", "F814W", ())
        prepared = prepare_image(raw, target)
        assert isinstance(prepared, Prepared)
        assert set(prepared.flags) <= {"low_snr"}  # arcs reach the border of so small an image
        np.testing.assert_array_equal(prepared.image, image)


def test_scoring_the_files_gives_the_scores_of_the_dataset(
    lenses: Dataset, files: Path, tmp_path: Path
) -> None:
    write_run(tmp_path / "run")
    run = load_run(tmp_path / "run", device="cpu")
    read = [(Path(name), image) for name, _, image in iter_prepared(run, [files])]
    seen = run.predict(np.stack([p.image for _, p in read if isinstance(p, Prepared)]))
    order = [int(name.stem) for name, _ in read]
    direct = run.predict(lenses.read_images(slice(None))[order])
    assert seen.class_probability is not None and direct.class_probability is not None
    np.testing.assert_array_equal(seen.class_probability, direct.class_probability)
    np.testing.assert_array_equal(seen.novelty, direct.novelty)
    table = score_table(run, [files], workers=0)
    assert (table["status"] == "scored").all()
    assert [int(Path(name).stem) for name in table["path"]] == order
    for k, name in enumerate(CLASSES):  # the table keeps six digits
        np.testing.assert_allclose(table[f"p_{name}"], direct.class_probability[:, k], atol=1e-6)


def test_files_are_standard_and_say_what_they_show(lenses: Dataset, files: Path) -> None:
    config = lenses.simulation
    assert config is not None
    (instrument,) = config.instruments
    for i in (0, 1, 2):
        with fits.open(place(lenses, files, i, "fits"), checksum=True) as hdus:
            hdus.verify("exception")
            assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "ERR", "DQ", "PSF"]
            science, about = hdus["SCI"], hdus[0].header
            np.testing.assert_array_equal(science.data, lenses.read_images(slice(i, i + 1))[0, 0])
            assert about["CLASS"] == lenses.class_names[lenses.labels[i]]
            assert (about["DSETSHA"], about["DSETIDX"]) == (lenses.sha256, i)
            for name in lenses.truth_info():
                value = lenses.truth(name)[i]
                if np.isfinite(value):
                    assert about[f"TRUTH {name}"] == value
                else:
                    assert f"TRUTH {name}" not in about
            wcs = WCS(science.header)
            corner, next_to_it = wcs.pixel_to_world([0, 1], [0, 0])
            assert corner.separation(next_to_it).arcsec == pytest.approx(lenses.pixel_scale)
            assert corner.separation(next_to_it) > 0 and next_to_it.ra != corner.ra
            middle = wcs.pixel_to_world((SIZE - 1) / 2, (SIZE - 1) / 2)
            assert middle.ra.deg == pytest.approx(about["RA_TARG"])
            assert middle.dec.deg == pytest.approx(about["DEC_TARG"])
            header = science.header
            assert header["EXPTIME"] == instrument.total_time
            assert header["MAGZERO"] == instrument.zero_point
            jansky = header["PHOTFNU"] * 10 ** (0.4 * header["MAGZERO"])
            assert jansky == pytest.approx(AB_JANSKY)
            assert header["PIXAR_SR"] == pytest.approx((0.05 / 206264.80624709636) ** 2)
            assert hdus["PSF"].data.sum() == pytest.approx(1.0)
            assert np.unravel_index(hdus["PSF"].data.argmax(), hdus["PSF"].data.shape) == (
                tuple(n // 2 for n in hdus["PSF"].data.shape)
            )
            assert not hdus["DQ"].data.any()


def test_errors_are_those_of_the_noise_model(lenses: Dataset, files: Path) -> None:
    config = lenses.simulation
    assert config is not None
    sky = background_rms(config.instruments[0], config.instruments[0].total_time)
    image = lenses.read_images(slice(0, 1))[0]
    error = fits.getdata(place(lenses, files, 0, "fits"), "ERR")
    expected = np.sqrt(variance(image.astype(float), config.instruments))[0]
    np.testing.assert_allclose(error, expected, rtol=1e-6)
    assert error.min() == pytest.approx(sky, rel=1e-6)
    # 1600 pixels: 4 standard errors of a standard deviation are 7 %
    noise = (image - simulate(config, 0).noiseless)[0] / error
    assert noise.std() == pytest.approx(1.0, abs=0.07)


def test_files_come_back_through_import_with_pixels_classes_splits_and_truth(
    lenses: Dataset, files: Path, tmp_path: Path
) -> None:
    done = import_images(files, tmp_path / "back.zarr", ImportConfig(), files / "labels.ecsv")
    assert (done.rejected, done.pixel_scale) == (0, pytest.approx(lenses.pixel_scale))
    back = open_dataset(done.path)
    assert back.class_names == lenses.class_names
    assert back.unit == lenses.unit
    for index, path in enumerate(Table.read(done.files, format="ascii.csv")["path"]):
        i = int(Path(path).stem)
        np.testing.assert_array_equal(
            back.read_images(slice(index, index + 1)), lenses.read_images(slice(i, i + 1))
        )
        assert back.labels[index] == lenses.labels[i]
        assert back.split[index] == lenses.split[i]
        for name in lenses.truth_info():
            np.testing.assert_equal(back.truth(name)[index], lenses.truth(name)[i])


def test_npy_folders_come_back_through_import(lenses: Dataset, tmp_path: Path) -> None:
    summary = export_dataset(Path(lenses.path), tmp_path / "npy", "npy", pairs="axion_mass")
    assert summary.classes == {"no": 8, "subhalo": 8, "vortex": 8}
    pairs = [p for p in (tmp_path / "npy").rglob("*/vortex/*.npy")]
    assert all(read_npy(p).dtype == object for p in pairs)
    config = ImportConfig(pixel_scale=0.05, splits_from="given")
    back = open_dataset(import_images(tmp_path / "npy", tmp_path / "b.zarr", config).path)
    for name, values in (("label", "labels"), ("split", "split")):
        del name
        assert sorted(getattr(back, values)) == sorted(getattr(lenses, values))
    there = {image.tobytes(): k for k, image in enumerate(lenses.read_images(slice(None)))}
    for index, image in enumerate(back.read_images(slice(None))):
        i = there.pop(image.tobytes())
        assert back.labels[index] == lenses.labels[i]
        assert back.split[index] == lenses.split[i]
        np.testing.assert_equal(back.truth("axion_mass")[index], lenses.truth("axion_mass")[i])
    assert not there


def test_hdf5_holds_the_same_arrays(lenses: Dataset, tmp_path: Path) -> None:
    export_dataset(Path(lenses.path), tmp_path / "all.h5", "hdf5")
    with h5py.File(tmp_path / "all.h5") as file:
        np.testing.assert_array_equal(file["images"][:], lenses.read_images(slice(None)))
        np.testing.assert_array_equal(file["label"][:], lenses.labels)
        np.testing.assert_array_equal(file["split"][:], lenses.split)
        assert list(file["label"].attrs["class_names"]) == list(lenses.class_names)
        assert file.attrs["dataset_sha256"] == lenses.sha256
        assert file.attrs["pixel_scale"] == lenses.pixel_scale
        assert file["images"].chunks == (16, 1, SIZE, SIZE)
        for name, about in lenses.truth_info().items():
            np.testing.assert_array_equal(file[f"truth/{name}"][:], lenses.truth(name))
            assert file[f"truth/{name}"].attrs["unit"] == about.unit


def test_splits_and_classes_can_be_chosen(lenses: Dataset, tmp_path: Path) -> None:
    path = Path(lenses.path)
    export_dataset(path, tmp_path / "t.h5", "hdf5", splits=["test", "val"], classes=["vortex"])
    wanted = np.flatnonzero((lenses.split > 0) & (lenses.labels == 2))
    with h5py.File(tmp_path / "t.h5") as file:
        np.testing.assert_array_equal(file["index"][:], wanted)
        np.testing.assert_array_equal(file["images"][:], lenses.read_images(wanted))


@pytest.mark.parametrize("kind", ["npy", "fits"])
def test_an_interrupted_export_goes_on_to_the_same_files(
    lenses: Dataset, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "out"
    export_dataset(Path(lenses.path), out, kind)  # type: ignore[arg-type]
    whole = tree(out)
    for i in (3, 11, 12):
        place(lenses, out, i, kind).unlink()
    (out / "labels.ecsv").unlink()
    again = export_dataset(Path(lenses.path), out, kind)  # type: ignore[arg-type]
    assert again.written == 3
    assert tree(out) == whole


def test_what_is_no_export_of_this_dataset_is_left_alone(
    lenses: Dataset, files: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(DatasetError, match="no export"):
        export_dataset(Path(lenses.path), tmp_path / "mine", "npy")
    with pytest.raises(DatasetError, match="another export"):
        export_dataset(Path(lenses.path), files, "npy")
    with pytest.raises(ConfigError, match="no images of 'vortx'"):
        export_dataset(Path(lenses.path), tmp_path / "x", "npy", classes=["vortx"])
    with pytest.raises(ConfigError, match=r"--pairs axion_mas: .*did you mean 'axion_mass'"):
        export_dataset(Path(lenses.path), tmp_path / "x", "npy", pairs="axion_mas")
    with pytest.raises(ConfigError, match=r"\.h5"):
        export_dataset(Path(lenses.path), tmp_path / "x.zip", "hdf5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine"]


def test_class_names_never_lead_out_of_the_folder(lenses: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "evil.zarr"
    shutil.copytree(lenses.path, path)
    meta = json.loads((path / "zarr.json").read_text())
    meta["attributes"]["class_names"][0] = "../../../up"
    (path / "zarr.json").write_text(json.dumps(meta))
    with pytest.raises(DatasetError, match="cannot be a folder's name"):
        export_dataset(path, tmp_path / "a" / "b" / "c", "npy")
    with pytest.raises(DatasetError, match="cannot be a folder's name"):
        split_dataset(path, tmp_path / "a" / "b" / "c", by="class")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.zarr"]


def test_a_run_folder_is_no_dataset(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="a run folder"):
        export_dataset(tmp_path / "run", tmp_path / "out", "npy")


def test_images_of_unknown_telescopes_have_no_error_map(tmp_path: Path) -> None:
    deeplense_folder(tmp_path / "model", 2)
    done = import_images(tmp_path / "model", tmp_path / "d.zarr", ImportConfig(pixel_scale=0.1))
    export_dataset(Path(done.path), tmp_path / "out", "fits")
    path = next((tmp_path / "out").rglob("*.fits"))
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "DQ"]
        assert "BUNIT" not in hdus["SCI"].header


def test_several_bands_become_one_cube(tmp_path: Path) -> None:
    overrides = ["n_images=3", "n_pix=24", "instruments=[hst_acs_f814w, hst_acs_f814w_deep]"]
    config = load_dataset_config("demo", overrides)
    simulate_dataset(config, tmp_path / "d.zarr", workers=1)
    data = open_dataset(tmp_path / "d.zarr")
    export_dataset(tmp_path / "d.zarr", tmp_path / "out", "fits")
    for i in range(3):
        path = place(data, tmp_path / "out", i, "fits")
        raw, _ = read_image(path)
        assert isinstance(raw, RawImage)
        np.testing.assert_array_equal(raw.data, data.read_images(slice(i, i + 1))[0])
        with fits.open(path) as hdus:
            hdus.verify("exception")
            assert hdus["PSF"].data.shape[0] == hdus["ERR"].data.shape[0] == 2
            names = [hdus["SCI"].header[f"INSTRUM{n}"] for n in (1, 2)]
            assert names == list(data.bands)


@given(
    keyword=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=8)
    | st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=25).map(
        lambda t: f"TRUTH {t}"
    ),
    value=st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
    comment=st.text(max_size=60),
)
@settings(deadline=None, max_examples=300)
def test_every_card_reads_back_exactly(keyword: str, value: object, comment: str) -> None:
    text = card(keyword, value, comment)  # type: ignore[arg-type]
    assert len(text) == 80
    found = fits.Card.fromstring(text)
    found.verify("exception")
    expected = value.rstrip() if isinstance(value, str) else value
    assert found.value == expected
    assert type(found.value) is type(value)


@given(
    shape=st.lists(st.integers(1, 7), min_size=2, max_size=3), dtype=st.sampled_from(["f4", "i2"])
)
@settings(deadline=None, max_examples=30)
def test_images_read_back_with_their_checksum(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], dtype: str
) -> None:
    pixels = (np.random.default_rng(0).normal(size=shape) * 1000).astype(dtype)
    path = tmp_path_factory.mktemp("card") / "x.fits"
    path.write_bytes(primary_hdu([]) + image_hdu("SCI", pixels, []))
    with fits.open(path, checksum=True) as hdus:
        hdus.verify("exception")
        np.testing.assert_array_equal(hdus["SCI"].data, pixels)


@pytest.mark.slow
def test_the_commands_score_the_files_like_the_dataset(lenses: Dataset, tmp_path: Path) -> None:
    write_run(tmp_path / "run")

    def deeplense(*arguments: object) -> None:
        command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
        subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)

    deeplense("export", lenses.path, "--format", "fits", "--out", tmp_path / "f")
    tables = []
    for name, subject in (("a", tmp_path / "f"), ("b", lenses.path)):
        deeplense("score", tmp_path / "run", subject, "--out", tmp_path / f"{name}.ecsv")
        table = Table.read(tmp_path / f"{name}.ecsv", format="ascii.ecsv")
        assert (table["status"] == "scored").all()
        index = [int(re.findall(r"\d+", path.removesuffix(".fits"))[-1]) for path in table["path"]]
        assert sorted(index) == list(range(24))
        tables.append(table[np.argsort(index)])
    for column in (*(f"p_{name}" for name in CLASSES), "novelty"):
        np.testing.assert_array_equal(tables[0][column], tables[1][column])


@pytest.mark.slow
def test_the_command(lenses: Dataset, tmp_path: Path) -> None:
    def deeplense(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline", "export", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    call = (lenses.path, "--format", "fits", "--out", tmp_path / "f", "--split", "test", "--json")
    done = deeplense(*call)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["images"] == found["written"] == len(lenses.indices("test"))
    assert found["dataset_sha256"] == lenses.sha256
    assert json.loads(deeplense(*call).stdout)["written"] == 0
    wrong = deeplense(lenses.path, "--format", "png", "--out", tmp_path / "p")
    assert wrong.returncode == 2
    none = deeplense(tmp_path / "none.zarr", "--format", "npy", "--out", tmp_path / "n")
    assert none.returncode == 1
    assert "no dataset lies there" in none.stderr
