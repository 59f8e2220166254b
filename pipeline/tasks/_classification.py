"""Head, loss, calibration and metrics of ``classification``."""

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn
from torch.nn import functional

from pipeline.statistics import metrics as measure
from pipeline.statistics.calibrate import apply_temperature, fit_temperature
from pipeline.tasks.base import Answer, Floats, Outputs


class Classification:
    """K-way softmax; calibrated by one temperature."""

    monitor = "macro_auc"
    higher_is_better = True
    uncalibrated: Mapping[str, float] = MappingProxyType({"temperature": 1.0})

    def __init__(self, n_features: int, n_classes: int, label_smoothing: float) -> None:
        self.head: nn.Module = nn.Linear(n_features, n_classes)
        self.label_smoothing = label_smoothing

    def loss(self, outputs: Tensor, label: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy in nat, averaged over the batch."""
        return functional.cross_entropy(
            outputs.float(), label, label_smoothing=self.label_smoothing
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
