"""A benchmark scene as the keyword arguments of lenstronomy, which JAXtronomy shares."""

import math
from collections.abc import Mapping

from pipeline.physics.geometry import ellipticity
from pipeline.physics.instrument import Instrument
from pipeline.physics.light import count_rate, sersic_flux
from pipeline.physics.scene import Scene

_NAMES = {"sie": "SIE", "shear": "SHEAR", "tnfw": "TNFW", "point_mass": "POINT_MASS"}


def lens_keywords(scene: Scene) -> tuple[list[str], list[dict[str, float]]]:
    """Names of the mass profiles and the keyword arguments of each."""
    masses = [(m.profile, m.params) for m in scene.macro]
    for population in scene.perturbers:
        for k in range(len(population)):
            row = {name: float(column[k]) for name, column in population.params.items()}
            masses.append((population.profile, row))
    return [_NAMES[name] for name, _ in masses], [_mass(name, p) for name, p in masses]


def source_keywords(scene: Scene, instrument: Instrument) -> dict[str, float]:
    """Keyword arguments of the one Sersic source; ``amp`` in electron/s/arcsec^2."""
    (light,) = scene.source
    p = light.params
    rate = float(count_rate(light.magnitude[0], instrument.zero_point))
    return {
        "amp": rate / sersic_flux(p["r_eff"], p["n"]),
        "R_sersic": p["r_eff"],
        "n_sersic": p["n"],
        **{name: p[name] for name in ("e1", "e2", "center_x", "center_y")},
    }


def _mass(profile: str, p: Mapping[str, float]) -> dict[str, float]:
    center = {"center_x": p["center_x"], "center_y": p["center_y"]}
    if profile == "sie":
        e1, e2 = ellipticity(p["q"], p["phi"])
        return {"theta_E": p["theta_E"], "e1": float(e1), "e2": float(e2), **center}
    if profile == "shear":
        origin = {"ra_0": p["center_x"], "dec_0": p["center_y"]}
        return {"gamma1": p["gamma1"], "gamma2": p["gamma2"], **origin}
    if profile == "tnfw":
        # Deflection of the untruncated halo at its scale radius.
        alpha = p["theta_E"] ** 2 * (1.0 - math.log(2.0)) / p["scale_radius"]
        truncation = p["tau"] * p["scale_radius"]
        return {"Rs": p["scale_radius"], "alpha_Rs": alpha, "r_trunc": truncation, **center}
    return {"theta_E": p["theta_E"], **center}
