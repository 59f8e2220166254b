"""caustics (Stone et al. 2024): its simulator, vectorised over the scenes by torch."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.benchmark.ours import exposed
from pipeline.benchmark.scenes import rods_as_points
from pipeline.physics.geometry import Grid, axis_ratio_angle
from pipeline.physics.instrument import Instrument
from pipeline.physics.light import count_rate, sersic_flux
from pipeline.physics.profiles.halos import tnfw_total_mass
from pipeline.physics.psf import FWHM_PER_SIGMA, GaussianPsf, gaussian_kernel
from pipeline.physics.scene import Scene

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import caustics  # type: ignore[import-untyped]

type Floats = NDArray[np.float64]
_CLASSES = {"tnfw": "TNFW", "point_mass": "Point"}
#: Length of a radian, arcsec.
_ARCSEC = 648000.0 / np.pi


def prepare(
    scenes: list[Scene], grid: Grid, instrument: Instrument, noisy: bool
) -> Callable[[], Floats]:
    """Return what renders all scenes, shape (B, H, W)."""
    torch.set_grad_enabled(False)
    scenes = [rods_as_points(scene) for scene in scenes]
    simulator, sigma_crit = _simulator(scenes[0], grid, instrument)
    rows = [_values(scene, instrument, sigma_crit) for scene in scenes]
    names = [(next(iter(p.parents)).name, p.name) for p in simulator.dynamic_params]
    params = torch.tensor([[row[name] for name in names] for row in rows], dtype=torch.float32)
    many = torch.vmap(simulator)

    def render() -> Floats:
        images = many(params).numpy().astype(np.float64)
        return exposed(images, instrument) if noisy else images

    return render


def _simulator(scene: Scene, grid: Grid, instrument: Instrument) -> tuple[Any, float]:
    """The simulator of scenes like this one, and its critical surface density, M_sun/arcsec^2."""
    model = scene.host.cosmology
    cosmology = caustics.FlatLambdaCDM(name="cosmology", h0=model.H0 / 100.0, Om0=model.Om0)
    lenses = [
        caustics.SIE(cosmology=cosmology, name="sie"),
        caustics.ExternalShear(cosmology=cosmology, name="shear"),
    ]
    for name, profile in _perturber_names(scene):
        lenses.append(getattr(caustics, _CLASSES[profile])(cosmology=cosmology, name=name))
    z_l, z_s = torch.tensor(scene.host.z_lens), torch.tensor(scene.host.z_source)
    lens = caustics.SinglePlane(
        cosmology=cosmology, lenses=lenses, name="lens", z_l=float(z_l), z_s=float(z_s)
    )
    assert isinstance(instrument.psf, GaussianPsf)
    sigma = instrument.psf.fwhm / FWHM_PER_SIGMA / grid.pixel_scale
    row = gaussian_kernel(sigma, instrument.psf.truncation)
    simulator = caustics.LensSource(
        lens=lens,
        source=caustics.Sersic(name="source", use_lenstronomy_k=True),
        pixelscale=grid.pixel_scale,
        pixels_x=grid.n_pix,
        psf=np.outer(row, row).tolist(),
        psf_mode="fft",
    )
    per_mpc2 = float(cosmology.critical_surface_density(z_l, z_s))
    mpc_per_arcsec = float(cosmology.angular_diameter_distance(z_l)) / _ARCSEC
    return simulator, per_mpc2 * mpc_per_arcsec**2


def _perturber_names(scene: Scene) -> list[tuple[str, str]]:
    profiles = [p.profile for p in scene.perturbers for _ in range(len(p))]
    return [(f"perturber_{k}", profile) for k, profile in enumerate(profiles)]


def _values(
    scene: Scene, instrument: Instrument, sigma_crit: float
) -> dict[tuple[str, str], float]:
    """Every parameter of the simulator by the names of its object and its own."""
    sie, shear = (m.params for m in scene.macro)
    (light,) = scene.source
    q, phi = axis_ratio_angle(light.params["e1"], light.params["e2"])
    rate = float(count_rate(light.magnitude[0], instrument.zero_point))
    amplitude = rate / sersic_flux(light.params["r_eff"], light.params["n"])
    objects: dict[str, dict[str, Any]] = {
        "sie": {"Rein": sie["theta_E"], "q": sie["q"], "phi": sie["phi"], **_place(sie)},
        "shear": {"gamma_1": shear["gamma1"], "gamma_2": shear["gamma2"], **_place(shear)},
        "source": {
            "q": q,
            "phi": phi,
            "n": light.params["n"],
            "Re": light.params["r_eff"] / np.sqrt(q),
            "Ie": amplitude * instrument.pixel_scale**2,
            **_place(light.params),
        },
    }
    rows = [
        {name: float(column[k]) for name, column in p.params.items()}
        for p in scene.perturbers
        for k in range(len(p))
    ]
    for (name, profile), p in zip(_perturber_names(scene), rows, strict=True):
        objects[name] = _place(p)
        if profile == "point_mass":
            objects[name]["Rein"] = p["theta_E"]
            continue
        total = np.pi * sigma_crit * p["theta_E"] ** 2 * tnfw_total_mass(p["tau"])
        objects[name].update(mass=total, Rs=p["scale_radius"], tau=p["tau"])
    return {(o, name): float(v) for o, params in objects.items() for name, v in params.items()}


def _place(params: Any) -> dict[str, Any]:
    return {"x0": params["center_x"], "y0": params["center_y"]}
