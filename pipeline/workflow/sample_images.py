"""A folder of FITS images to try the scorer on: lenses nobody trained on, and files with faults.

The lenses come from the dataset's own configuration under another seed, so no network has seen
them; their header says the true class in ``TRUTH``, which the scorer does not read.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.files import atomic_folder
from pipeline.core.seeding import Stream, image_rng
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.generate import observe
from pipeline.engines.base import ENGINES
from pipeline.physics.scene import draw_scene

#: Added to a dataset's seed for images outside it.
SEED_OFFSET = 1_000_003
#: Lenses of each class.
N_PER_CLASS = 3


def write_sample_images(config: DatasetConfig, folder: Path) -> Path:
    """Write the folder, whole or not at all; what an earlier call finished is left alone.

    Parameters
    ----------
    config : DatasetConfig
    folder : Path

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    if folder.exists():
        return folder
    held_out = config.with_changes(seed=config.seed + SEED_OFFSET)
    engine = ENGINES.load(config.engine.kind).build(config.engine)
    n_images = N_PER_CLASS * len(config.class_names)
    scenes = [draw_scene(held_out.scenes, held_out.seed, i) for i in range(n_images)]
    images = observe(held_out, engine, scenes)
    with atomic_folder(folder) as temporary:
        for scene, image in zip(scenes, images, strict=True):
            path = temporary / f"lens_{scene.index + 1:02d}.fits"
            _write(path, image, config, pixel_scale=config.pixel_scale, truth=scene.class_name)
        _write_doubtful(temporary, images[0], config)
        _write_faulty(temporary, images[0], config)
    return folder


def _write_doubtful(folder: Path, image: NDArray[np.float32], config: DatasetConfig) -> None:
    """Files that can be scored, but should not be believed, or that test an invariance."""
    scale = config.pixel_scale
    rng = image_rng(config.seed + SEED_OFFSET, 0, Stream.FIELD)
    noise = (np.std(image[:, 0]) * rng.standard_normal(image.shape)).astype(np.float32)
    _write(folder / "no_lens_only_noise.fits", noise, config, pixel_scale=scale)
    rescaled = (1e-3 * image + 2.5e-2).astype(np.float32)
    _write(folder / "lens_01_other_unit.fits", rescaled, config, pixel_scale=scale, unit="count/s")
    _write(folder / "no_pixel_scale.fits", image, config, pixel_scale=None)


def _write_faulty(folder: Path, image: NDArray[np.float32], config: DatasetConfig) -> None:
    """Files no network should see: each has one fault, which its name tells."""
    scale = config.pixel_scale
    _write(folder / "wrong_pixel_scale.fits", image, config, pixel_scale=20.0 * scale)
    _write(folder / "blank.fits", np.zeros_like(image), config, pixel_scale=scale)
    _write(folder / "too_small.fits", image[:, :7, :7], config, pixel_scale=scale)
    whole = folder / "truncated.fits"
    _write(whole, image, config, pixel_scale=scale)
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    (folder / "not_fits.fits").write_text("This is a text file.\n", encoding="utf-8")


def _write(
    path: Path,
    image: NDArray[np.float32],
    config: DatasetConfig,
    *,
    pixel_scale: float | None,
    unit: str = "electron/s",
    truth: str | None = None,
) -> None:
    """Write one image (C, H, W); a single band becomes a plain two-dimensional picture."""
    from astropy.io import fits  # type: ignore[import-untyped]

    hdu = fits.PrimaryHDU(image[0] if len(image) == 1 else image)
    hdu.header["BUNIT"] = unit
    hdu.header["FILTER"] = ",".join(config.bands)
    if pixel_scale is not None:
        hdu.header["CTYPE1"], hdu.header["CTYPE2"] = "RA---TAN", "DEC--TAN"
        hdu.header["CUNIT1"], hdu.header["CUNIT2"] = "deg", "deg"
        hdu.header["CDELT1"], hdu.header["CDELT2"] = -pixel_scale / 3600, pixel_scale / 3600
        hdu.header["CRPIX1"] = (image.shape[-1] + 1) / 2
        hdu.header["CRPIX2"] = (image.shape[-2] + 1) / 2
        hdu.header["CRVAL1"], hdu.header["CRVAL2"] = 0.0, 0.0
    if truth is not None:
        hdu.header["TRUTH"] = (truth, "simulated class; not read by the scorer")
    hdu.writeto(path)
