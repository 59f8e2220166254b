"""JAXtronomy: its LensModel, LightModel and ImageModel, compiled and vectorised over the scenes.

Its PSF kernel is handed over as pixels, because its own Gaussian calls lenstronomy functions under
names that lenstronomy has since changed.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtronomy.ImSim.image_model import ImageModel  # type: ignore[import-untyped]
from jaxtronomy.LensModel.lens_model import LensModel  # type: ignore[import-untyped]
from jaxtronomy.LightModel.light_model import LightModel  # type: ignore[import-untyped]
from lenstronomy.Data.pixel_grid import PixelGrid  # type: ignore[import-untyped]
from lenstronomy.Data.psf import PSF  # type: ignore[import-untyped]
from lenstronomy.Util import util  # type: ignore[import-untyped]
from numpy.typing import NDArray

from pipeline.benchmark.keywords import lens_keywords, source_keywords
from pipeline.benchmark.ours import exposed
from pipeline.benchmark.scenes import rods_as_points
from pipeline.core.errors import EngineError
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import Instrument
from pipeline.physics.psf import FWHM_PER_SIGMA, GaussianPsf, gaussian_kernel
from pipeline.physics.scene import Scene

type Floats = NDArray[np.float64]


def prepare(
    scenes: list[Scene], grid: Grid, instrument: Instrument, noisy: bool
) -> Callable[[], Floats]:
    """Return what renders all scenes, shape (B, H, W).

    Raises
    ------
    EngineError
        If it lacks a profile.
    """
    described = [lens_keywords(rods_as_points(scene)) for scene in scenes]
    try:
        model = _image_model(described[0][0], grid, instrument)
    except ValueError as error:
        raise EngineError(str(error)) from error
    lenses = _stacked([keywords for _, keywords in described])
    sources = _stacked([[source_keywords(scene, instrument)] for scene in scenes])

    def image(lens: Any, source: Any) -> Any:  # Any: trees of jax arrays
        return model.image(lens, source, point_source_add=False, lens_light_add=False)

    compiled = jax.jit(jax.vmap(image))

    def render() -> Floats:
        images = np.asarray(compiled(lenses, sources), np.float64)
        return exposed(images, instrument) if noisy else images

    return render


def _image_model(models: list[str], grid: Grid, instrument: Instrument) -> Any:
    layout = util.make_grid_with_coordtransform(
        grid.n_pix, grid.pixel_scale, center_ra=0, center_dec=0, subgrid_res=1, inverse=False
    )
    pixels = PixelGrid(
        nx=grid.n_pix,
        ny=grid.n_pix,
        ra_at_xy_0=layout[2],
        dec_at_xy_0=layout[3],
        transform_pix2angle=layout[6],
    )
    assert isinstance(instrument.psf, GaussianPsf)
    sigma = instrument.psf.fwhm / FWHM_PER_SIGMA / grid.pixel_scale
    row = gaussian_kernel(sigma, instrument.psf.truncation)
    return ImageModel(
        pixels,
        PSF(psf_type="PIXEL", kernel_point_source=np.outer(row, row)),
        LensModel(models),
        LightModel(["SERSIC_ELLIPSE"]),
        kwargs_numerics={"supersampling_factor": 1, "supersampling_convolution": False},
    )


def _stacked(rows: list[list[dict[str, float]]]) -> list[dict[str, Floats]]:
    """Keyword arguments of many scenes as columns."""
    return [
        {name: np.array([row[k][name] for row in rows]) for name in rows[0][k]}
        for k in range(len(rows[0]))
    ]
