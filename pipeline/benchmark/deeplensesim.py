"""lenstronomy the way DeepLenseSim calls it: everything built anew for each image.

Its Model II (64 pixels) goes through SimAPI with redshifts and magnitudes, its Model I (150 pixels)
through ImageData, PSF and ImageModel; so does this (commit a0c0191, ``simple_sim_2`` and
``simple_sim``). The noise is lenstronomy's own. Its faults are not repeated: the source's redshift
is the one its deflections refer to.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lenstronomy.Util.image_util as image_util  # type: ignore[import-untyped]
import numpy as np
from astropy.cosmology import FlatLambdaCDM  # type: ignore[import-untyped]
from lenstronomy.Data.imaging_data import ImageData  # type: ignore[import-untyped]
from lenstronomy.Data.psf import PSF  # type: ignore[import-untyped]
from lenstronomy.ImSim.image_model import ImageModel  # type: ignore[import-untyped]
from lenstronomy.LensModel.lens_model import LensModel  # type: ignore[import-untyped]
from lenstronomy.LightModel.light_model import LightModel  # type: ignore[import-untyped]
from lenstronomy.SimulationAPI.sim_api import SimAPI  # type: ignore[import-untyped]
from lenstronomy.Util import util
from numpy.typing import NDArray

from pipeline.benchmark.keywords import lens_keywords, source_keywords
from pipeline.benchmark.scenes import rods_as_points
from pipeline.physics.detector import background_rms
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import Instrument
from pipeline.physics.psf import GaussianPsf
from pipeline.physics.scene import Scene

#: Pixels along a side of its Model II.
_MODEL_II = 64

type Floats = NDArray[np.float64]
type Keywords = Mapping[str, Any]


def prepare(
    scenes: list[Scene], grid: Grid, instrument: Instrument, noisy: bool
) -> Callable[[], Floats]:
    """Return what renders all scenes, shape (B, H, W); building the models is part of its time."""
    if grid.n_pix == _MODEL_II:
        return _model_ii(scenes, grid, instrument, noisy)
    described = [
        (*lens_keywords(rods_as_points(scene)), source_keywords(scene, instrument))
        for scene in scenes
    ]
    noise = background_rms(instrument, instrument.total_time), instrument.total_time

    def render() -> Floats:
        return np.stack([_image(*each, grid, instrument, noise, noisy) for each in described])

    return render


def _model_ii(
    scenes: list[Scene], grid: Grid, instrument: Instrument, noisy: bool
) -> Callable[[], Floats]:
    assert isinstance(instrument.psf, GaussianPsf)
    band = {
        "read_noise": instrument.read_noise,
        "pixel_scale": instrument.pixel_scale,
        "ccd_gain": instrument.gain,
        "exposure_time": instrument.total_time / instrument.n_exposures,
        "sky_brightness": instrument.sky_brightness,
        "magnitude_zero_point": instrument.zero_point,
        "num_exposures": instrument.n_exposures,
        "seeing": instrument.psf.fwhm,
        "psf_type": "GAUSSIAN",
    }
    described = []
    for scene in scenes:
        source = source_keywords(scene, instrument)
        del source["amp"]
        source["magnitude"] = float(scene.source[0].magnitude[0])
        described.append((*lens_keywords(rods_as_points(scene)), source))
    host = scenes[0].host
    cosmology = FlatLambdaCDM(H0=host.cosmology.H0, Om0=host.cosmology.Om0)

    def image(models: list[str], lenses: Sequence[Keywords], source: Keywords) -> Floats:
        model = {
            "lens_model_list": models,
            "lens_redshift_list": [host.z_lens] * len(models),
            "source_light_model_list": ["SERSIC_ELLIPSE"],
            "source_redshift_list": [host.z_source],
            "cosmo": cosmology,
            "z_source_convention": host.z_source,
            "z_source": host.z_source,
        }
        api = SimAPI(num_pix=grid.n_pix, kwargs_single_band=band, kwargs_model=model)
        renderer = api.image_model_class({"point_source_supersampling_factor": 1})
        _, sources, _ = api.magnitude2amplitude(None, [source])
        values = renderer.image(lenses, sources, None)
        return np.asarray(values + api.noise_for_model(model=values) if noisy else values)

    return lambda: np.stack([image(*each) for each in described])


def _image(
    models: list[str],
    lenses: Sequence[Keywords],
    source: Keywords,
    grid: Grid,
    instrument: Instrument,
    noise: tuple[float, float],
    noisy: bool,
) -> Floats:
    n, scale = grid.n_pix, grid.pixel_scale
    layout = util.make_grid_with_coordtransform(
        num_pix=n, delta_pix=scale, center_ra=0, center_dec=0, subgrid_res=1, inverse=False
    )
    data = ImageData(
        background_rms=noise[0],
        exposure_time=noise[1],
        ra_at_xy_0=layout[2],
        dec_at_xy_0=layout[3],
        transform_pix2angle=layout[6],
        image_data=np.zeros((n, n)),
    )
    assert isinstance(instrument.psf, GaussianPsf)
    psf = PSF(
        psf_type="GAUSSIAN",
        fwhm=instrument.psf.fwhm,
        pixel_size=scale,
        truncation=instrument.psf.truncation,
    )
    model = ImageModel(
        data,
        psf,
        lens_model_class=LensModel(models),
        source_model_class=LightModel(["SERSIC_ELLIPSE"]),
        lens_light_model_class=None,
        kwargs_numerics={"supersampling_factor": 1, "supersampling_convolution": False},
    )
    image = model.image(lenses, [source], kwargs_lens_light=None, kwargs_ps=None)
    if noisy:
        image = image + image_util.add_poisson(image, exp_time=noise[1])
        image = image + image_util.add_background(image, sigma_bkd=noise[0])
    return np.asarray(image, np.float64)
