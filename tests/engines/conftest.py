"""A smooth scene and a telescope to see it with."""

import pytest

from pipeline.physics.instrument import load_instrument
from pipeline.physics.scene import draw_scene

from ..physics.scenes import scene_config


@pytest.fixture(scope="module")
def acs():
    return load_instrument("hst_acs_f814w")


@pytest.fixture(scope="module")
def smooth():
    return draw_scene(scene_config(), 1, 0, "smooth")
