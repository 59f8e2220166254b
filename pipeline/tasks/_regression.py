"""Head, loss, calibration and metrics of ``regression``."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from scipy.special import erf  # type: ignore[import-untyped]
from torch import Tensor, nn

from pipeline.statistics.calibrate import fit_std_factor
from pipeline.tasks.base import Answer, Floats, Outputs, TargetTransform

#: Bounds of the standard deviation, in units of the spread of the target over the train split.
MIN_STD, MAX_STD = 1e-3, 1e2


class Regression:
    """Gaussian mean and width of each standardised target (Nix & Weigend 1994).

    Calibrated by one factor on all widths. ``mae_dex`` is the mean absolute error in the
    transformed unit (dex for log10) over all images and targets that have a value.
    """

    monitor = "mae_dex"
    higher_is_better = False
    uncalibrated: Mapping[str, float] = MappingProxyType({"std_factor": 1.0})

    def __init__(self, n_features: int, targets: tuple[TargetTransform, ...]) -> None:
        self.head: nn.Module = nn.Linear(n_features, 2 * len(targets))
        self.targets = targets

    def loss(self, outputs: Tensor, label: Tensor, target: Tensor) -> Tensor:
        """Gaussian negative log-likelihood in nat per value; 0 in a batch without any value."""
        outputs = outputs.float()
        mean, log_std = outputs[:, : len(self.targets)], outputs[:, len(self.targets) :]
        truth = torch.stack([_forward(t, target[:, i]) for i, t in enumerate(self.targets)], dim=1)
        known = torch.isfinite(truth)
        # Masked before the arithmetic: a NaN times zero has a NaN gradient.
        residual = mean - torch.where(known, truth, mean.detach())
        log_std = log_std.clamp(np.log(MIN_STD), np.log(MAX_STD))
        cost = 0.5 * (residual * torch.exp(-log_std)).square() + log_std
        total = torch.where(known, cost, torch.zeros_like(cost)).sum()
        return total / known.sum().clamp(min=1)

    def calibrate(self, outputs: Outputs) -> dict[str, float]:
        """Factor on the standard deviations."""
        truth, mean, std = self._known(outputs, 1.0)
        return {"std_factor": fit_std_factor(truth - mean, std)}

    def answer(self, values: Floats, calibration: Mapping[str, float]) -> Answer:
        """Mean and standard deviation (B, T) of each transformed target."""
        n = len(self.targets)
        log_std = np.clip(values[:, n:], np.log(MIN_STD), np.log(MAX_STD))
        spread = np.array([t.std for t in self.targets])
        mean = [t.inverse(values[:, i]) for i, t in enumerate(self.targets)]
        return Answer(
            target_mean=np.stack(mean, axis=1),
            target_std=np.exp(log_std) * spread * calibration["std_factor"],
        )

    def metrics(self, outputs: Outputs, calibration: Mapping[str, float]) -> dict[str, float]:
        """Mean absolute and root mean square error (dex), bias, coverage, likelihood."""
        truth, mean, std = self._known(outputs, calibration["std_factor"])
        residual = mean - truth
        pull = np.abs(residual) / std
        central = erf(pull / np.sqrt(2.0))  # the smallest central interval that holds the truth
        nll = 0.5 * pull**2 + np.log(std) + 0.5 * np.log(2.0 * np.pi)
        return {
            "mae_dex": float(np.mean(np.abs(residual))),
            "rmse_dex": float(np.sqrt(np.mean(residual**2))),
            "bias_dex": float(np.mean(residual)),
            "coverage_68": float(np.mean(central <= 0.68)),
            "coverage_90": float(np.mean(central <= 0.90)),
            "loss": float(np.mean(nll)),
        }

    def _known(self, outputs: Outputs, std_factor: float) -> tuple[Floats, Floats, Floats]:
        """Truth, mean and standard deviation of every value that exists, in the answer's unit."""
        answer = self.answer(outputs.values, {"std_factor": std_factor})
        assert answer.target_mean is not None and answer.target_std is not None
        truth = np.stack(
            [t.inverse(t.forward(outputs.targets[:, i])) for i, t in enumerate(self.targets)],
            axis=1,
        )
        known = np.isfinite(truth)
        return truth[known], answer.target_mean[known], answer.target_std[known]


def _forward(transform: TargetTransform, value: Tensor) -> Tensor:
    """Standardised target, float32; NaN where the truth is NaN or not positive."""
    value = value.double()
    if transform.function == "log10":
        value = torch.where(value > 0, value, torch.nan).log10()
    return ((value - transform.mean) / transform.std).float()
