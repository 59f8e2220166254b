"""The map of the substructure's convergence holds its mass and nothing else."""

import dataclasses
import math

import numpy as np
import pytest

from pipeline.dataset.config import load_dataset_config
from pipeline.physics.components import Perturbers
from pipeline.physics.convergence import substructure_convergence
from pipeline.physics.geometry import Grid
from pipeline.physics.profiles.table import PROFILES
from pipeline.physics.scene import draw_scene, smooth_twin

GRID = Grid(64, 0.08, 2)


@pytest.mark.parametrize("class_name", ["subhalo", "vortex"])
def test_pixels_add_up_to_the_flux_through_the_border(class_name: str) -> None:
    config = load_dataset_config("contrast_hst")
    scene = draw_scene(config.scenes, 1, 4, class_name)
    kappa = substructure_convergence(scene, GRID)
    # Gauss on the square itself, sampled finely and by another route than the pixels'.
    half, n = GRID.half_width, 4000
    t = (np.arange(n) + 0.5) / n * 2 * half - half
    flux = 0.0
    for population in (p for p in scene.perturbers if p.mass.min() > 0):
        formula = PROFILES[population.profile].deflection
        for k in range(len(population)):
            one = {name: values[k] for name, values in population.params.items()}
            for sign in (-1, 1):
                flux += sign * np.mean(formula(np.full(n, sign * half), t, **one)[0])
                flux += sign * np.mean(formula(t, np.full(n, sign * half), **one)[1])
    edge = np.clip((np.arange(65) - 32) * 0.08, -half, half)
    area = np.outer(np.diff(edge), np.diff(edge))
    assert np.sum(kappa * area) == pytest.approx(0.5 * flux * 2 * half, rel=0.02)


@pytest.mark.parametrize("place", [(0.04, 0.04), (0.05, 0.02)])
def test_a_point_mass_lies_in_its_pixel(place: tuple[float, float]) -> None:
    config = load_dataset_config("contrast_hst")
    params = {"theta_E": 0.3, "center_x": place[0], "center_y": place[1]}
    point = Perturbers(
        "point_mass",
        np.array([0.5]),
        {k: np.array([v]) for k, v in params.items()},
        np.array([1e9]),
    )
    scene = dataclasses.replace(draw_scene(config.scenes, 1, 4, "no"), perturbers=(point,))
    kappa = substructure_convergence(scene, GRID)
    total = math.pi * 0.3**2  # alpha = theta_E^2/r encloses pi theta_E^2
    assert kappa[32, 32] * 0.08**2 == pytest.approx(total, rel=0.15)
    assert kappa.sum() * 0.08**2 == pytest.approx(total, rel=0.02)
    kappa[31:34, 31:34] = 0.0
    assert np.abs(kappa).max() * 0.08**2 < 0.01 * total


def test_without_substructure_there_is_none() -> None:
    config = load_dataset_config("contrast_hst")
    scene = draw_scene(config.scenes, 1, 4, "vortex")
    assert (substructure_convergence(smooth_twin(scene), GRID) == 0).all()
    assert (substructure_convergence(draw_scene(config.scenes, 1, 4, "no"), GRID) == 0).all()
