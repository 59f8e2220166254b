"""A run with untrained weights that was exported once, and images to ask it about."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from astropy.io import fits

from pipeline.checkpoint.load import load_run
from pipeline.checkpoint.spec import read_spec
from pipeline.export.onnx import ExportSummary, write_onnx
from tests.checkpoint.untrained_run import lens_images, write_run

INSTRUMENT = "instruments:\n  - {name: f814w, zero_point: 25.9, psf: {kind: gaussian, fwhm: 0.1}}\n"
AUGMENT = "augment: {enabled: true, rotate: true, flip: true}\n"


class Exported(NamedTuple):
    """A run folder, its ONNX file, and what the export said."""

    run: Path
    onnx: Path
    summary: ExportSummary


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("export")
    run, onnx = folder / "run", folder / "m.onnx"
    run.mkdir()
    write_run(run)
    (run / "config.yaml").write_text(AUGMENT)
    (run / "dataset.yaml").write_text(INSTRUMENT)
    confusion = (50 * np.eye(3) + 5).astype(int).tolist()
    evaluation = {"confusion": confusion, "checkpoint_sha256": read_spec(run).sha256}
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    return Exported(run, onnx, write_onnx(load_run(run), onnx, lens_images(8, seed=5)))


@pytest.fixture(scope="session")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four lenses and a file of text, as FITS."""
    folder = tmp_path_factory.mktemp("sky")
    header = fits.Header({"PIXSCALE": 0.05, "BUNIT": "electron/s", "FILTER": "f814w"})
    for i, image in enumerate(lens_images(24, seed=8)):
        fits.PrimaryHDU(image[0], header).writeto(folder / f"{i:02d}.fits")
    (folder / "text.fits").write_text("no image")
    return folder
