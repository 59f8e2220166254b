"""Light of the lens galaxy: Sersic components on the lens centre, shown or subtracted.

Subtracted light is taken out perfectly, but its photons were counted: they stay in the variance
and not in the mean (PHYSICS 3).
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from pipeline.core.config import StrictModel
from pipeline.physics.components import Floats, LightComponent, TruthColumn
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import Instrument
from pipeline.physics.light import count_rate, sersic_brightness, sersic_flux
from pipeline.physics.psf import blur
from pipeline.physics.quantities import MagnitudePrior, PositiveAnglePrior, SersicIndexPrior
from pipeline.physics.shapes import ShapeConfig

TRUTH: Mapping[str, TruthColumn] = {
    "lens_magnitude": TruthColumn("mag", "AB magnitude of the lens galaxy in the first band"),
}


class SersicLight(StrictModel):
    """One Sersic component of the lens galaxy."""

    magnitude: MagnitudePrior
    r_eff: PositiveAnglePrior
    n: SersicIndexPrior
    shape: ShapeConfig | None = None  # that of the mass, if left out
    colours: tuple[float, ...] = ()  # magnitude of each further band minus that of the first


class LensLightConfig(StrictModel):
    """Light of the lens galaxy, centred on its mass."""

    components: tuple[SersicLight, ...] = Field(min_length=1)
    subtracted: bool = True  # perfectly, but with the Poisson noise it left


def draw_lens_light(
    config: LensLightConfig,
    ellipticity: tuple[float, float],
    center: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[tuple[LightComponent, ...], dict[str, float]]:
    """Draw the components; each from its own child of ``rng``.

    Parameters
    ----------
    config : LensLightConfig
    ellipticity : tuple of float
        (e1, e2) of the mass.
    center : tuple of float, arcsec
    rng : numpy.random.Generator

    Returns
    -------
    components : tuple of LightComponent
    truth : dict of float
        Columns of ``TRUTH``.
    """
    components = []
    for block, child in zip(config.components, rng.spawn(len(config.components)), strict=True):
        magnitude, r_eff = block.magnitude.draw(child), block.r_eff.draw(child)
        n = block.n.draw(child)
        e1, e2 = ellipticity if block.shape is None else block.shape.draw(child)
        place = {"center_x": center[0], "center_y": center[1]}
        components.append(
            LightComponent(
                profile="sersic",
                params={"r_eff": r_eff, "n": n, "e1": e1, "e2": e2, **place},
                magnitude=magnitude + np.array([0.0, *block.colours]),
            )
        )
    flux = sum(10.0 ** (-0.4 * float(c.magnitude[0])) for c in components)
    return tuple(components), {"lens_magnitude": float(-2.5 * np.log10(flux))}


def light_rate(
    components: Sequence[LightComponent], grid: Grid, instruments: Sequence[Instrument]
) -> Floats:
    """Unlensed Sersic light as each band sees it.

    Parameters
    ----------
    components : sequence of LightComponent
    grid : Grid
    instruments : sequence of Instrument, length C

    Returns
    -------
    Floats, shape (C, n_pix, n_pix), electron/s
        Convolved with the PSF; zeros without components.
    """
    x, y = grid.rays()
    total = np.zeros((len(instruments), *x.shape))
    for component in components:
        shape = sersic_brightness(x, y, **component.params)
        shape /= sersic_flux(component.params["r_eff"], component.params["n"])
        magnitude = np.broadcast_to(component.magnitude, (len(instruments),))
        for band, instrument in enumerate(instruments):
            total[band] += count_rate(float(magnitude[band]), instrument.zero_point) * shape
    blurred = [_blur(i.psf, grid)(rays) for i, rays in zip(instruments, total, strict=True)]
    return np.stack(blurred) * grid.pixel_scale**2


_blur = functools.lru_cache(maxsize=64)(blur)
