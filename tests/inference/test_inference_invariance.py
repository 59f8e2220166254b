"""One scene on the sky, written in many ways, is one score."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from pipeline.checkpoint.load import load_run
from pipeline.inference.ensemble import Ensemble
from pipeline.inference.images import ReadOptions
from pipeline.inference.score import score_table

SCALES = (0.025, 0.05, 0.0625)
P = ("p_no", "p_subhalo", "p_vortex")
#: Largest difference of a probability between two ways to write a scene. Resampled noise is
#: another noise (its pixels are correlated), so scales agree less closely than turns and units.
SAME_PIXELS, OTHER_SCALE = 1e-5, 0.03
N, SCALE = 64, 0.05


def scene(scale: float) -> np.ndarray:
    """Smooth scene (flux per pixel) with noise of large signal-to-noise, drawn once in the sky."""
    n = round(N * SCALE / scale) + 10
    fine = _fine_sky()
    step = round(scale / 0.0125)
    start = (len(fine) - n * step) // 2
    inner = fine[start : start + n * step, start : start + n * step]
    return inner.reshape(n, step, n, step).sum(axis=(1, 3))


def _fine_sky(n: int = 384, scale: float = 0.0125) -> np.ndarray:
    y, x = (np.mgrid[:n, :n] - (n - 1) / 2) * scale
    radius = np.hypot(x - 0.05, 1.1 * y + 0.03)
    arc = np.exp(-(((radius - 0.95) / 0.12) ** 2)) * (1.3 + np.sin(np.arctan2(y, x) + 0.4))
    clump = 1.5 * np.exp(-((x - 0.6) ** 2 + (y - 0.7) ** 2) / 0.1**2)
    noise = np.random.default_rng(5).normal(0, 0.05, (n // 4, n // 4))
    return (arc + clump + np.kron(noise, np.ones((4, 4)))) / 16


def header(scale: float, quarter: int, mirrored: bool) -> fits.Header:
    """WCS of the scene after ``quarter`` turns of the pixels (counter-clockwise) and a mirror."""
    made = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 40.0, "CRVAL2": 5.0})
    matrix = np.array([[-1.0, 0.0], [0.0, 1.0]]) * scale / 3600
    turn = np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), quarter)  # new pixel to old
    matrix = matrix @ turn
    if mirrored:
        matrix = matrix @ np.diag([-1, 1])
    for (i, j), value in np.ndenumerate(matrix):
        made[f"CD{i + 1}_{j + 1}"] = value
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene at three scales, turned and mirrored in eight ways, in three units."""
    folder = tmp_path_factory.mktemp("scene")
    units = {"electron_s": 1.0, "nJy": 37.5, "MJy": 2.2e-7}
    for scale, quarter, mirrored in product(SCALES, range(4), (False, True)):
        pixels = np.rot90(scene(scale), -quarter)  # rows count upwards
        pixels = pixels[:, ::-1] if mirrored else pixels
        head = header(scale, quarter, mirrored)
        head["CRPIX1"] = head["CRPIX2"] = (len(pixels) + 1) / 2
        for unit, factor in units.items():
            name = f"{scale}_{quarter}_{int(mirrored)}_{unit}.fits"
            fits.PrimaryHDU((factor * pixels).astype("f4"), head).writeto(folder / name)
    return folder


def test_the_headers_describe_one_sky(folder):
    """The brightest clump lies at one place of the sky in every file."""
    places = []
    for path in sorted(folder.glob("*_nJy.fits")):
        pixels = fits.getdata(path)
        y, x = np.unravel_index(pixels.argmax(), pixels.shape)
        places.append(WCS(fits.getheader(path)).all_pix2world(x, y, 0))
    offset = (np.array(places) - places[0]) * 3600
    assert np.abs(offset).max() < 0.15  # arcsec; the largest pixel is 0.0625


@pytest.mark.parametrize(
    ("symmetries", "orient"), [(8, "stored"), (1, "north")], ids=["averaged", "turned north"]
)
def test_scale_orientation_and_unit_do_not_change_the_score(run_folder, folder, symmetries, orient):
    ensemble = Ensemble([load_run(run_folder)], symmetries=symmetries)
    table = score_table(ensemble, [folder], options=ReadOptions(orient=orient))
    assert len(table) == 72 and set(table["status"]) == {"scored"}
    scores = np.array([table[name] for name in P]).T
    scale_of = np.array([float(path.split("_")[0]) for path in table["path"]])
    middles = {}
    for scale in SCALES:
        mine = scores[scale_of == scale]
        assert np.ptp(mine, axis=0).max() < SAME_PIXELS
        middles[scale] = mine.mean(axis=0)
    for scale in SCALES:
        np.testing.assert_allclose(middles[scale], middles[SCALE], atol=OTHER_SCALE)


def test_without_either_the_turned_scene_scores_otherwise(run_folder, folder):
    ensemble = Ensemble([load_run(run_folder)], symmetries=1)
    table = score_table(ensemble, [str(folder / "0.05_*_nJy.fits")])
    scores = np.array([table[name] for name in P]).T
    assert np.ptp(scores, axis=0).max() > 1e-3
