"""Heavy half of the lenstronomy engine: conventions are converted here and nowhere else.

Rays are shot once through lenstronomy's own profile objects on the supersampled grid. Profiles
that lenstronomy lacks (rod, Plummer sphere, uniform disc) are ours, wrapped in its interface.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from lenstronomy.LensModel.Profiles.base_profile import LensProfileBase  # type: ignore[import-untyped]
from lenstronomy.LensModel.Profiles.convergence import Convergence  # type: ignore[import-untyped]
from lenstronomy.LensModel.Profiles.epl import EPL  # type: ignore[import-untyped]
from lenstronomy.LensModel.Profiles.interpol import Interpol  # type: ignore[import-untyped]
from lenstronomy.LensModel.Profiles.multipole import EllipticalMultipole, Multipole  # type: ignore[import-untyped]
from lenstronomy.LensModel.Profiles.nfw import NFW  # type: ignore[import-untyped]
from lenstronomy.LensModel.Profiles.point_mass import PointMass  # type: ignore[import-untyped]
from lenstronomy.LensModel.Profiles.pseudo_jaffe import PseudoJaffe  # type: ignore[import-untyped]
from lenstronomy.LensModel.Profiles.shear import Shear  # type: ignore[import-untyped]
from lenstronomy.LensModel.Profiles.sie import SIE  # type: ignore[import-untyped]
from lenstronomy.LensModel.Profiles.tnfw import TNFW  # type: ignore[import-untyped]
from lenstronomy.LightModel.Profiles.interpolation import Interpol as LightInterpol  # type: ignore[import-untyped]
from lenstronomy.LightModel.Profiles.sersic import SersicElliptic  # type: ignore[import-untyped]
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline  # type: ignore[import-untyped]

from pipeline.core.errors import EngineError
from pipeline.engines.base import check_fields, check_finite, check_instruments
from pipeline.physics import fields
from pipeline.physics.components import FieldComponent, LightComponent, Perturbers
from pipeline.physics.geometry import Grid, ellipticity, rotate_in, rotate_out
from pipeline.physics.instrument import Instrument
from pipeline.physics.light import count_rate, sersic_flux
from pipeline.physics.profiles.table import PROFILES
from pipeline.physics.psf import blur
from pipeline.physics.scene import Scene

type Floats = NDArray[np.float64]
type Params = Mapping[str, float]


class WrappedProfile(LensProfileBase):  # type: ignore[misc]  # lenstronomy has no types
    """One of our deflections in lenstronomy's interface, for profiles it does not have."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.param_names = list(PROFILES[name].parameter_names)
        self._deflection = PROFILES[name].deflection

    def derivatives(self, x: Floats, y: Floats, **params: float) -> tuple[Floats, Floats]:
        """Deflection (alpha_x, alpha_y), arcsec."""
        return self._deflection(x, y, **params)


class CubicInterpol(LightInterpol):  # type: ignore[misc]  # lenstronomy has no types
    """lenstronomy's interpolated image with a bicubic spline for its bilinear one."""

    def image_interp(self, x: Floats, y: Floats, image: Floats) -> Floats:
        """Brightness at pixel coordinates from the middle of ``image``; zero outside."""
        if not hasattr(self, "_image_interp"):
            rows, columns = (np.arange(n) - (n - 1) / 2.0 for n in image.shape)
            self._image_interp = RectBivariateSpline(rows, columns, image, kx=3, ky=3, s=0)
            self._reach = rows[-1] - 2.0, columns[-1] - 2.0
        inside = (np.abs(y) <= self._reach[0]) & (np.abs(x) <= self._reach[1])
        return np.where(inside, self._image_interp(y, x, grid=False), 0.0)


class RotatedMultipole(LensProfileBase):  # type: ignore[misc]  # lenstronomy has no types
    """lenstronomy's elliptical multipole, whose ellipse lies along x, at any position angle."""

    def __init__(self) -> None:
        super().__init__()
        self._aligned = EllipticalMultipole()

    def derivatives(
        self,
        x: Floats,
        y: Floats,
        m: float,
        a_m: float,
        phi_m: float,
        q: float,
        phi: float,
        theta_E: float,
        center_x: float = 0.0,
        center_y: float = 0.0,
    ) -> tuple[Floats, Floats]:
        """Deflection (alpha_x, alpha_y), arcsec."""
        u, v = rotate_in(x, y, phi, center_x, center_y)
        aligned = functools.partial(
            self._aligned.derivatives, m=int(m), a_m=a_m, phi_m=phi_m, q=q, r_E=theta_E
        )
        # Its potential of odd m holds a linear term, which only moves the source; ours does not.
        point = np.array([theta_E]), np.array([0.0])
        ours = PROFILES["elliptical_multipole"].deflection(*point, m, a_m, phi_m, q, 0.0, theta_E)
        theirs, alpha = aligned(*point), aligned(u, v)
        alpha_u, alpha_v = alpha[0] + ours[0] - theirs[0], alpha[1] + ours[1] - theirs[1]
        return rotate_out(alpha_u, alpha_v, phi)


def _center(p: Params) -> dict[str, float]:
    return {"center_x": p["center_x"], "center_y": p["center_y"]}


def _elliptical(p: Params) -> dict[str, float]:
    e1, e2 = ellipticity(p["q"], p["phi"])
    return {"theta_E": p["theta_E"], "e1": float(e1), "e2": float(e2), **_center(p)}


def _epl(p: Params) -> dict[str, float]:
    return {**_elliptical(p), "gamma": p["slope"]}


def _shear(p: Params) -> dict[str, float]:
    return {
        "gamma1": p["gamma1"],
        "gamma2": p["gamma2"],
        "ra_0": p["center_x"],
        "dec_0": p["center_y"],
    }


def _sheet(p: Params) -> dict[str, float]:
    return {"kappa": p["kappa"], "ra_0": p["center_x"], "dec_0": p["center_y"]}


def _nfw(p: Params) -> dict[str, float]:
    # Deflection of the untruncated halo at its scale radius: M0 (1 - ln 2)/(pi Sigma_cr r_s).
    alpha = p["theta_E"] ** 2 * (1.0 - math.log(2.0)) / p["scale_radius"]
    return {"Rs": p["scale_radius"], "alpha_Rs": alpha, **_center(p)}


def _tnfw(p: Params) -> dict[str, float]:
    return {**_nfw(p), "r_trunc": p["tau"] * p["scale_radius"]}


def _dual_isothermal(p: Params) -> dict[str, float]:
    sigma0 = p["theta_E"] ** 2 / (2.0 * p["core"] * p["truncation"])
    return {"sigma0": sigma0, "Ra": p["core"], "Rs": p["truncation"], **_center(p)}


def _multipole(p: Params) -> dict[str, float]:
    return {"m": int(p["m"]), "a_m": p["a_m"], "phi_m": p["phi_m"], **_center(p), "r_E": 1.0}


#: Our profile name -> lenstronomy's class and the conversion of parameters.
_TABLE: dict[str, tuple[Callable[[], Any], Callable[[Params], dict[str, float]]]] = {
    "sie": (SIE, _elliptical),
    "epl": (EPL, _epl),
    "shear": (Shear, _shear),
    "mass_sheet": (Convergence, _sheet),
    "point_mass": (PointMass, dict),
    "nfw": (NFW, _nfw),
    "tnfw": (TNFW, _tnfw),
    "dual_isothermal": (PseudoJaffe, _dual_isothermal),
    "multipole": (Multipole, _multipole),
    "elliptical_multipole": (RotatedMultipole, dict),
    **{
        name: (functools.partial(WrappedProfile, name), dict)
        for name in ("rod", "plummer", "uniform_disc")
    },
}


class LenstronomyEngine:
    """Renders scenes through lenstronomy's profiles; grids and PSFs are built once."""

    name = "lenstronomy"
    batch = 50

    def __init__(self) -> None:
        self._profiles = {name: make() for name, (make, _) in _TABLE.items()}
        self._sersic = SersicElliptic()

    def render(
        self, scenes: Sequence[Scene], grid: Grid, instruments: tuple[Instrument, ...]
    ) -> Floats:
        """Noiseless images, shape (B, C, H, W), electron/s; see ``Engine.render``."""
        check_instruments(grid, instruments)
        x, y = _rays(grid)
        blurs = [_blur(instrument.psf, grid) for instrument in instruments]
        images = np.empty((len(scenes), len(instruments), grid.n_pix, grid.n_pix))
        for image, scene in zip(images, scenes, strict=True):
            alpha_x, alpha_y = self.deflection(scene, x, y)
            source = self._light(scene.source, x - alpha_x, y - alpha_y, instruments)
            lens = self._light(scene.lens_light, x, y, instruments)
            side = grid.n_pix * grid.supersample
            for band, apply in enumerate(blurs):
                rays = (source[band] + lens[band]).reshape(side, side)
                image[band] = apply(rays) * grid.pixel_scale**2
            check_finite(image, scene)
        return images

    def deflection(self, scene: Scene, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Total deflection of a scene, arcsec.

        Parameters
        ----------
        scene : Scene
        x, y : Floats, arcsec, one-dimensional

        Returns
        -------
        alpha_x, alpha_y : Floats, arcsec
        """
        total_x, total_y = np.zeros_like(x), np.zeros_like(y)
        masses = [(m.profile, m.params) for m in scene.macro]
        masses += [row for p in scene.perturbers for row in _rows(p)]
        for profile, params in masses:
            if profile not in _TABLE:
                raise EngineError(f"scene {scene.index}: no profile {profile!r} in this engine")
            if not all(map(math.isfinite, params.values())):
                # Some profiles of lenstronomy turn NaN into 0, which no check of the image sees.
                raise EngineError(
                    f"scene {scene.index} (class {scene.class_name!r}): a parameter of {profile} "
                    f"is not finite: {dict(params)}"
                )
            converted = _TABLE[profile][1](params)
            alpha_x, alpha_y = self._profiles[profile].derivatives(x, y, **converted)
            total_x += alpha_x
            total_y += alpha_y
        check_fields(scene, max(float(np.max(np.abs(x))), float(np.max(np.abs(y)))))
        for field in scene.fields:
            alpha_x, alpha_y = _interpolated(field, x, y)
            total_x += alpha_x
            total_y += alpha_y
        return total_x, total_y

    def _light(
        self,
        components: Sequence[LightComponent],
        x: Floats,
        y: Floats,
        instruments: tuple[Instrument, ...],
    ) -> Floats:
        """Surface brightness in each band, shape (C, n), electron/s/arcsec^2."""
        total = np.zeros((len(instruments), x.size))
        for component in components:
            shape = self._unit_light(component, x, y)
            magnitude = np.broadcast_to(component.magnitude, (len(instruments),))
            for band, instrument in enumerate(instruments):
                total[band] += count_rate(magnitude[band], instrument.zero_point) * shape
        return total

    def _unit_light(self, component: LightComponent, x: Floats, y: Floats) -> Floats:
        """Surface brightness of a component of unit flux, arcsec^-2."""
        p = component.params
        if component.stamp is not None:
            image = component.stamp / p["scale"] ** 2
            return np.asarray(
                CubicInterpol().function(
                    x, y, image, phi_G=p["phi"], scale=p["scale"], **_center(p)
                )
            )
        if component.profile != "sersic":
            raise EngineError(f"no light profile {component.profile!r} in this engine")
        shape = self._sersic.function(
            x,
            y,
            amp=1.0,
            R_sersic=p["r_eff"],
            n_sersic=p["n"],
            e1=p["e1"],
            e2=p["e2"],
            **_center(p),
        )
        return np.asarray(shape / sersic_flux(p["r_eff"], p["n"]))


def _interpolated(field: FieldComponent, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Deflection of a field by lenstronomy's own bicubic interpolation, arcsec."""
    points = fields.axis(field.deflection.shape[-1], field.cell)
    along_x, along_y = field.deflection.astype(np.float64)
    profile = Interpol(kwargs_spline={"kx": 3, "ky": 3, "s": 0})
    return (
        profile.f_x_interp(x, y, points, points, along_x),
        profile.f_y_interp(x, y, points, points, along_y),
    )


def _rows(perturbers: Perturbers) -> list[tuple[str, Params]]:
    names = list(perturbers.params)
    columns = zip(*(perturbers.params[name].tolist() for name in names), strict=True)
    return [(perturbers.profile, dict(zip(names, row, strict=True))) for row in columns]


@functools.lru_cache(maxsize=8)
def _rays(grid: Grid) -> tuple[Floats, Floats]:
    x, y = grid.rays()
    return x.ravel(), y.ravel()


_blur = functools.lru_cache(maxsize=64)(blur)
