"""The JAX engine's own promises: padding, the coarse grid, the cache on disk, torch."""

import dataclasses
import os
import time
from functools import partial

import numpy as np
import pytest

from pipeline.core.errors import EngineError
from pipeline.engines import _jax_setup
from pipeline.engines._jax import JaxEngine, batch_renderer
from pipeline.engines._jax_pack import bucket, padded_size, shallow, signature
from pipeline.physics.components import MassComponent
from pipeline.physics.geometry import Grid
from pipeline.physics.profiles.macro import deflection_epl
from pipeline.physics.scene import draw_scene

from ..physics.scenes import scene_config
from .populations import halos, with_halos

#: Dense enough for the coarse grid: rays of 0.025 arcsec.
DENSE = Grid(40, 0.05, 2)


@pytest.mark.parametrize(
    ("size", "n_sizes"),
    [(padded_size, 11), (partial(bucket, "tnfw"), 4), (partial(bucket, "rod"), 5)],
)
def test_sizes_are_few_and_large_enough(size, n_sizes):
    sizes = [size(n) for n in range(1, 512)]
    assert all(size >= n for n, size in enumerate(sizes, 1))
    assert sizes == sorted(sizes) and len(set(sizes)) <= n_sizes


def test_coarse_grid_keeps_the_tolerance_of_the_specification(smooth, acs):
    scenes = [with_halos(smooth, 150, seed) for seed in range(3)]
    shape = signature(scenes[0], DENSE)
    assert shape.coarse[0][0] == "tnfw" and shape.perturbers[0][0] == "tnfw"
    fast = JaxEngine("float32").render(scenes, DENSE, (acs,))
    exact = JaxEngine("float64").render(scenes, DENSE, (acs,))
    difference = (fast - exact) / exact.max()
    assert 1e-7 < np.abs(difference).max() <= 5e-4
    assert np.sqrt(np.mean(difference**2)) <= 3e-5


def test_coarse_grid_is_only_for_dense_rays_and_many_halos(smooth):
    assert signature(with_halos(smooth, 150), Grid(40, 0.1, 2)).coarse == ()
    assert signature(with_halos(smooth, 10), DENSE).coarse == ()
    assert signature(with_halos(smooth, 150)).coarse == ()


def test_steep_halos_stay_exact(smooth):
    population = halos(400)
    kappa = (population.params["theta_E"] / population.params["scale_radius"]) ** 2 / 4
    is_shallow = shallow(population)
    assert kappa[is_shallow].max() < kappa[~is_shallow].min()
    points = dataclasses.replace(population, profile="point_mass")
    assert not shallow(points).any()


def test_populations_of_one_bucket_compile_once_and_keep_their_images(smooth, acs):
    engine, grid = JaxEngine(), Grid(32, 0.05, 1)
    scenes = [with_halos(smooth, n, n) for n in (5, 6, 7, 8)]
    together = engine.render(scenes, grid, (acs,))
    assert len({signature(s, grid) for s in scenes}) == 1
    compiled = batch_renderer(signature(scenes[0], grid), grid, (acs.psf,), "float32")
    assert compiled._cache_size() == 1
    for scene, image in zip(scenes, together, strict=True):
        np.testing.assert_array_equal(engine.render([scene], grid, (acs,))[0], image)
    assert compiled._cache_size() == 1


def test_signatures_compiled_together_give_the_same_images(smooth, acs):
    grid = Grid(16, 0.05, 1)
    scenes = [smooth, with_halos(smooth, 3), with_halos(smooth, 20)]
    assert len({signature(scene, grid) for scene in scenes}) == 3
    for precision in ("float32", "float64"):
        batch_renderer.cache_clear()
        together = JaxEngine(precision).render(scenes, grid, (acs,))
        for scene, image in zip(scenes, together, strict=True):
            alone = JaxEngine(precision).render([scene], grid, (acs,))[0]
            np.testing.assert_array_equal(alone, image)


@pytest.mark.parametrize(("q", "flattening"), [(0.8, 0), (0.3, 1), (0.12, 2)])
def test_flat_power_laws_get_the_terms_they_need(q, flattening, smooth, acs):
    params = {"theta_E": 0.8, "slope": 2.2, "q": q, "phi": 0.4, "center_x": 0.0, "center_y": 0.0}
    scene = dataclasses.replace(smooth, macro=(MassComponent("epl", 0.5, params),))
    assert signature(scene).flattening == flattening
    import jax.numpy as jnp

    from pipeline.engines._jax import _EPL_TERMS

    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 200))
    truth = np.array(deflection_epl(x, y, **params))
    terms = _EPL_TERMS["float32"][flattening]
    narrow = (jnp.asarray(v, jnp.float32) for v in (x, y))
    found = np.array(deflection_epl(*narrow, **params, n_terms=terms))
    np.testing.assert_allclose(found, truth, atol=4e-6)


def test_torch_gets_the_same_images(smooth, acs):
    import torch

    engine, grid = JaxEngine(), Grid(16, 0.05, 1)
    config = scene_config()
    scenes = [draw_scene(config, 1, i, name) for i, name in enumerate(("cdm", "smooth", "vortex"))]
    tensor = engine.render_torch(scenes, grid, (acs,))
    assert tensor.dtype is torch.float32 and tensor.shape == (3, 1, 16, 16)
    np.testing.assert_array_equal(tensor.numpy(), engine.render(scenes, grid, (acs,)))
    assert engine.render_torch([], grid, (acs,)).shape == (0, 1, 16, 16)


def test_torch_never_gets_what_is_not_finite(smooth, acs):
    params = {**smooth.macro[0].params, "theta_E": np.nan}
    broken = dataclasses.replace(
        smooth, macro=(dataclasses.replace(smooth.macro[0], params=params), *smooth.macro[1:])
    )
    with pytest.raises(EngineError, match="not finite"):
        JaxEngine().render_torch([smooth, broken], Grid(16, 0.05, 1), (acs,))


# ------------------------------------------------------------------ settings


@pytest.fixture
def settings(monkeypatch):
    import jax

    names = (
        "jax_compilation_cache_dir",
        "jax_compilation_cache_max_size",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    yield jax.config
    for name, value in before.items():
        jax.config.update(name, value)


def test_cache_lies_where_the_variable_says(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPLENSE_CACHE", str(tmp_path))
    _jax_setup.configure()
    assert settings.jax_compilation_cache_dir.startswith(str(tmp_path))


def test_cache_lies_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("DEEPLENSE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _jax_setup.cache_folder() == tmp_path / "deeplense"


def test_cache_that_cannot_be_made_is_done_without(settings, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPLENSE_CACHE", str(tmp_path / "file"))
    _jax_setup.configure()
    assert settings.jax_compilation_cache_dir is None


def test_cache_of_the_user_is_respected(settings, tmp_path):
    settings.update("jax_compilation_cache_dir", str(tmp_path))
    _jax_setup.configure()
    assert settings.jax_compilation_cache_dir == str(tmp_path)


def test_half_written_entries_are_swept(tmp_path):
    for name in ("torn-cache", "whole-cache", "whole-atime", "new-cache"):
        (tmp_path / name).write_bytes(b"x")
    old = time.time() - 3600
    for name in ("torn-cache", "whole-cache"):
        os.utime(tmp_path / name, (old, old))
    _jax_setup._sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new-cache", "whole-atime", "whole-cache"]


def test_wide_vectors_only_where_the_processor_has_them(settings, monkeypatch):
    monkeypatch.setattr(_jax_setup, "_processor", lambda: "flags : sse avx2")
    _jax_setup.configure()
    assert "XLA_FLAGS" not in os.environ
    monkeypatch.setattr(_jax_setup, "_processor", lambda: "flags : avx2 avx512f")
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=")
    _jax_setup.configure()
    assert os.environ["XLA_FLAGS"] == "--xla_dump_to= --xla_cpu_prefer_vector_width=512"
