"""Self-interacting dark matter: subhalos with a core, or collapsed to a cusp.

An effective family (PHYSICS 4.5): each halo of the cold twin becomes a dual pseudo-isothermal
sphere of its bound mass. Nothing here is derived from a cross section.
"""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from pipeline.core.priors import Uniform
from pipeline.physics.components import Perturbers, TruthColumn
from pipeline.physics.host import Host
from pipeline.physics.quantities import ShareOrNonePrior
from pipeline.physics.subhalos import SubhaloConfig, draw_halos, truncated_halos
from pipeline.physics.substructure import cdm
from pipeline.physics.substructure.base import Population

TRUTH: Mapping[str, TruthColumn] = {
    **cdm.TRUTH,
    "p_collapsed": TruthColumn("", "probability that a subhalo is core-collapsed"),
    "n_collapsed": TruthColumn("", "number of core-collapsed subhalos"),
}

#: Core of a cored halo and truncation of a collapsed one, in scale radii (PHYSICS 4.5).
CORE_RANGE = (0.3, 0.8)
COLLAPSED_TRUNCATION_RANGE = (0.5, 1.0)
COLLAPSED_CORE = 0.02
#: A cored halo is truncated where its cold twin is, but never inside this many cores.
_MIN_TRUNCATION = 1.5


class Config(SubhaloConfig):
    """Subhalos of self-interacting dark matter, cored or core-collapsed."""

    kind: Literal["sidm"] = "sidm"
    collapsed_fraction: ShareOrNonePrior = Uniform(low=0.0, high=1.0)


def draw(config: Config, host: Host, rng: np.random.Generator) -> Population:
    """Draw the cold subhalos and give each a core or a collapsed centre.

    Parameters
    ----------
    config : Config
    host : Host
    rng : numpy.random.Generator

    Returns
    -------
    Population
    """
    sigma_sub, halos = draw_halos(config, host, rng)
    cold = truncated_halos(halos, host)
    prior_rng, fate_rng, core_rng, edge_rng = rng.spawn(4)
    p_collapsed = config.collapsed_fraction.draw(prior_rng)
    n = len(cold)
    collapsed = fate_rng.random(n) < p_collapsed
    cored_core = core_rng.uniform(*CORE_RANGE, n)
    collapsed_edge = edge_rng.uniform(*COLLAPSED_TRUNCATION_RANGE, n)
    scale, tau = cold.params["scale_radius"], cold.params["tau"]
    core = np.where(collapsed, COLLAPSED_CORE, cored_core)
    cored_edge = np.maximum(tau, _MIN_TRUNCATION * cored_core)
    perturbers = Perturbers(
        profile="dual_isothermal",
        z=cold.z,
        params={
            "theta_E": np.sqrt(cold.mass / (math.pi * host.sigma_crit)),
            "core": core * scale,
            "truncation": np.where(collapsed, collapsed_edge, cored_edge) * scale,
            "center_x": cold.params["center_x"],
            "center_y": cold.params["center_y"],
        },
        mass=cold.mass,
    )
    truth = {
        "sigma_sub": sigma_sub,
        "p_collapsed": p_collapsed,
        "n_collapsed": float(np.count_nonzero(collapsed)),
    }
    return Population(
        perturbers=(perturbers,),
        truth=truth,
        disc_radius=config.field_radius * host.theta_E,
    )
