"""A scene is a lens and its source as data, and a pure function of (config, seed, index).

Nuisances (host, macro lens, source) come from streams that the class never touches, so image i has
the same lens and source whatever its class; substructure has a stream of its own (PHYSICS 12).
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field, field_serializer, field_validator, model_validator

from pipeline.core.config import StrictModel, dump
from pipeline.core.errors import PhysicsError
from pipeline.core.priors import Constant
from pipeline.core.registry import plugin_field
from pipeline.core.seeding import Stream, child_rngs, image_rng
from pipeline.physics import compensation, cosmology, macro
from pipeline.physics.components import (
    FieldComponent,
    LightComponent,
    MassComponent,
    Perturbers,
    TruthColumn,
)
from pipeline.physics.cosmology import FlatLCDM
from pipeline.physics.geometry import Grid
from pipeline.physics.host import Host, velocity_dispersion
from pipeline.physics.macro import MacroConfig
from pipeline.physics.quantities import MassPrior, RedshiftPrior
from pipeline.physics.shapes import BoxPosition, DiscPosition
from pipeline.physics.sources.base import SOURCES, DrawnSource
from pipeline.physics.substructure.base import SUBSTRUCTURE, Population

if TYPE_CHECKING:
    type AnySource = StrictModel
    type AnySubstructure = StrictModel
else:
    AnySource = plugin_field(SOURCES)
    AnySubstructure = plugin_field(SUBSTRUCTURE)

#: Redshift that DeepLenseSim gives lenstronomy as the convention of its deflections.
_LEGACY_CONVENTION = 2.5
#: A population that would hold more than this share of the mass in the ring is drawn again.
_MAX_SUBSTRUCTURE = 0.5
_MAX_REDRAWS = 1000

_HOST_TRUTH = {
    "z_lens": TruthColumn("", "redshift of the lens"),
    "z_source": TruthColumn("", "redshift of the source"),
    "m200": TruthColumn("M_sun", "mass of the host halo"),
    "sigma_v": TruthColumn("km/s", "velocity dispersion of the isothermal sphere of theta_E"),
}
_PLACE_TRUTH = {
    "source_x": TruthColumn("arcsec", "place of the source"),
    "source_y": TruthColumn("arcsec", "place of the source"),
}
_CLASS_TRUTH = {
    "theta_E_macro": TruthColumn("arcsec", "Einstein radius of the macro lens alone"),
    "n_sub": TruthColumn("", "number of perturbers"),
    "m_sub": TruthColumn("M_sun", "total bound mass of the perturbers"),
    "m_max": TruthColumn("M_sun", "bound mass of the most massive perturber"),
    "m_tot_2d": TruthColumn("M_sun", "projected mass of the perturbers inside theta_E"),
    "f_sub": TruthColumn("", "mean convergence of a field population over 1/2"),
    "log10_axion_mass": TruthColumn("", "log10 of the axion mass in eV"),
    "axion_mass": TruthColumn("eV", "mass of the axion"),
    "n_redrawn": TruthColumn("", "populations refused because they outweigh the macro lens"),
}


class ClassConfig(StrictModel):
    """One class of lenses."""

    substructure: AnySubstructure


class Defects(StrictModel):
    """Faults of DeepLenseSim, each off unless a legacy preset asks for it (PHYSICS 6)."""

    einstein_radius_bug: bool = False  # luminosity distances and D_ls = D_s - D_l
    z_convention_bug: bool = False  # deflections taken as those of a source at z = 2.5
    mass_leak: bool = False  # macro lens not lowered by the mass of the substructure


class SceneConfig(StrictModel):
    """What the lenses of a dataset look like."""

    cosmology: FlatLCDM = FlatLCDM()
    z_lens: RedshiftPrior = Constant(value=0.5)
    z_source: RedshiftPrior = Constant(value=1.0)
    host_mass: MassPrior = Constant(value=1e13)  # M200 of the halo; PHYSICS 4.3
    macro: MacroConfig
    source: AnySource
    source_position: DiscPosition | BoxPosition = Field(
        default=DiscPosition(), discriminator="kind"
    )
    classes: dict[str, ClassConfig] = Field(min_length=1)
    signal_scale: float = Field(default=1.0, ge=0)  # factor on every mass of the substructure
    defects: Defects = Defects()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the configuration; image i is of class i % n."""
        return tuple(self.classes)

    def check_grid(self, grid: Grid) -> None:
        """Refuse a substructure that cannot fill the images of ``grid``.

        Raises
        ------
        ValueError
        """
        for name, block in self.classes.items():
            check = getattr(block.substructure, "check_grid", None)  # of kinds with a field
            if check is None:
                continue
            try:
                check(grid)
            except ValueError as error:
                raise ValueError(f"classes.{name}.substructure: {error}") from error

    @field_validator("classes", mode="before")
    @classmethod
    def _classes_from_list(cls, value: Any) -> Any:  # Any: raw YAML or JSON
        if isinstance(value, list | tuple) and all(isinstance(v, dict) for v in value):
            named = {v.get("name"): {k: x for k, x in v.items() if k != "name"} for v in value}
            return named if len(named) == len(value) and None not in named else value
        return value

    @field_serializer("classes", when_used="json")
    def _classes_as_list(self, value: Mapping[str, ClassConfig]) -> list[dict[str, Any]]:
        # A list, because the order of classes is part of what is hashed and stored.
        return [{"name": name, **dump(block)} for name, block in value.items()]

    @model_validator(mode="after")
    def _source_behind_lens(self) -> Self:
        if self.z_source.support()[0] <= self.z_lens.support()[1]:
            raise ValueError(
                f"z_source can be {self.z_source.support()[0]:g}, not behind a lens at z_lens "
                f"{self.z_lens.support()[1]:g}"
            )
        return self


@dataclass(frozen=True)
class Scene:
    """One lens as data.

    Attributes
    ----------
    index : int
        Number of the image in its dataset.
    class_name : str
    host : Host
    macro : tuple of MassComponent
    perturbers : tuple of Perturbers
        Substructure, and the disc that balances its mean mass.
    fields : tuple of FieldComponent
        Substructure that is no sum of profiles.
    source, lens_light : tuple of LightComponent
    group : str
        Identity of a real source galaxy; "" for parametric ones.
    truth : Mapping[str, float]
        One value per column of :func:`truth_columns`; NaN where the class has none.
    """

    index: int
    class_name: str
    host: Host
    macro: tuple[MassComponent, ...]
    perturbers: tuple[Perturbers, ...]
    source: tuple[LightComponent, ...]
    lens_light: tuple[LightComponent, ...]
    group: str
    truth: Mapping[str, float]
    fields: tuple[FieldComponent, ...] = ()


def truth_columns(config: SceneConfig) -> dict[str, TruthColumn]:
    """Columns of every scene's truth under ``config``, in a fixed order."""
    columns = {**nuisance_columns(config), **_CLASS_TRUTH}
    for block in config.classes.values():
        columns.update(SUBSTRUCTURE.load(_kind(block.substructure)).TRUTH)
    return columns


def nuisance_columns(config: SceneConfig) -> dict[str, TruthColumn]:
    """Columns of the truth that no class may touch: lens and source."""
    source = SOURCES.load(_kind(config.source)).TRUTH
    return {**_HOST_TRUTH, **macro.TRUTH, **_PLACE_TRUTH, **source}


def draw_scene(config: SceneConfig, seed: int, index: int, class_name: str | None = None) -> Scene:
    """Draw the scene of image ``index``.

    Parameters
    ----------
    config : SceneConfig
    seed, index : int
    class_name : str, optional
        Default is class ``index % n_classes``. Scenes that differ in class alone share every
        nuisance, bit for bit.

    Returns
    -------
    Scene
    """
    name = config.class_names[index % len(config.classes)] if class_name is None else class_name
    if name not in config.classes:
        raise PhysicsError(f"{name!r} is not a class; known: {', '.join(config.class_names)}")
    # Children: 0 host and macro lens, 1 source, 2 lens light. Append only.
    lens_rng, source_rng, _ = child_rngs(seed, index, Stream.SCENE, 3)
    host, drawn, scaling = _draw_host(config, lens_rng)
    place = config.source_position.draw(lens_rng, host.theta_E)
    source: DrawnSource = SOURCES.load(_kind(config.source)).draw(config.source, source_rng)
    x, y = host.center_x + place[0], host.center_y + place[1]

    block = config.classes[name].substructure
    population, components, class_truth = _draw_population(config, block, host, seed, index)
    theta_macro = class_truth["theta_E_macro"]
    truth = {
        "z_lens": host.z_lens,
        "z_source": host.z_source,
        "m200": host.m200,
        "sigma_v": host.sigma_v,
        **macro.macro_truth(drawn, host),
        "source_x": x,
        "source_y": y,
        **source.truth,
        **class_truth,
        **population.truth,
    }
    return Scene(
        index=index,
        class_name=name,
        host=host,
        macro=macro.macro_components(config.macro, drawn, host, theta_macro, scaling),
        perturbers=population.perturbers,
        source=tuple(_moved(component, x, y) for component in source.components),
        lens_light=(),
        group=source.group,
        truth={key: float(truth.get(key, math.nan)) for key in truth_columns(config)},
        fields=components,
    )


def smooth_twin(scene: Scene) -> Scene:
    """The same lens without substructure, its macro lens at the total Einstein radius."""
    ellipsoid, *rest = scene.macro
    whole = dataclasses.replace(
        ellipsoid, params={**ellipsoid.params, "theta_E": scene.host.theta_E}
    )
    return dataclasses.replace(scene, macro=(whole, *rest), perturbers=(), fields=())


def _kind(block: StrictModel) -> str:
    return str(getattr(block, "kind"))  # noqa: B009  # every Config of a kind has it


def _draw_host(config: SceneConfig, rng: np.random.Generator) -> tuple[Host, macro.Macro, float]:
    """Host, macro lens, and the factor of the z_convention_bug (1 without it)."""
    z_lens, z_source = config.z_lens.draw(rng), config.z_source.draw(rng)
    m200 = config.host_mass.draw(rng)
    drawn = macro.draw_macro(config.macro, rng)
    model = config.cosmology
    if config.defects.einstein_radius_bug:
        sigma_crit = cosmology.legacy_critical_surface_density(model, z_lens, z_source)
    else:
        sigma_crit = cosmology.critical_surface_density(model, z_lens, z_source)
    scaling = 1.0
    if config.defects.z_convention_bug:
        scaling = cosmology.source_plane_scaling(model, z_lens, z_source, _LEGACY_CONVENTION)
    theta_E = drawn.size
    if config.macro.theta_E is None:
        theta_E = cosmology.einstein_radius_point(drawn.size, sigma_crit)
    # A power law deflects like theta_E^(slope-1): scaling it is shrinking theta_E.
    theta_E *= scaling ** (1.0 / (drawn.slope - 1.0))
    host = Host(
        z_lens=z_lens,
        z_source=z_source,
        theta_E=theta_E,
        m200=m200,
        sigma_v=velocity_dispersion(model, theta_E, z_lens, z_source),
        cosmology=model,
        sigma_crit=sigma_crit / scaling,
        kpc_per_arcsec=model.kpc_per_arcsec(z_lens),
        center_x=drawn.center_x,
        center_y=drawn.center_y,
        slope=drawn.slope,
    )
    return host, drawn, scaling


def _draw_population(
    config: SceneConfig, block: StrictModel, host: Host, seed: int, index: int
) -> tuple[Population, tuple[FieldComponent, ...], dict[str, float]]:
    """Substructure after signal_scale and compensation, and the columns of ``_CLASS_TRUTH``."""
    rng = image_rng(seed, index, Stream.SUBSTRUCTURE)
    draw = SUBSTRUCTURE.load(_kind(block)).draw
    for n_redrawn in range(_MAX_REDRAWS):
        population: Population = draw(block, host, rng)
        masses = tuple(
            compensation.scaled(p, config.signal_scale) for p in population.perturbers if len(p)
        )
        components = _realised(population, config.signal_scale, seed, index)
        inside = compensation.mean_deflection(masses, host, host.theta_E)
        perturbers, theta_macro, net = masses, host.theta_E, inside
        net += compensation.mean_field_deflection(components, host, host.theta_E)
        if not config.defects.mass_leak:
            if masses and population.disc_radius > 0:
                disc = compensation.negative_disc(masses, population.disc_radius, host)
                perturbers = (*masses, disc)
                net += compensation.mean_deflection((disc,), host, host.theta_E)
            if abs(net) > _MAX_SUBSTRUCTURE * host.theta_E:
                continue
            theta_macro = compensation.macro_einstein_radius(host.theta_E, host.slope, net)
        truth = {
            "theta_E_macro": theta_macro,
            "m_tot_2d": math.pi * host.sigma_crit * host.theta_E * inside,
            "n_redrawn": float(n_redrawn),
            **_mass_truth(masses, population.disc_radius, host),
        }
        return dataclasses.replace(population, perturbers=perturbers), components, truth
    raise PhysicsError(
        f"{_kind(block)}: {_MAX_REDRAWS} populations in a row hold more than half of the mass in "
        "the ring; lower their masses or signal_scale"
    )


def _realised(
    population: Population, signal_scale: float, seed: int, index: int
) -> tuple[FieldComponent, ...]:
    """Random fields of a population, each from its own child of the image's stream FIELD."""
    rngs = child_rngs(seed, index, Stream.FIELD, len(population.fields))
    return tuple(
        compensation.scaled_field(field.realise(rng), signal_scale)
        for field, rng in zip(population.fields, rngs, strict=True)
    )


def _mass_truth(
    perturbers: tuple[Perturbers, ...], disc_radius: float, host: Host
) -> dict[str, float]:
    mass = np.concatenate([p.mass for p in perturbers]) if perturbers else np.zeros(0)
    total = float(mass.sum())
    spread = math.nan if perturbers else 0.0
    if disc_radius > 0:
        spread = 2.0 * total / (host.sigma_crit * math.pi * disc_radius**2)
    return {
        "n_sub": float(len(mass)),
        "m_sub": total,
        "m_max": float(mass.max()) if len(mass) else 0.0,
        "f_sub": spread,
    }


def _moved(component: LightComponent, x: float, y: float) -> LightComponent:
    params = dict(component.params)
    params["center_x"] += x
    params["center_y"] += y
    return dataclasses.replace(component, params=params)
