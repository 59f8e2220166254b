"""The Jacobian against differences of scenes that were changed by hand; widths against priors."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.detectability.jacobian import BATCH_SIZE, jacobians
from pipeline.detectability.nuisances import (
    VORTEX,
    PriorWidths,
    nuisance_names,
    nuisance_values,
)
from pipeline.engines._jax import JaxEngine
from pipeline.physics.components import MassComponent
from pipeline.physics.geometry import axis_ratio_angle, ellipticity
from pipeline.physics.scene import Scene, draw_scene, smooth_twin

ENGINE = JaxEngine("float64", 2)
CLUMPY = (
    "scenes.source={kind: clumpy, magnitude: 21.0, r_eff: 0.15, n: 1.0, shape: {e1: 0.1, e2: 0.0}}"
)
MULTIPOLES = (
    "scenes.macro.multipoles=[{m: 3, amplitude: 0.01, angle: 0.3}, "
    "{kind: circular, m: 4, amplitude: 0.01, angle: 0.1}]"
)
MACRO = (
    "theta_E: 1.0, slope: 2.1, shape: {q: 0.7, phi: 0.4}, shear: {gamma1: 0.03, gamma2: 0.02}, "
    "center_x: 0.02, center_y: 0.01"
)


def changed(scene: Scene, name: str, step: float) -> Scene:
    """The scene with one nuisance moved, by the rules of the specification."""
    masses = [dict(component.params) for component in scene.macro]
    ellipsoid, shear, *_ = masses
    sources = [(dict(c.params), np.array(c.magnitude)) for c in scene.source]
    galaxy = sources[0][0]
    if name in ("theta_E", "slope"):
        ellipsoid[name] += step
    elif name in ("e1", "e2"):
        e = np.array(ellipticity(ellipsoid["q"], ellipsoid["phi"]))
        e[int(name[1]) - 1] += step
        q, phi = axis_ratio_angle(*e)
        for params in masses:
            if "q" in params:
                params["q"], params["phi"] = float(q), float(phi)
    elif name.startswith("center"):
        for params in (*masses, *(s[0] for s in sources)):
            params[name] += step
    elif name.startswith("gamma"):
        shear[name] += step
    elif name.startswith(("a_m_", "phi_m_")):
        key, k = name.rsplit("_", 1)
        masses[int(k)][key] += step
    elif name in ("source_x", "source_y"):
        for params, _ in sources:
            params[f"center_{name[-1]}"] += step
    elif name == "ln_flux":
        sources = [(p, m - 2.5 / math.log(10.0) * step) for p, m in sources]
    elif name == "ln_r_eff":
        galaxy["r_eff"] *= math.exp(step)
    elif name == "ln_scale":
        galaxy["scale"] *= math.exp(step)
    elif name.startswith("ln_clump"):
        k = int(name.rsplit("_", 1)[1])
        if k < len(sources):
            sources[k] = (sources[k][0], sources[k][1] - 2.5 / math.log(10.0) * step)
    else:
        galaxy[name.removeprefix("source_")] += step
    macro = tuple(
        MassComponent(c.profile, c.z, params) for c, params in zip(scene.macro, masses, strict=True)
    )
    light = tuple(
        dataclasses.replace(c, params=params, magnitude=magnitude)
        for c, (params, magnitude) in zip(scene.source, sources, strict=True)
    )
    return dataclasses.replace(scene, macro=macro, source=light)


def check(config: DatasetConfig, n_scenes: int) -> None:
    twins = [smooth_twin(draw_scene(config.scenes, 3, i, "subhalo")) for i in range(n_scenes)]
    seen = 0
    for batch in jacobians(twins, config.grid, config.instruments):
        seen += len(batch.positions)
        for k, name in enumerate(batch.names):
            sides = [
                ENGINE.render(
                    [changed(twins[i], name, step) for i in batch.positions],
                    config.grid,
                    config.instruments,
                )
                for step in (1e-5, -1e-5)
            ]
            numeric = (sides[0] - sides[1]) / 2e-5
            scale = np.abs(numeric).max()
            np.testing.assert_allclose(
                # A round clump is differentiated at ellipticity 1e-6: a few 1e-6 in its wings.
                batch.values[..., k],
                numeric,
                rtol=2e-5,
                atol=2e-6 * scale + 1e-8,  # rounding of the differences
                err_msg=name,
            )
    assert seen == n_scenes


def test_every_column_is_the_derivative_of_the_image(config: DatasetConfig) -> None:
    check(config, BATCH_SIZE + 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        [f"scenes.macro={{profile: epl, {MACRO}}}"],
        [CLUMPY],
        [MULTIPOLES],
        ["instruments=[hst_acs_f814w, hst_acs_f814w_deep]"],
    ],
)
def test_other_shapes_of_scene_are_differentiated_too(overrides: list[str]) -> None:
    check(load_dataset_config("demo", ["n_pix=24", *overrides]), 2)


def test_a_stamp_is_moved_turned_and_scaled(tmp_path: Path) -> None:
    x, y = np.meshgrid(np.arange(25.0), np.arange(25.0))
    galaxy = np.exp(-((x - 12) ** 2) / 40 - (y - 11) ** 2 / 15) + np.exp(
        -((x - 16) ** 2 + (y - 8) ** 2) / 4
    )
    np.save(tmp_path / "galaxy.npy", galaxy)
    source = f"{{kind: image, path: {tmp_path}, magnitude: 21.0, scale: 0.03}}"
    config = load_dataset_config("demo", ["n_pix=24", f"scenes.source={source}"])
    check(config, 1)
    names = nuisance_names(draw_scene(config.scenes, 0, 0, "no"))
    assert {"ln_scale", "source_phi"} < set(names)


def turned_vortex(scene: Scene, name: str, step: float) -> Scene:
    """The scene with its one vortex, rod or row of points, changed."""
    (rod,) = scene.perturbers
    params = {key: np.array(value) for key, value in rod.params.items()}
    x, y = scene.truth["vortex_x"], scene.truth["vortex_y"]
    dx, dy = params["center_x"] - x, params["center_y"] - y
    if name == "vortex_angle":
        params["center_x"] = x + np.cos(step) * dx - np.sin(step) * dy
        params["center_y"] = y + np.sin(step) * dx + np.cos(step) * dy
        if "phi" in params:
            params["phi"] = params["phi"] + step
    elif name == "vortex_ln_mass":
        params["theta_E"] = params["theta_E"] * math.exp(0.5 * step)
    else:
        params[f"center_{name[-1]}"] = params[f"center_{name[-1]}"] + step
    return dataclasses.replace(scene, perturbers=(dataclasses.replace(rod, params=params),))


@pytest.mark.parametrize("n_points", [0, 12])
def test_a_vortex_is_differentiated_as_rod_and_as_points(n_points: int) -> None:
    block = (
        "{kind: vortex, mass: 1.0e10, log10_axion_mass: -23.5, center_radius: 0.2, core: 0.0, "
        f"core_fraction: 0.0, n_points: {n_points}}}"
    )
    overrides = ["n_pix=24", "supersample=1", f"scenes.classes.vortex.substructure={block}"]
    config = load_dataset_config("demo", overrides)
    scene = draw_scene(config.scenes, 0, 0, "vortex")
    (batch,) = jacobians([scene], config.grid, config.instruments, (*VORTEX, "source_x"))
    assert set(batch.names) == {*VORTEX, "source_x"}
    for name in VORTEX:
        moved = [turned_vortex(scene, name, step) for step in (1e-6, -1e-6)]
        first, second = ENGINE.render(moved, config.grid, config.instruments)
        numeric = (first - second) / 2e-6
        found = batch.values[0, ..., batch.names.index(name)]
        scale = np.abs(numeric).max()
        np.testing.assert_allclose(found, numeric, atol=1e-5 * scale, err_msg=name)


def test_round_lenses_have_finite_derivatives(config: DatasetConfig) -> None:
    round_config = load_dataset_config(
        "demo", ["n_pix=24", "scenes.macro.shape={e1: 0.0, e2: 0.0}"]
    )
    twin = smooth_twin(draw_scene(round_config.scenes, 0, 0, "vortex"))
    (batch,) = jacobians([twin], round_config.grid, round_config.instruments)
    assert np.all(np.isfinite(batch.values))
    assert np.all(np.any(batch.values != 0.0, axis=(0, 1, 2, 3)))


def test_names_are_those_of_the_specification(config: DatasetConfig) -> None:
    assert len(nuisance_names(draw_scene(config.scenes, 0, 0, "vortex"))) == 14
    power_law = load_dataset_config("demo", ["scenes.macro.profile=epl"])
    assert len(nuisance_names(draw_scene(power_law.scenes, 0, 0, "vortex"))) == 15


def test_substructure_changes_no_nuisance(config: DatasetConfig) -> None:
    values = [nuisance_values(draw_scene(config.scenes, 0, 0, c)) for c in config.class_names]
    assert values[0] == values[1] == values[2]


def test_widths_are_the_spreads_of_the_priors(config: DatasetConfig) -> None:
    widths = PriorWidths(config.scenes)
    scenes, n = config.scenes, 2000
    assert scenes.macro.theta_E is not None
    source = scenes.source
    exact = {
        "theta_E": scenes.macro.theta_E.std(),
        "center_x": scenes.macro.center_x.std(),
        "source_n": source.n.std(),  # type: ignore[attr-defined]
        "source_e1": source.shape.e1.std(),  # type: ignore[attr-defined]
        "ln_flux": source.magnitude.std() * 0.4 * math.log(10.0),  # type: ignore[attr-defined]
        # Of a disc whose radius is in theta_E, which is close to 1.
        "source_x": scenes.source_position.radius / 2.0,  # type: ignore[union-attr]
    }
    for name, width in exact.items():
        (found,) = widths.of([name])
        assert found == pytest.approx(width, rel=5.0 / math.sqrt(2 * n)), name


def test_fixed_parameters_have_no_width() -> None:
    legacy = load_dataset_config("legacy_model_ii").scenes
    names = nuisance_names(draw_scene(legacy, 0, 0, "no"))
    widths = dict(zip(names, PriorWidths(legacy, 200).of(names), strict=True))
    free = {name for name, width in widths.items() if width > 0}
    assert free == {"source_x", "source_y"}
    assert widths["source_x"] == pytest.approx(0.35 / math.sqrt(3.0), rel=0.1)
