"""Where substructure is, and how often a map's peak lies there."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.store import open_dataset
from pipeline.detectability.measure import Measure, Survey
from pipeline.explain import where
from pipeline.explain.pointing import (
    ALL,
    ANYWHERE,
    BRIGHTEST,
    LIGHT,
    OBSERVER,
    drawn,
    peak_on,
    pointing_scores,
)
from pipeline.physics.components import Perturbers
from pipeline.physics.geometry import Grid
from pipeline.physics.scene import Scene, draw_scene

SIDE = 8


def peak_at(*places: tuple[int, int]) -> np.ndarray:
    maps = np.full((len(places), SIDE, SIDE), 0.1)
    for one, place in zip(maps, places, strict=True):
        one[place] = 1.0
    return maps


def truth() -> where.Whereabouts:
    """Three lenses: substructure at (2, 2), (5, 5) and (1, 6); the last has no place of mass."""
    places = ((2, 2), (5, 5), (1, 6))
    observer = peak_at(*places) - 0.1
    change = observer > 0.5
    light = np.ones((3, SIDE, SIDE))
    light[change] = 3.0
    mass = change.copy()
    mass[2] = False
    return where.Whereabouts(observer, observer, light, change, mass)


def lens(class_name: str) -> Scene:
    config = load_dataset_config("demo")
    return draw_scene(config.scenes, config.seed, 0, class_name)


def scores(maps: dict[str, np.ndarray]):
    found = pointing_scores(maps, np.ones((3, SIDE, SIDE)), truth(), ("a", "a", "b"))
    return {(row.map, row.class_name): row for row in found}


def test_a_map_that_finds_two_of_three_scores_two_thirds():
    row = scores({"mine": peak_at((2, 2), (5, 5), (7, 7))})["mine", ALL]
    assert row.n == 3 and row.is_method
    assert row.change.value == pytest.approx(2 / 3)
    assert row.change.low < 2 / 3 < row.change.high
    assert row.mass is not None and row.mass.value == 1.0  # of the two that have a place
    assert row.inside.value == pytest.approx(np.mean([1, 1, 0.1]) / (1 + 0.1 * (SIDE**2 - 1)))


def test_references_stand_beside_the_methods():
    found = scores({"mine": peak_at((2, 2), (5, 5), (1, 6))})
    assert found[OBSERVER, ALL].change.value == 1.0
    assert found[BRIGHTEST, ALL].change.value == 0.0  # all pixels are equally bright: no peak
    assert found[ANYWHERE, ALL].change.value == pytest.approx(1 / SIDE**2)
    by_light = 3 / (SIDE**2 + 2)
    assert found[LIGHT, ALL].change.value == pytest.approx(by_light)
    assert found["mine", ALL].gain.value == pytest.approx(1 - by_light)
    assert found[LIGHT, ALL].gain.value == pytest.approx(0.0)


def test_each_class_has_rows_of_its_own():
    found = scores({"mine": peak_at((2, 2), (5, 5), (7, 7))})
    assert found["mine", "a"].change.value == 1.0 and found["mine", "a"].n == 2
    assert found["mine", "b"].change.value == 0.0 and found["mine", "b"].mass is None


def test_a_flat_map_has_no_peak():
    target = np.ones((1, SIDE, SIDE), bool)
    assert peak_on(np.ones((1, SIDE, SIDE)), target) == 0.0
    assert drawn(np.zeros((1, SIDE, SIDE)), target) == 0.0


def test_the_target_is_the_fewest_pixels_with_half_of_the_sum():
    values = np.array([[4.0, 1.0], [3.0, 2.0]])
    assert where.densest(values).tolist() == [[True, False], [True, False]]
    assert where.densest(values, 0.3).sum() == 1
    assert not where.densest(np.zeros((2, 2))).any()


def test_the_heaviest_mass_inside_the_image_is_the_place():
    grid = Grid(24, 0.05)
    scene = lens("no")
    halos = Perturbers(
        "point_mass",
        z=np.full(3, 0.5),
        params={
            "theta_E": np.full(3, 0.01),
            "center_x": np.array([0.3, -0.2, 9.0]),
            "center_y": np.array([-0.1, 0.4, 0.0]),
        },
        mass=np.array([1e9, 5e8, 1e11]),  # the heaviest is outside
    )
    near = where.near_mass(dataclasses.replace(scene, perturbers=(halos,)), grid)
    x, y = grid.rays()
    assert near[np.hypot(x - 0.3, y + 0.1) < 2.9 * 0.05].all()
    assert not near[np.hypot(x - 0.3, y + 0.1) > 3.1 * 0.05].any()
    assert not where.near_mass(scene, grid).any()


def test_a_vortex_is_near_along_its_whole_length():
    grid = Grid(64, 0.05)
    scene = lens("vortex")
    given = {"vortex_x": 0.1, "vortex_y": 0.0, "vortex_angle": np.pi / 2, "vortex_half_length": 0.8}
    near = where.near_mass(dataclasses.replace(scene, truth={**scene.truth, **given}), grid)
    x, y = grid.rays()
    assert near[(np.abs(x - 0.1) < 0.14) & (np.abs(y) < 0.8)].all()
    assert not near[(np.abs(x - 0.1) > 0.16) | (np.abs(y) > 0.96)].any()


def test_the_change_adds_up_to_the_detectability(data: Path):
    dataset = open_dataset(data)
    config, index = dataset.require_simulation("a test"), [1, 2, 4, 5]
    found = where.locate_substructure(dataset, index)
    scenes = [draw_scene(config.scenes, config.seed, i) for i in index]
    known = Measure(Survey(config.scenes, config.seed, config.grid, config.instruments))(scenes)
    np.testing.assert_allclose(found.d_prime, known.raw[:, 0], rtol=1e-6)
    held = (found.observer**2 * found.change).sum(axis=(1, 2)) / found.d_prime**2
    assert np.all(held >= 0.5) and np.all(held < 0.9)
    assert found.signed.shape == found.mass.shape == (4, *dataset.image_shape[1:])
