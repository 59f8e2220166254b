"""The task family: what a network is asked, and how its answer is trained, judged and told.

A kind is a file with ``Config`` and ``build(config, n_features, class_names, targets) -> Task``.
Its ``Config`` has the fields of :class:`TaskConfig`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from pipeline.core.config import StrictModel
from pipeline.core.errors import ConfigError
from pipeline.core.registry import Family

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pipeline.dataset.loader import Batch

TASKS = Family("task", "pipeline.tasks", ("Config", "build"))

Floats = NDArray[np.float64]

#: Where ``Batch.extra`` holds prepared images of a second domain (B, C, H, W).
OTHER_DOMAIN = "other_domain"

#: Quantiles of the training values that a transform remembers, evenly spaced from 0 to 1.
N_PRIOR = 65


class TargetTransform(StrictModel):
    """Invertible map between a stored truth and the number a network learns.

    ``z = (function(value) - mean) / std``, with ``mean`` and ``std`` from the train split;
    ``prior`` holds evenly spaced quantiles of ``function(value)`` there, from the smallest to the
    largest.
    """

    name: str
    unit: str
    function: Literal["identity", "log10"]
    mean: float
    std: PositiveFloat
    prior: tuple[float, ...] = Field(min_length=2)

    def forward(self, value: Floats) -> Floats:
        """Standardised value; NaN where the truth is NaN or outside the function's domain."""
        return (_apply(self.function, value) - self.mean) / self.std

    def inverse(self, z: Floats) -> Floats:
        """Value of ``function(truth)``: log10 of the unit for ``log10``."""
        return z * self.std + self.mean


def fit_target(
    name: str, unit: str, function: Literal["identity", "log10"], values: Floats
) -> TargetTransform:
    """Measure mean and spread of a truth column over the images that have it.

    Raises
    ------
    ConfigError
        If fewer than two images have a value, or all have the same.
    """
    known = _apply(function, values)
    known = known[np.isfinite(known)]
    if len(known) < 2 or np.ptp(known) == 0.0:
        raise ConfigError(
            f"target {name!r}: {len(known)} training images have a usable value; regression needs "
            "at least two different ones"
        )
    return TargetTransform(
        name=name,
        unit=unit,
        function=function,
        mean=float(known.mean()),
        std=float(known.std()),
        prior=tuple(np.quantile(known, np.linspace(0.0, 1.0, N_PRIOR)).tolist()),
    )


@dataclass(frozen=True)
class Outputs:
    """Raw outputs of a network over a whole split, with the truth, in one order.

    ``values`` (N, O), ``labels`` (N,), ``targets`` (N, T) untransformed, ``index`` (N,).
    """

    values: Floats
    labels: NDArray[np.int64]
    targets: Floats
    index: NDArray[np.int64]


@dataclass(frozen=True)
class Prediction:
    """What a run says about images; fields that the task does not give are None.

    Attributes
    ----------
    class_probability : (B, K), calibrated, or None
    target_mean, target_std : (B, T), in the unit of the target, or in dex for log10, or None
    target_quantile : (B, T, Q) at ``PROBABILITIES``, in the same unit, or None
    anomaly : (B,), how unlike the classes that were trained on, in robust standard deviations of
        validation images above their median, or None
    novelty : (B,), fraction of validation images that are closer to the training images
    """

    novelty: Floats
    class_probability: Floats | None = None
    target_mean: Floats | None = None
    target_std: Floats | None = None
    target_quantile: Floats | None = None
    anomaly: Floats | None = None


@dataclass(frozen=True)
class Answer:
    """The part of a :class:`Prediction` that a task makes from raw outputs."""

    class_probability: Floats | None = None
    target_mean: Floats | None = None
    target_std: Floats | None = None
    target_quantile: Floats | None = None
    anomaly: Floats | None = None


class TaskConfig(Protocol):
    """What the ``Config`` of every task has."""

    @property
    def kind(self) -> str:
        """Name of the kind."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Truth columns that the loader must bring along."""

    @property
    def function(self) -> Literal["identity", "log10"]:
        """Transform of those columns."""


class Task(Protocol):
    """Head, loss, calibration, answer and metrics of one task."""

    #: Metric that decides which weights are best, and whether more of it is better.
    monitor: str
    higher_is_better: bool
    #: Calibration that changes nothing, for metrics while training.
    uncalibrated: Mapping[str, float]

    @property
    def head(self) -> "nn.Module":
        """Last layer of the network: features (B, F) to outputs (B, O)."""

    def prepare(self, labels: NDArray[np.integer], targets: Floats) -> None:
        """See labels (N,) and targets (N, T) of the training images once, before training.

        Raises
        ------
        ConfigError
            If nothing can be learnt from them.
        """

    def loss(self, outputs: "Tensor", label: "Tensor", target: "Tensor") -> "Tensor":
        """Scalar loss of a batch."""

    def calibrate(self, outputs: Outputs) -> dict[str, float]:
        """Numbers that :meth:`answer` needs, fitted on validation outputs."""

    def answer(self, values: Floats, calibration: Mapping[str, float]) -> Answer:
        """Calibrated answer for raw outputs (B, O), in numpy.

        A network may be scored where torch is not installed: neither building a task nor this
        method imports it.
        """

    def metrics(self, outputs: Outputs, calibration: Mapping[str, float]) -> dict[str, float]:
        """Metrics of a whole split by name, ``monitor`` among them."""


@runtime_checkable
class NeedsShape(Protocol):
    """A task whose head depends on the shape of the images, e.g. because it draws them.

    Such a head may have ``sees_image = True``: it is then called with features (B, F) and the
    prepared images (B, C, H, W).
    """

    def complete(self, image_shape: tuple[int, int, int]) -> None:
        """Finish the head for images (C, H, W); called once, right after ``build``."""


@runtime_checkable
class NeedsBatch(Protocol):
    """A task whose loss needs more than raw outputs: changed images, or those of a second domain.

    Attributes
    ----------
    helper : nn.Module or None
        Trained and resumed beside the network; not part of the checkpoint.
    progress : float
        How much of the training is done, 0 to 1; kept up to date by the training loop.
    """

    helper: "nn.Module | None"
    progress: float

    def batch_loss(self, network: "nn.Module", batch: "Batch") -> "Tensor":
        """Scalar loss of a batch, in place of ``loss``; ``network`` has ``backbone``, ``head``."""


@runtime_checkable
class NeedsFeatures(Protocol):
    """A task whose head holds what is measured on features, not learnt by gradients."""

    def settle(self, head: "nn.Module", features: "Tensor") -> None:
        """Measure it on features (N, F) of training images, before ``head`` is judged."""


def build_task(
    config: StrictModel,
    n_features: int,
    class_names: tuple[str, ...],
    targets: tuple[TargetTransform, ...],
    image_shape: tuple[int, int, int],
) -> Task:
    """Build the task of a task block with a freshly initialised head, for images (C, H, W)."""
    kind = getattr(config, "kind", "")
    task: Task = TASKS.load(kind).build(config, n_features, class_names, targets)
    if isinstance(task, NeedsShape):
        task.complete(image_shape)
    return task


def keeps_last(task: Task) -> bool:
    """Whether the last weights are kept instead of those with the best monitored metric."""
    return bool(getattr(task, "keeps_last", False))


def trained_classes(config: StrictModel) -> tuple[str, ...]:
    """Names of the classes that a task is trained on; all of them if empty."""
    names: tuple[str, ...] = getattr(config, "inliers", ())
    return names


def _apply(function: str, value: Floats) -> Floats:
    value = np.asarray(value, dtype=np.float64)
    if function == "identity":
        return value
    return np.log10(value, out=np.full(value.shape, np.nan), where=value > 0)
