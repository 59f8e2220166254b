"""``deeplense fit`` from the command line: tables, pages, stored fits, going on after a stop."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits as fits_file
from astropy.table import Table

from pipeline.core.errors import DatasetIntegrityError, DatasetMismatchError
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.store import open_dataset
from pipeline.fit.store import FOLDER, FORMAT_VERSION, open_fits

N = 8
SMALL = [
    f"n_images={N}",
    "shard_size=4",
    "n_pix=40",
    "instruments=[euclid_vis]",
    "scenes.macro.slope=2.0",
    "scenes.source.magnitude=20.0",
]
SIE = ("--config", "sie")

Command = Callable[..., subprocess.CompletedProcess[str]]


def deeplense(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fit") / "data.zarr"
    simulate_dataset(load_dataset_config("contrast_hst", SMALL), path, workers=1)
    return path


@pytest.fixture(scope="module")
def stored(data: Path) -> dict[str, Any]:
    """Summary of a run that stored its fits and wrote a table and a page."""
    out, page = data.with_name("fits.ecsv"), data.with_name("fits.html")
    done = deeplense("fit", data, *SIE, "--out", out, "--page", page, "--store", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_summary_has_the_promised_fields(stored: dict[str, Any], data: Path) -> None:
    promised = "images good poor failed seconds images_per_second chi2_median out"
    assert set(promised.split()) <= set(stored)
    assert stored["images"] == N == stored["good"] + stored["poor"] + stored["failed"]
    assert stored["out"] == str(data.with_name("fits.ecsv"))


def test_table_has_a_row_an_image_and_errors_beside_values(
    stored: dict[str, Any], data: Path
) -> None:
    table = Table.read(stored["out"], format="ascii.ecsv")
    assert list(table["image"].astype(str)) == [str(k) for k in range(N)]
    assert table["theta_E"].unit == "arcsec"
    truth = open_dataset(data).truth("theta_E")
    smooth = open_dataset(data).labels == 0
    pull = (table["theta_E"] - truth) / table["theta_E_error"]
    assert np.abs(np.asarray(pull)[smooth]).max() < 5.0
    assert table["perturber_x"].unit == "arcsec"
    significance = np.asarray(table["perturber_sigma"])
    assert np.median(significance[~smooth]) > np.median(significance[smooth]) > 1.0
    assert table.meta["dataset_sha256"] == open_dataset(data).sha256


def test_page_shows_every_image_and_needs_nothing_else(stored: dict[str, Any]) -> None:
    html = Path(stored["page"]).read_text(encoding="utf-8")
    assert html.count("data:image/png") >= 4 * N  # image, model, residual, response
    assert "<script src" not in html and "http" not in html.split("<body")[1]


def test_stored_fits_are_those_of_the_table(stored: dict[str, Any], data: Path) -> None:
    store, config = open_fits(data / FOLDER)
    fits = store.all_fits()
    table = Table.read(stored["out"], format="ascii.ecsv")
    np.testing.assert_allclose(fits.of("theta_E"), table["theta_E"], rtol=1e-12)
    assert fits.residual.shape == (N, 1, 40, 40) and np.isfinite(fits.residual).all()
    assert config.model.macro.profile == "sie"
    assert config.priors["theta_E"].sigma == pytest.approx(0.115, rel=0.1)  # the preset's


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(
    stored: dict[str, Any], data: Path
) -> None:
    folder = data / FOLDER
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    (folder / "shard-000001.json").unlink()
    (folder / "residual-000001.npy").write_bytes(b"torn")
    done = deeplense("fit", data, *SIE, "--store", "--json")
    assert json.loads(done.stdout)["resumed"] == 4
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_other_fits_in_the_folder_are_refused(stored: dict[str, Any], data: Path) -> None:
    done = deeplense("fit", data, *SIE, "--store", "--set", "poor_chi2=1.5")
    assert done.returncode == 1
    assert "different fit" in done.stderr and "Traceback" not in done.stderr


def test_damaged_fits_are_noticed(stored: dict[str, Any], data: Path) -> None:
    store, _ = open_fits(data / FOLDER)
    path = data / FOLDER / "model-000000.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"?")
    try:
        with pytest.raises(DatasetIntegrityError, match="does not match its digest"):
            store.read(0)
    finally:
        path.write_bytes(content)


def test_fits_of_another_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "fit.json").write_text('{"format": "deeplense-fits", "format_version": 99}')
    with pytest.raises(DatasetMismatchError, match=f"format version {FORMAT_VERSION}"):
        open_fits(tmp_path)


def test_files_are_fitted_and_bad_ones_have_a_reason(
    stored: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    images = open_dataset(data).read_images(slice(0, 3))
    for k, image in enumerate(images):
        header = fits_file.Header({"BUNIT": "electron/s", "PIXSCALE": 0.1})
        fits_file.PrimaryHDU(image[0], header).writeto(tmp_path / f"{k}.fits")
    (tmp_path / "torn.fits").write_bytes(b"SIMPLE  =")
    out = tmp_path / "out.ecsv"
    done = deeplense(
        *("fit", tmp_path, "--instrument", "euclid_vis", "--size", 40, *SIE),
        *("--set", "priors.theta_E={mean: 1.0, sigma: 0.12}", "--out", out, "--json"),
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["images"], summary["failed"]) == (4, 1)
    table = Table.read(out, format="ascii.ecsv")
    assert str(table["reason"][3]).startswith("unreadable")
    of_dataset = Table.read(stored["out"], format="ascii.ecsv")[:3]
    difference = np.abs(table["theta_E"][:3] - of_dataset["theta_E"])
    assert np.all(difference < 4 * of_dataset["theta_E_error"])
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("a.fits", "--out", "x.ecsv"), "--instrument"),
        (("a.fits", "--out", "x.txt", "--instrument", "euclid_vis"), "suffix '.txt'"),
        (("a.zarr", "b.zarr", "--out", "x.ecsv"), "one dataset"),
        (("a.fits", "--store", "--instrument", "euclid_vis"), "--store"),
        (("a.zarr",), "--out"),
        (("a.zarr", "--out", "x.ecsv", "--config", "eppl"), "did you mean 'epl'"),
    ],
)
def test_bad_usage_is_one_paragraph(args: tuple[str, ...], message: str, tmp_path: Path) -> None:
    out = [str(tmp_path / a) if a.startswith("x.") else a for a in args]
    done = deeplense("fit", *out)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
