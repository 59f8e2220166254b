"""Heavy half of the autolens engine: conventions are converted here and nowhere else.

Positions and deflections are (y, x) pairs, ellipticity is (e2, e1), Einstein radii of ellipses are
rescaled (PHYSICS 0.1). Rays are traced by a two-plane Tracer; profiles that PyAutoLens lacks are
ours, wrapped as its mass profiles.
"""

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import EngineError
from pipeline.engines.base import check_fields, check_finite, check_instruments
from pipeline.physics import fields
from pipeline.physics.components import FieldComponent, LightComponent
from pipeline.physics.geometry import Grid, ellipticity
from pipeline.physics.instrument import Instrument
from pipeline.physics.light import count_rate, sersic_b, sersic_flux
from pipeline.physics.profiles.table import PROFILES
from pipeline.physics.psf import blur
from pipeline.physics.scene import Scene
from pipeline.physics.stamps import stamp_brightness, stamp_coefficients

with warnings.catch_warnings():
    # Its docstrings hold backslashes that Python's compiler complains about.
    warnings.simplefilter("ignore", SyntaxWarning)
    import autoarray as aa  # type: ignore[import-untyped]
    import autolens as al  # type: ignore[import-untyped]

type Floats = NDArray[np.float64]
type Params = Mapping[str, float]


class WrappedProfile(al.mp.MassProfile):  # type: ignore[misc]  # autolens has no types
    """One of our deflections as a mass profile of PyAutoLens."""

    def __init__(self, name: str, params: Params) -> None:
        super().__init__(centre=_centre(params))
        self._deflection = functools.partial(PROFILES[name].deflection, **params)

    @aa.decorators.to_vector_yx  # type: ignore[untyped-decorator]  # autolens has no types
    def deflections_yx_2d_from(
        self,
        grid: Any,
        xp: Any = np,
        **kwargs: Any,  # Any: its interface
    ) -> Floats:
        """Deflection (alpha_y, alpha_x), arcsec, shape (n, 2)."""
        alpha_x, alpha_y = self._deflection(grid.array[:, 1], grid.array[:, 0])
        return np.stack([alpha_y, alpha_x], axis=-1)


class WrappedField(al.mp.MassProfile):  # type: ignore[misc]  # autolens has no types
    """A gridded deflection as a mass profile of PyAutoLens."""

    def __init__(self, field: FieldComponent) -> None:
        super().__init__(centre=(0.0, 0.0))
        self._field = field

    @aa.decorators.to_vector_yx  # type: ignore[untyped-decorator]  # autolens has no types
    def deflections_yx_2d_from(
        self,
        grid: Any,
        xp: Any = np,
        **kwargs: Any,  # Any: its interface
    ) -> Floats:
        """Deflection (alpha_y, alpha_x), arcsec, shape (n, 2)."""
        alpha_x, alpha_y = fields.deflection(self._field, grid.array[:, 1], grid.array[:, 0])
        return np.stack([alpha_y, alpha_x], axis=-1)


class CentredShear(al.mp.ExternalShear):  # type: ignore[misc]  # autolens has no types
    """Its shear, which is about the origin, about any centre."""

    def __init__(self, params: Params) -> None:
        super().__init__(gamma_1=params["gamma1"], gamma_2=params["gamma2"])
        self._origin = np.array(_centre(params))

    def deflections_yx_2d_from(self, grid: Any, xp: Any = np, **kwargs: Any) -> Any:
        """Deflection (alpha_y, alpha_x), arcsec, shape (n, 2)."""
        moved = aa.Grid2DIrregular(grid.array - self._origin)
        return super().deflections_yx_2d_from(grid=moved, xp=xp, **kwargs)


class AutolensEngine:
    """Renders scenes through PyAutoLens; the PSF is ours, as in every engine."""

    name = "autolens"
    batch = 20

    def render(
        self, scenes: Sequence[Scene], grid: Grid, instruments: tuple[Instrument, ...]
    ) -> Floats:
        """Noiseless images, shape (B, C, H, W), electron/s; see ``Engine.render``."""
        check_instruments(grid, instruments)
        rays = _rays(grid)
        blurs = [_blur(instrument.psf, grid) for instrument in instruments]
        images = np.empty((len(scenes), len(instruments), grid.n_pix, grid.n_pix))
        side = grid.n_pix * grid.supersample
        for image, scene in zip(images, scenes, strict=True):
            # Its Sersic profile switches off numpy's warnings for the whole process.
            with np.errstate(all="ignore"):
                light = _light(scene.source, trace(scene, rays), instruments)
                light += _light(scene.lens_light, rays, instruments)
            for band, apply in enumerate(blurs):
                image[band] = apply(light[band].reshape(side, side)) * grid.pixel_scale**2
            check_finite(image, scene)
        return images


def trace(scene: Scene, rays: Any) -> Any:  # Any: aa.Grid2DIrregular
    """Positions in the source plane of rays through a scene.

    Parameters
    ----------
    scene : Scene
    rays : aa.Grid2DIrregular, shape (n, 2), (y, x) in arcsec

    Returns
    -------
    aa.Grid2DIrregular, shape (n, 2), (y, x) in arcsec
    """
    masses = [_mass(scene, m.profile, m.params) for m in scene.macro]
    for perturbers in scene.perturbers:
        names = list(perturbers.params)
        for row in zip(*(perturbers.params[name].tolist() for name in names), strict=True):
            masses.append(_mass(scene, perturbers.profile, dict(zip(names, row, strict=True))))
    check_fields(scene, float(np.max(np.abs(rays.array))))
    masses += [WrappedField(field) for field in scene.fields]
    profiles = {f"mass_{k}": mass for k, mass in enumerate(masses)}
    lens = al.Galaxy(redshift=scene.host.z_lens, **profiles)
    tracer = al.Tracer(galaxies=[lens, al.Galaxy(redshift=scene.host.z_source)])
    return tracer.traced_grid_2d_list_from(grid=rays)[-1]


def _mass(scene: Scene, profile: str, params: Params) -> Any:  # Any: a mass profile
    if profile not in _TABLE:
        raise EngineError(f"scene {scene.index}: no profile {profile!r} in this engine")
    if not all(map(math.isfinite, params.values())):
        raise EngineError(
            f"scene {scene.index} (class {scene.class_name!r}): a parameter of {profile} "
            f"is not finite: {dict(params)}"
        )
    return _TABLE[profile](params)


def _centre(p: Params) -> tuple[float, float]:
    return p["center_y"], p["center_x"]


def _ellipse(p: Params) -> dict[str, Any]:
    e1, e2 = ellipticity(p["q"], p["phi"])
    return {"centre": _centre(p), "ell_comps": (float(e2), float(e1))}


def _isothermal(p: Params) -> Any:
    size = p["theta_E"] * (1.0 + p["q"]) / (2.0 * math.sqrt(p["q"]))
    return al.mp.Isothermal(**_ellipse(p), einstein_radius=size)


def _power_law(p: Params) -> Any:
    size = p["theta_E"] / math.sqrt(p["q"]) * (0.5 * (1.0 + p["q"])) ** (1.0 / (p["slope"] - 1.0))
    return al.mp.PowerLaw(**_ellipse(p), einstein_radius=size, slope=p["slope"])


def _mass_sheet(p: Params) -> Any:
    return al.mp.MassSheet(centre=_centre(p), kappa=p["kappa"])


def _point_mass(p: Params) -> Any:
    return al.mp.PointMass(centre=_centre(p), einstein_radius=p["theta_E"])


def _nfw(p: Params) -> Any:
    kappa_s = p["theta_E"] ** 2 / (4.0 * p["scale_radius"] ** 2)
    return al.mp.NFWSph(centre=_centre(p), kappa_s=kappa_s, scale_radius=p["scale_radius"])


def _tnfw(p: Params) -> Any:
    return al.mp.NFWTruncatedSph(
        centre=_centre(p),
        kappa_s=p["theta_E"] ** 2 / (4.0 * p["scale_radius"] ** 2),
        scale_radius=p["scale_radius"],
        truncation_radius=p["tau"] * p["scale_radius"],
    )


def _dual_isothermal(p: Params) -> Any:
    b0 = p["theta_E"] ** 2 / p["truncation"]
    return al.mp.dPIEMassB0Sph(centre=_centre(p), ra=p["core"], rs=p["truncation"], b0=b0)


#: Our profile name -> the mass profile of our parameters.
_TABLE: dict[str, Callable[[Params], Any]] = {
    **{name: functools.partial(WrappedProfile, name) for name in PROFILES},
    "sie": _isothermal,
    "epl": _power_law,
    "shear": CentredShear,
    "mass_sheet": _mass_sheet,
    "point_mass": _point_mass,
    "nfw": _nfw,
    "tnfw": _tnfw,
    "dual_isothermal": _dual_isothermal,
}


def _light(
    components: Sequence[LightComponent], grid: Any, instruments: tuple[Instrument, ...]
) -> Floats:
    """Surface brightness in each band, shape (C, n), electron/s/arcsec^2."""
    total = np.zeros((len(instruments), grid.shape[0]))
    for component in components:
        if component.stamp is not None:  # PyAutoLens has no such source: the formula is ours
            spline = stamp_coefficients(component.stamp)
            place = grid.array[:, 1], grid.array[:, 0]
            shape, flux = stamp_brightness(*place, spline, **component.params), 1.0
        elif component.profile == "sersic":
            shape = np.asarray(_sersic(component.params).image_2d_from(grid=grid).array)
            flux = sersic_flux(component.params["r_eff"], component.params["n"])
        else:
            raise EngineError(f"no light profile {component.profile!r} in this engine")
        magnitude = np.broadcast_to(component.magnitude, (len(instruments),))
        for band, instrument in enumerate(instruments):
            total[band] += count_rate(magnitude[band], instrument.zero_point) / flux * shape
    return total


def _sersic(p: Params) -> Any:
    """The same profile in its terms: it computes b_n by an exact series, we by lenstronomy's line.

    exp(-b ((r/R)^(1/n) - 1)) = exp(b - b') exp(-b' ((r/R')^(1/n) - 1)) with R' = R (b'/b)^n.
    """
    n, b = p["n"], float(sersic_b(p["n"]))
    theirs = float(al.lp.Sersic(sersic_index=n).sersic_constant)
    return al.lp.Sersic(
        centre=_centre(p),
        ell_comps=(p["e2"], p["e1"]),
        intensity=math.exp(b - theirs),
        effective_radius=p["r_eff"] * (theirs / b) ** n,
        sersic_index=n,
    )


@functools.lru_cache(maxsize=8)
def _rays(grid: Grid) -> Any:
    x, y = grid.rays()
    return aa.Grid2DIrregular(np.stack([y.ravel(), x.ravel()], axis=-1))


_blur = functools.lru_cache(maxsize=64)(blur)
