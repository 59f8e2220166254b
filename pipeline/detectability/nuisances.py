"""The nuisances of a smooth lens: names, values in a scene, and the widths of their priors.

Macro lens, source position, flux and shape (of a stamp: scale and angle); each multipole adds its
amplitude and angle, each clump of the source its flux (PHYSICS 8.1). The source position counts
from the lens centre, as it is drawn, so that the priors of all nuisances are independent.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import PhysicsError
from pipeline.physics.components import MassComponent
from pipeline.physics.geometry import ellipticity
from pipeline.physics.scene import ClassConfig, Scene, SceneConfig, draw_scene
from pipeline.physics.substructure import smooth

type Floats = NDArray[np.float64]

ELLIPSOIDS = ("sie", "epl")
MULTIPOLES = ("multipole", "elliptical_multipole")
#: Nuisances of a vortex: place, angle (rad) and logarithm of its mass.
VORTEX = ("vortex_x", "vortex_y", "vortex_angle", "vortex_ln_mass")
#: Draws from which the widths of priors are measured: 1.6 % of the width, at worst.
N_DRAWS = 2000


def nuisance_names(scene: Scene) -> tuple[str, ...]:
    """Names of every nuisance of a scene's smooth twin, in the order of the Jacobian's columns.

    Raises
    ------
    PhysicsError
        If the macro lens is not an ellipsoid with shear and multipoles.
    """
    return tuple(nuisance_values(scene))


def nuisance_values(scene: Scene) -> dict[str, float]:
    """Value of every nuisance of a scene's smooth twin, by name.

    Angles in arcsec and rad, ``ln_flux`` of electron/s up to a constant, ``ln_r_eff`` of arcsec.

    Raises
    ------
    PhysicsError
        As in :func:`nuisance_names`.
    """
    ellipsoid, *others = scene.macro
    if ellipsoid.profile not in ELLIPSOIDS:
        raise PhysicsError(f"scene {scene.index}: no nuisances are known of {ellipsoid.profile!r}")
    p = ellipsoid.params
    e1, e2 = ellipticity(p["q"], p["phi"])
    values = {"theta_E": scene.host.theta_E}
    if "slope" in p:
        values["slope"] = p["slope"]
    values |= {"e1": float(e1), "e2": float(e2)}
    values |= {name: p[name] for name in ("center_x", "center_y")}
    values |= _further_masses(scene, others)
    return values | _source(scene, p["center_x"], p["center_y"])


def _further_masses(scene: Scene, masses: Sequence[MassComponent]) -> dict[str, float]:
    values: dict[str, float] = {}
    for k, mass in enumerate(masses, start=1):
        if mass.profile == "shear":
            values |= {name: mass.params[name] for name in ("gamma1", "gamma2")}
        elif mass.profile in MULTIPOLES:
            values |= {f"a_m_{k}": mass.params["a_m"], f"phi_m_{k}": mass.params["phi_m"]}
        else:
            raise PhysicsError(f"scene {scene.index}: no nuisances are known of {mass.profile!r}")
    return values


def _source(scene: Scene, x: float, y: float) -> dict[str, float]:
    galaxy = scene.source[0]
    profiles = tuple(c.profile for c in scene.source)
    if profiles != ("image",) and set(profiles) != {"sersic"}:
        raise PhysicsError(f"scene {scene.index}: no nuisances are known of a source {profiles}")
    fluxes = [10.0 ** (-0.4 * float(c.magnitude[0])) for c in scene.source]
    total = math.fsum(fluxes)
    p = galaxy.params
    values = {
        "source_x": p["center_x"] - x,
        "source_y": p["center_y"] - y,
        "ln_flux": math.log(total),
    }
    if galaxy.profile == "image":
        return values | {"ln_scale": math.log(p["scale"]), "source_phi": p["phi"]}
    values |= {
        "ln_r_eff": math.log(p["r_eff"]),
        "source_n": p["n"],
        "source_e1": p["e1"],
        "source_e2": p["e2"],
    }
    return values | {f"ln_clump_{k}": math.log(f / total) for k, f in enumerate(fluxes[1:], 1)}


class PriorWidths:
    """Standard deviation of each nuisance under a configuration's own priors.

    Measured on scenes drawn from the configuration (seed 0), so any prior in any form has one.

    Parameters
    ----------
    config : SceneConfig
    n_draws : int
    """

    def __init__(self, config: SceneConfig, n_draws: int = N_DRAWS) -> None:
        plain = config.model_copy(
            update={"classes": {"smooth": ClassConfig(substructure=smooth.Config())}}
        )
        columns: dict[str, list[float]] = {}
        for index in range(n_draws):
            for name, value in nuisance_values(draw_scene(plain, 0, index)).items():
                columns.setdefault("ln_clump" if name.startswith("ln_clump") else name, []).append(
                    value
                )
        self._widths = {name: _spread(np.array(values)) for name, values in columns.items()}

    def of(self, names: Sequence[str]) -> Floats:
        """Widths of ``names``, shape (len(names),); 0 for what the priors hold fixed."""
        keys = ["ln_clump" if name.startswith("ln_clump") else name for name in names]
        return np.array([self._widths.get(key, 0.0) for key in keys])


def _spread(values: Floats) -> float:
    # Sums of draws that cancel (source position minus centre) leave rounding errors behind.
    if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return 0.0
    return float(np.std(values))
