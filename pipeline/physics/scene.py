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
from pipeline.core.seeding import Stream, child_rngs
from pipeline.physics import cosmology, macro
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
from pipeline.physics.lens_light import TRUTH as _LENS_LIGHT_TRUTH
from pipeline.physics.lens_light import LensLightConfig, draw_lens_light
from pipeline.physics.macro import MacroConfig
from pipeline.physics.population import CLASS_TRUTH, draw_population
from pipeline.physics.quantities import MassPrior, RedshiftPrior
from pipeline.physics.shapes import BoxPosition, DiscPosition, PlacedPosition
from pipeline.physics.sources.base import SOURCES, DrawnSource
from pipeline.physics.substructure.base import SUBSTRUCTURE

if TYPE_CHECKING:
    type AnySource = StrictModel
    type AnySubstructure = StrictModel
else:
    AnySource = plugin_field(SOURCES)
    AnySubstructure = plugin_field(SUBSTRUCTURE)

#: Redshift that DeepLenseSim gives lenstronomy as the convention of its deflections.
_LEGACY_CONVENTION = 2.5

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


class ClassConfig(StrictModel):
    """One class of lenses."""

    substructure: AnySubstructure
    macro: MacroConfig | None = None  # only under class_dependent_macro


class Defects(StrictModel):
    """Faults of DeepLenseSim, each off unless a legacy preset asks for it (PHYSICS 6)."""

    einstein_radius_bug: bool = False  # luminosity distances and D_ls = D_s - D_l
    z_convention_bug: bool = False  # deflections taken as those of a source at z = 2.5
    mass_leak: bool = False  # macro lens not lowered by the mass of the substructure
    class_dependent_macro: bool = False  # classes may have a macro lens of their own


class SceneConfig(StrictModel):
    """What the lenses of a dataset look like."""

    cosmology: FlatLCDM = FlatLCDM()
    z_lens: RedshiftPrior = Constant(value=0.5)
    z_source: RedshiftPrior = Constant(value=1.0)
    host_mass: MassPrior = Constant(value=1e13)  # M200 of the halo; PHYSICS 4.3
    macro: MacroConfig
    source: AnySource
    source_position: DiscPosition | BoxPosition | PlacedPosition = Field(
        default=DiscPosition(), discriminator="kind"
    )
    lens_light: LensLightConfig | None = None
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

    @model_validator(mode="after")
    def _macro_blind_to_class(self) -> Self:
        own = [name for name, block in self.classes.items() if block.macro is not None]
        if own and not self.defects.class_dependent_macro:
            raise ValueError(
                f"class {own[0]!r} has a macro lens of its own, which gives the class away; only "
                "defects.class_dependent_macro allows that"
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
    subtracted_light : tuple of LightComponent
        Light of the lens that is gone from the image, but not from its noise.
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
    subtracted_light: tuple[LightComponent, ...] = ()


def truth_columns(config: SceneConfig) -> dict[str, TruthColumn]:
    """Columns of every scene's truth under ``config``, in a fixed order."""
    columns = {**nuisance_columns(config), **CLASS_TRUTH}
    for block in config.classes.values():
        columns.update(SUBSTRUCTURE.load(_kind(block.substructure)).TRUTH)
    return columns


def nuisance_columns(config: SceneConfig) -> dict[str, TruthColumn]:
    """Columns of the truth that no class may touch: lens and source."""
    source = SOURCES.load(_kind(config.source)).TRUTH
    macros = [config.macro, *(b.macro for b in config.classes.values() if b.macro is not None)]
    lens_light = {} if config.lens_light is None else _LENS_LIGHT_TRUTH
    lens = {**_HOST_TRUTH, **macro.truth_columns(macros)}
    return {**lens, **_PLACE_TRUTH, **source, **lens_light}


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
    # Children: 0 host and macro lens, 1 source, 2 lens light, 3 multipoles. Append only.
    lens_rng, source_rng, light_rng, pole_rng = child_rngs(seed, index, Stream.SCENE, 4)
    macro_config = config.classes[name].macro or config.macro
    host, drawn, scaling = _draw_host(config, macro_config, lens_rng, pole_rng)
    place = config.source_position.draw(lens_rng, host.theta_E)
    source: DrawnSource = SOURCES.load(_kind(config.source)).draw(config.source, source_rng)
    x, y = host.center_x + place[0], host.center_y + place[1]

    light, light_truth = _draw_lens_light(config, drawn, light_rng)

    block = config.classes[name].substructure
    population, components, class_truth = draw_population(
        block,
        host,
        seed,
        index,
        signal_scale=config.signal_scale,
        mass_leak=config.defects.mass_leak,
    )
    theta_macro = class_truth["theta_E_macro"]
    truth = {
        "z_lens": host.z_lens,
        "z_source": host.z_source,
        "m200": host.m200,
        "sigma_v": host.sigma_v,
        **macro.macro_truth(macro_config, drawn, host),
        "source_x": x,
        "source_y": y,
        **source.truth,
        **light_truth,
        **class_truth,
        **population.truth,
    }
    return Scene(
        index=index,
        class_name=name,
        host=host,
        macro=macro.macro_components(macro_config, drawn, host, theta_macro, scaling),
        perturbers=population.perturbers,
        source=tuple(_moved(component, x, y) for component in source.components),
        **light,
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


def _draw_lens_light(
    config: SceneConfig, drawn: macro.Macro, rng: np.random.Generator
) -> tuple[dict[str, tuple[LightComponent, ...]], dict[str, float]]:
    """Lens light by its field of :class:`Scene`, and its columns of the truth."""
    if config.lens_light is None:
        return {"lens_light": (), "subtracted_light": ()}, {}
    components, truth = draw_lens_light(
        config.lens_light, (drawn.e1, drawn.e2), (drawn.center_x, drawn.center_y), rng
    )
    if config.lens_light.subtracted:
        return {"lens_light": (), "subtracted_light": components}, truth
    return {"lens_light": components, "subtracted_light": ()}, truth


def _draw_host(
    config: SceneConfig,
    macro_config: MacroConfig,
    rng: np.random.Generator,
    pole_rng: np.random.Generator,
) -> tuple[Host, macro.Macro, float]:
    """Host, macro lens, and the factor of the z_convention_bug (1 without it)."""
    z_lens, z_source = config.z_lens.draw(rng), config.z_source.draw(rng)
    m200 = config.host_mass.draw(rng)
    drawn = macro.draw_macro(macro_config, rng, pole_rng)
    model = config.cosmology
    if config.defects.einstein_radius_bug:
        sigma_crit = cosmology.legacy_critical_surface_density(model, z_lens, z_source)
    else:
        sigma_crit = cosmology.critical_surface_density(model, z_lens, z_source)
    scaling = 1.0
    if config.defects.z_convention_bug:
        scaling = cosmology.source_plane_scaling(model, z_lens, z_source, _LEGACY_CONVENTION)
    theta_E = drawn.size
    if macro_config.einstein_mass is not None:
        theta_E = cosmology.einstein_radius_point(drawn.size, sigma_crit)
    if macro_config.sigma_v is not None:
        # DeepLenseSim converts it at the redshift of the convention: the slip cancels.
        theta_E = cosmology.einstein_radius_isothermal(model, drawn.size, z_lens, z_source)
    else:
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


def _moved(component: LightComponent, x: float, y: float) -> LightComponent:
    params = dict(component.params)
    params["center_x"] += x
    params["center_y"] += y
    return dataclasses.replace(component, params=params)
