"""Scenes with many halos, shared by the tests of the JAX engine."""

import dataclasses

import numpy as np

from pipeline.physics.components import Perturbers


def halos(n, seed=0):
    """A realistic population: shallow NFW halos and a few steep ones."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.03, 0.2, n)
    kappa = 10 ** rng.uniform(-3.0, -1.8, n)
    params = {
        "theta_E": 2.0 * scale * np.sqrt(kappa),
        "scale_radius": scale,
        "tau": rng.uniform(0.2, 8.0, n),
        "center_x": rng.uniform(-1.0, 1.0, n),
        "center_y": rng.uniform(-1.0, 1.0, n),
    }
    return Perturbers("tnfw", np.full(n, 0.5), params, np.ones(n))


def with_halos(scene, n, seed=0):
    return dataclasses.replace(scene, perturbers=(halos(n, seed),))
