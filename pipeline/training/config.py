"""What a training run is made from: network, task, preprocessing, recipe. All of it is hashed."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.core.config import StrictModel, config_sha256, load_config
from pipeline.core.registry import plugin_field
from pipeline.core.resources import sim_params
from pipeline.dataset.preprocess import PreprocessConfig
from pipeline.models.base import MODELS
from pipeline.tasks.base import TASKS


class Augment(StrictModel):
    """Random symmetries of the square (quarter turns, flips) and shifts of training images."""

    enabled: bool = True
    max_shift: int = Field(0, ge=0)


class Optimiser(StrictModel):
    """Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019).

    ``weight_decay`` applies to matrices and kernels, not to biases, norms and positions;
    ``clip`` bounds the norm of the whole gradient.
    """

    name: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = Field(1.0, gt=0)


class Schedule(StrictModel):
    """Learning rate over progress p in [0, 1].

    ``cosine``: linear warm-up over the first ``warmup`` of the run, then half a cosine down to
    ``floor`` times the peak. ``one_cycle``: half a cosine up over ``warmup``, half a cosine down
    (Smith & Topin 2018). ``constant``: warm-up, then the peak.
    """

    name: Literal["cosine", "one_cycle", "constant"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)
    floor: float = Field(0.01, ge=0, le=1)


class TrainingConfig(StrictModel):
    """Everything that decides the weights, given a dataset.

    Parameters
    ----------
    epochs : int
        Passes over the train split.
    max_minutes : float, optional
        Wall time after which training ends, its schedule complete. Progress is then the larger of
        the step fraction and the time fraction, so such a run depends on the machine's speed;
        without it a run on a CPU is bit-for-bit reproducible.
    ema : float, optional
        Decay per step of an exponential moving average of the weights, which is then what is
        validated and kept.
    patience : int, optional
        Evaluations without a better metric after which training ends early.
    precision : str
        ``auto`` is bf16-mixed on a GPU that has it, 16-mixed on an older one, 32-true on a CPU.
    """

    description: str = ""
    model: plugin_field(MODELS)  # type: ignore[valid-type]
    task: plugin_field(TASKS) = Field("classification", validate_default=True)  # type: ignore[valid-type]
    preprocess: PreprocessConfig = PreprocessConfig()
    augment: Augment = Augment()
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    epochs: int = Field(gt=0)
    batch_size: int = Field(64, gt=1)
    max_minutes: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)
    patience: int | None = Field(None, gt=0)
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    seed: int = Field(0, ge=0)

    @property
    def sha256(self) -> str:
        """Hash of everything but the prose."""
        return config_sha256(self.with_changes(description=""))


def training_presets() -> Path:
    """Folder of the shipped training configurations."""
    return sim_params() / "training"


def load_training_config(
    source: str | Path, overrides: list[str] | tuple[str, ...] = ()
) -> TrainingConfig:
    """Read a training preset by name, or a YAML file.

    Raises
    ------
    ConfigError
        Naming file, line, key, what was found and what was expected.
    """
    return load_config(source, TrainingConfig, overrides, presets=training_presets())
