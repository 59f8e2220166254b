"""What a training run is made from: network, task, preprocessing, recipe. All of it is hashed."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.core.config import StrictModel, config_sha256, load_config
from pipeline.core.registry import plugin_field
from pipeline.core.resources import sim_params
from pipeline.dataset.online import OnlineConfig
from pipeline.dataset.preprocess import PreprocessConfig
from pipeline.models.base import MODELS
from pipeline.tasks.base import TASKS

Logger = Literal["tensorboard", "mlflow", "wandb"]


class Augment(StrictModel):
    """Random symmetries of the square and shifts of training images, drawn anew in every epoch.

    Parameters
    ----------
    enabled : bool
        Without it none of the others counts.
    rotate : bool
        Quarter turns, each with probability 1/4.
    flip : bool
        Mirror images, half of the time; with ``rotate`` all eight symmetries of the square.
    max_shift : int
        Largest shift along each axis, pixels; what leaves on one side comes back on the other.
    redraw_noise : bool
        Expose the noise-free images of the dataset anew in every epoch (``keep: [noiseless]``).
        Images simulated on the fly never repeat, so it changes nothing there.
    """

    enabled: bool = True
    rotate: bool = True
    flip: bool = True
    max_shift: int = Field(0, ge=0)
    redraw_noise: bool = False


class Optimiser(StrictModel):
    """Adam (Kingma & Ba 2015), AdamW (Loshchilov & Hutter 2019) or SGD with Nesterov momentum.

    ``weight_decay`` applies to matrices and kernels, not to biases, norms and positions; ``betas``
    are Adam's, ``momentum`` is SGD's; ``clip`` bounds the norm of the whole gradient.
    """

    name: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = Field(0.9, ge=0, lt=1)
    clip: float | None = Field(1.0, gt=0)


class Schedule(StrictModel):
    """Learning rate over progress p in [0, 1]; each begins with a linear warm-up.

    ``cosine``: over the first ``warmup`` of the run up to the peak, then half a cosine down to
    ``floor`` times the peak. ``step``: times ``factor`` after every ``every`` epochs.
    ``one_cycle``: half a cosine up over ``warmup``, half a cosine down (Smith & Topin 2018).
    ``constant``: the peak.
    """

    name: Literal["cosine", "step", "one_cycle", "constant"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)
    floor: float = Field(0.01, ge=0, le=1)
    every: float = Field(10.0, gt=0)
    factor: float = Field(0.1, gt=0, le=1)


class Auxiliary(StrictModel):
    """Loss on maps that the simulation knows, beside the task's, while training only.

    A 1x1 convolution reads each map off the backbone's feature map; it is not part of the
    checkpoint. Needs batches with maps (images simulated on the fly) and a backbone with a
    ``features_map``.

    Parameters
    ----------
    maps : tuple of str
        Names of the batch's extra maps, e.g. ``difference`` (image minus smooth twin) or ``kappa``.
    weight : float
        Factor on the mean squared error of the standardised maps.
    """

    maps: tuple[str, ...] = Field(min_length=1)
    weight: float = Field(1.0, gt=0)


class TrainingConfig(StrictModel):
    """Everything that decides the weights, given a dataset.

    Parameters
    ----------
    online : OnlineConfig
        Size of the splits where images are simulated on the fly; a stored dataset has its own.
    epochs : int
        Passes over the train split.
    batch_size : int
        Images behind one gradient, over all processes together.
    accumulate : int
        Batches whose gradients are averaged before the optimiser takes a step.
    max_minutes : float, optional
        Wall time after which training ends, its schedule complete. Progress is then the larger of
        the step fraction and the time fraction, so such a run depends on the machine's speed;
        without it a run on a CPU is bit-for-bit reproducible.
    max_core_minutes : float, optional
        The same, of processor time of the training process: all its threads together, and not the
        processes that simulate on the fly. On a busy machine this is what a run costs.
    ema : float, optional
        Decay per step of an exponential moving average of the weights, which is then what is
        validated and kept.
    patience : int, optional
        Evaluations without a better metric after which training ends early.
    precision : str
        ``auto`` is bf16-mixed on a GPU that has it, 16-mixed on an older one, 32-true on a CPU.
    compile : bool
        Compile the network with ``torch.compile``: minutes at the start, faster steps after.
    loggers : tuple of str
        Where the rows of ``metrics.jsonl`` and ``metrics.csv`` go as well; not hashed.
    """

    description: str = ""
    model: plugin_field(MODELS)  # type: ignore[valid-type]
    task: plugin_field(TASKS) = Field("classification", validate_default=True)  # type: ignore[valid-type]
    online: OnlineConfig = OnlineConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    augment: Augment = Augment()
    auxiliary: Auxiliary | None = None
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    epochs: int = Field(gt=0)
    batch_size: int = Field(64, gt=1)
    accumulate: int = Field(1, gt=0)
    max_minutes: float | None = Field(None, gt=0)
    max_core_minutes: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)
    patience: int | None = Field(None, gt=0)
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    compile: bool = False
    loggers: tuple[Logger, ...] = ("tensorboard",)
    seed: int = Field(0, ge=0)

    @property
    def sha256(self) -> str:
        """Hash of all that decides the weights: neither the prose nor the loggers."""
        return config_sha256(self.with_changes(description="", loggers=()))


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
