"""What a dataset is made from: scenes, telescope, engine, size, seed and splits."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from pipeline.core.config import StrictModel, dump, load_config
from pipeline.core.provenance import canonical_json, sha256_hex
from pipeline.core.registry import plugin_field
from pipeline.core.resources import sim_params
from pipeline.engines.base import ENGINES
from pipeline.physics.geometry import Grid
from pipeline.physics.instrument import Instrument, load_instrument
from pipeline.physics.scene import SceneConfig


class Splits(StrictModel):
    """Fractions of the images used to train, to validate and to test; they add up to one."""

    train: float = Field(0.7, gt=0, lt=1)
    val: float = Field(0.15, gt=0, lt=1)
    test: float = Field(0.15, gt=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"train, val and test must add up to 1, found {total:g}")
        return self


def _instrument(value: object) -> object:
    return load_instrument(value) if isinstance(value, str) else value


#: An instrument in YAML: the name of a file in ``sim_params/instruments``, or a whole block.
InstrumentField = Annotated[Instrument, BeforeValidator(_instrument)]


#: Keys that decide no byte of an image.
NOT_HASHED = ("n_images", "description", "leak_exemptions")


class DatasetConfig(StrictModel):
    """Everything that decides the value of a byte of a dataset, and how many images it has."""

    description: str = ""
    n_images: int = Field(gt=0)
    shard_size: int = Field(500, gt=0)
    seed: int = Field(0, ge=0)
    engine: plugin_field(ENGINES)  # type: ignore[valid-type]
    n_pix: int = Field(gt=0)
    supersample: int = Field(2, gt=0, le=16)
    instruments: tuple[InstrumentField, ...] = Field(min_length=1)
    splits: Splits = Splits()
    #: Images whose detectability is stored: a fixed 2 % of each class and the test split, or all.
    detectability: Literal["none", "subset", "all"] = "none"
    #: Arrays to keep beside the images: the noise-free ones, and the variance of each pixel.
    keep: tuple[Literal["noiseless", "variance"], ...] = ()
    leak_exemptions: dict[str, str] = Field(default_factory=dict)  # class -> why set B may tell it
    scenes: SceneConfig

    @model_validator(mode="after")
    def _one_pixel_scale(self) -> Self:
        scales = sorted({i.pixel_scale for i in self.instruments})
        if len(scales) > 1:
            raise ValueError(f"instruments must share one pixel scale, found {scales} arcsec")
        bands = self.bands
        if len(set(bands)) < len(bands):
            raise ValueError(f"instruments must have different names, found {list(bands)}")
        return self

    @model_validator(mode="after")
    def _fields_fill_the_image(self) -> Self:
        self.scenes.check_grid(self.grid)
        return self

    @model_validator(mode="after")
    def _exempt_classes_exist(self) -> Self:
        unknown = sorted(set(self.leak_exemptions) - set(self.class_names))
        if unknown:
            known = ", ".join(self.class_names)
            raise ValueError(f"leak_exemptions: no class {', '.join(unknown)}; classes: {known}")
        return self

    @property
    def pixel_scale(self) -> float:
        """Pixel scale of every band, arcsec."""
        return float(self.instruments[0].pixel_scale)

    @property
    def bands(self) -> tuple[str, ...]:
        """Name of each channel: its instrument's."""
        return tuple(i.name for i in self.instruments)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their indices."""
        return self.scenes.class_names

    @property
    def grid(self) -> Grid:
        """The pixel grid of every image."""
        return Grid(self.n_pix, self.pixel_scale, self.supersample)

    @property
    def n_shards(self) -> int:
        """Number of shards; the last may be partly filled."""
        return -(-self.n_images // self.shard_size)

    @property
    def sha256(self) -> str:
        """Hash of what decides image i: everything but the number of images and the prose."""
        data = _without_paths({k: v for k, v in dump(self).items() if k not in NOT_HASHED})
        return sha256_hex(canonical_json(data))


def _without_paths(value: Any) -> Any:  # Any: plain JSON
    """Drop the path of every block that knows the hash of what lies there."""
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    if not isinstance(value, dict):
        return value
    hashed = "sha256" in value
    return {k: _without_paths(v) for k, v in value.items() if not (hashed and k == "path")}


def load_dataset_config(
    source: str | Path, overrides: list[str] | tuple[str, ...] = ()
) -> DatasetConfig:
    """Read a preset by name, or a YAML file, as a dataset configuration.

    Raises
    ------
    ConfigError
        Naming file, line, key, what was found and what was expected.
    """
    return load_config(source, DatasetConfig, overrides, presets=sim_params())
