"""Small FITS files written by the tests themselves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from numpy.typing import NDArray

from .fits_samples import ring, sky_header

Write = Callable[..., Path]


@pytest.fixture
def picture() -> NDArray[np.float32]:
    return ring().astype(np.float32)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write HDUs, an array (with a WCS of 0.05 arcsec) or bytes to ``tmp_path / name``."""

    def write(
        content: NDArray[np.float32] | list[fits.hdu.base.ExtensionHDU] | bytes,
        name: str = "image.fits",
        header: fits.Header | None = None,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, list):
            fits.HDUList(content).writeto(path)
        else:
            fits.PrimaryHDU(content, sky_header() if header is None else header).writeto(path)
        return path

    return write


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with untrained weights, written and read by the real code."""
    from pipeline.checkpoint.load import network_outputs
    from pipeline.checkpoint.network import build_network
    from pipeline.checkpoint.novelty import fit_novelty
    from pipeline.checkpoint.save import save_run
    from pipeline.checkpoint.spec import CheckpointSpec
    from pipeline.dataset.preprocess import Preprocess
    from pipeline.models.lens_hybrid import VARIANTS
    from pipeline.tasks.classification import Config

    preprocess = Preprocess(
        bands=("hst_acs_f814w",), pixel_scale=0.05, size=64, normalise="noise",
        stretch=("asinh",), softening=3.0, background=(0.0,), sigma=(1.0,), offset=(0.5,),
        scale=(1.0,), clip=20.0,
    )  # fmt: skip
    classes = ("no", "subhalo", "vortex")
    shape = {"in_channels": 1, "image_size": 64, "class_names": classes, "targets": ()}
    network, _ = build_network(VARIANTS["mini"], Config(), seed=3, **shape)
    network.eval()
    rng = np.random.default_rng(0)
    sample = ring(noise=0.0) + rng.normal(0, 0.05, (200, 1, 64, 64))
    prepared = torch.from_numpy(preprocess.apply(sample.astype(np.float32)))
    _, description = network_outputs(network, prepared, torch.device("cpu"))
    spec = CheckpointSpec(
        task=Config(), model=VARIANTS["mini"], targets=(), preprocess=preprocess,
        class_names=classes, in_channels=1, image_size=64, calibration={"temperature": 0.2},
        n_parameters=network.n_parameters, n_train=100, n_val=100, seed=3, epoch=0, step=0,
        metrics={}, dataset_sha256="0" * 64, config_sha256="1" * 64, weights_sha256="",
        reference_sha256="", versions={},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("run")
    n_features = network.backbone.n_features
    novelty = fit_novelty(description[:100], description[100:], n_features)
    save_run(folder, spec, network.state_dict(), novelty)
    return folder
