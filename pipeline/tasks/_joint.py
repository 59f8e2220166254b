"""Head, loss, calibration and metrics of ``joint``: those of its two tasks, side by side."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.base import Answer, Floats, Outputs, Task

if TYPE_CHECKING:
    from torch import Tensor, nn


class Joint:
    """Outputs are the class logits (B, K), then those of the regression."""

    monitor = "loss"
    higher_is_better = False

    def __init__(self, classes: Task, values: Task, n_classes: int, weight: float) -> None:
        self.classes, self.values = classes, values
        self.n_classes, self.weight = n_classes, weight
        self.uncalibrated: Mapping[str, float] = MappingProxyType(
            {**classes.uncalibrated, **values.uncalibrated}
        )

    @cached_property
    def head(self) -> "nn.Module":
        """Both heads on the same features."""
        from pipeline.tasks._side_by_side import SideBySide

        return SideBySide(self.classes.head, self.values.head)

    def prepare(self, labels: NDArray[np.integer], targets: Floats) -> None:
        """Prepare both."""
        self.classes.prepare(labels, targets)
        self.values.prepare(labels, targets)

    def loss(self, outputs: "Tensor", label: "Tensor", target: "Tensor") -> "Tensor":
        """Cross-entropy plus ``weight`` times the loss of the regression."""
        n = self.n_classes
        which = self.classes.loss(outputs[:, :n], label, target)
        return which + self.weight * self.values.loss(outputs[:, n:], label, target)

    def calibrate(self, outputs: Outputs) -> dict[str, float]:
        """Temperature, and the numbers of the regression."""
        which, values = self._split(outputs)
        return {**self.classes.calibrate(which), **self.values.calibrate(values)}

    def answer(self, values: Floats, calibration: Mapping[str, float]) -> Answer:
        """Class probabilities and posteriors."""
        which = self.classes.answer(values[:, : self.n_classes], calibration)
        about = self.values.answer(values[:, self.n_classes :], calibration)
        return dataclasses.replace(about, class_probability=which.class_probability)

    def metrics(self, outputs: Outputs, calibration: Mapping[str, float]) -> dict[str, float]:
        """Metrics of both; ``loss`` weighs them as training does."""
        which, values = self._split(outputs)
        of_classes = self.classes.metrics(which, calibration)
        of_values = self.values.metrics(values, calibration)
        both = of_classes["loss"] + self.weight * of_values["loss"]
        return {**of_values, **of_classes, "loss": both}

    def _split(self, outputs: Outputs) -> tuple[Outputs, Outputs]:
        n = self.n_classes
        return (
            dataclasses.replace(outputs, values=outputs.values[:, :n]),
            dataclasses.replace(outputs, values=outputs.values[:, n:]),
        )
