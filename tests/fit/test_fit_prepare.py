"""What is taken out of an image before a fit starts."""

import numpy as np

from pipeline.fit._prepare import round_light


def test_light_of_a_round_galaxy_is_found_and_arcs_are_left() -> None:
    side = 40
    axis = np.arange(side) - (side - 1) / 2.0
    radius = np.hypot(axis, axis[:, None])
    galaxy = 100.0 * np.exp(-radius / 4.0)
    arc = np.where((np.abs(radius - 12.0) < 1.5) & (axis > 6.0), 30.0, 0.0)
    image = (galaxy + arc).reshape(1, 1, -1)
    light = round_light(image, np.ones(image.shape, bool)).reshape(side, side)
    far = radius > 3.0
    assert np.abs(light - galaxy)[far].max() < 8.0  # the rings are a pixel wide
    rest = image.reshape(side, side) - light
    assert rest[(arc > 0)].min() > 25.0


def test_unusable_pixels_do_not_count() -> None:
    image = np.full((1, 1, 100), 7.0)
    image[0, 0, :20] = 1e9
    usable = image < 1e8
    np.testing.assert_array_equal(round_light(image, usable), 7.0)
    np.testing.assert_array_equal(round_light(image, np.zeros_like(usable)), 0.0)
