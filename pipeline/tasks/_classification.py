"""Head, loss, calibration and metrics of ``classification``."""

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError
from pipeline.statistics import metrics as measure
from pipeline.statistics.calibrate import apply_temperature, fit_temperature
from pipeline.tasks.base import Answer, Floats, Outputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pipeline.tasks.classification import Config


class Classification:
    """K-way softmax; calibrated by one temperature."""

    monitor = "macro_auc"
    higher_is_better = True
    uncalibrated: Mapping[str, float] = MappingProxyType({"temperature": 1.0})

    def __init__(self, config: "Config", n_features: int, class_names: tuple[str, ...]) -> None:
        self.n_features = n_features
        self.class_names = class_names
        self.label_smoothing = config.label_smoothing
        self.wanted = config.class_weights
        self.weights: NDArray[np.float32] | None = None

    @cached_property
    def head(self) -> "nn.Module":
        """One logit for each class."""
        from torch import nn

        return nn.Linear(self.n_features, len(self.class_names))

    def prepare(self, labels: NDArray[np.integer], targets: Floats) -> None:
        """Weigh the classes by what the training images hold of them.

        Raises
        ------
        ConfigError
            If all are of one class.
        """
        count = np.bincount(labels, minlength=len(self.class_names))
        if np.count_nonzero(count) < 2:
            only = self.class_names[int(count.argmax())]
            raise ConfigError(
                f"all {count.sum()} training images are of class {only!r}: classification needs "
                "two classes or more"
            )
        if self.wanted == "none":
            return
        if self.wanted == "balanced":
            weights = count.sum() / (np.count_nonzero(count) * np.maximum(count, 1))
        else:
            weights = np.array([self.wanted.get(name, 1.0) for name in self.class_names])
        self.weights = weights.astype(np.float32)

    def loss(self, outputs: "Tensor", label: "Tensor", target: "Tensor") -> "Tensor":
        """Cross-entropy in nat, averaged over the batch with the weights of the classes."""
        import torch
        from torch.nn import functional

        weights = (
            None if self.weights is None else torch.from_numpy(self.weights).to(outputs.device)
        )
        return functional.cross_entropy(
            outputs.float(), label, weight=weights, label_smoothing=self.label_smoothing
        )

    def calibrate(self, outputs: Outputs) -> dict[str, float]:
        """Temperature of these outputs."""
        return {"temperature": fit_temperature(outputs.values, outputs.labels)}

    def answer(self, values: Floats, calibration: Mapping[str, float]) -> Answer:
        """Class probabilities (B, K)."""
        return Answer(class_probability=apply_temperature(values, calibration["temperature"]))

    def metrics(self, outputs: Outputs, calibration: Mapping[str, float]) -> dict[str, float]:
        """Cross-entropy (nat), accuracy, macro AUC and calibration error."""
        probability = apply_temperature(outputs.values, calibration["temperature"])
        return {
            "loss": measure.cross_entropy(outputs.labels, probability),
            "accuracy": measure.accuracy(outputs.labels, probability),
            "macro_auc": measure.macro_auc(outputs.labels, probability),
            "ece": measure.reliability(outputs.labels, probability).ece,
        }
