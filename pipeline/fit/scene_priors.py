"""Priors of a fit from those of a preset: what its smooth lenses look like, parameter by parameter.

Means and widths are measured on scenes drawn from the configuration, so that any prior in any form
has them.
"""

import math

import numpy as np

from pipeline.core.errors import PhysicsError
from pipeline.detectability.nuisances import nuisance_values
from pipeline.fit.config import GaussianPrior
from pipeline.physics.scene import ClassConfig, SceneConfig, draw_scene
from pipeline.physics.substructure import smooth

#: Draws from which means and widths are measured: 2 % of the width, at worst.
N_DRAWS = 1000
_SAME = (
    *("theta_E", "slope", "e1", "e2", "gamma1", "gamma2", "center_x", "center_y"),
    *("source_x", "source_y", "source_n", "source_e1", "source_e2"),
)


def scene_priors(config: SceneConfig, n_draws: int = N_DRAWS) -> dict[str, GaussianPrior]:
    """Gaussian priors with the mean and width of each parameter under a preset.

    Parameters
    ----------
    config : SceneConfig
    n_draws : int

    Returns
    -------
    dict
        By the names of ``parameter_names``; empty for lenses that are no ellipsoids.
    """
    plain = config.model_copy(
        update={"classes": {"smooth": ClassConfig(substructure=smooth.Config())}}
    )
    columns: dict[str, list[float]] = {}
    for index in range(n_draws):
        try:
            values = nuisance_values(draw_scene(plain, 0, index))
        except PhysicsError:
            return {}
        for name in _SAME:
            if name in values:
                columns.setdefault(name, []).append(values[name])
        if "ln_r_eff" in values:
            columns.setdefault("source_r_eff", []).append(math.exp(values["ln_r_eff"]))
    return {name: _gaussian(np.array(drawn)) for name, drawn in columns.items()}


def _gaussian(drawn: np.ndarray) -> GaussianPrior:
    mean, sigma = float(drawn.mean()), float(drawn.std())
    # Sums of draws that cancel (source position minus centre) leave rounding errors behind.
    narrow = np.ptp(drawn) <= 1e-12 * max(1.0, abs(mean))
    return GaussianPrior(mean=mean, sigma=0.0 if narrow else sigma)
