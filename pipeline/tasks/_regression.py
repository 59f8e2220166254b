"""Head, loss, calibration and metrics of ``regression``."""

from collections.abc import Mapping
from functools import cached_property
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.calibrate import array_functions, calibrated_levels
from pipeline.statistics.regression import PROBABILITIES, regression_errors
from pipeline.tasks._posterior import Binned, Gaussian, Posterior, Quantiles
from pipeline.tasks.base import Answer, Floats, Outputs, TargetTransform

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pipeline.tasks.regression import Config

#: Fraction of the training range by which the outer bins reach beyond it.
MARGIN = 0.01


class Regression:
    """Posterior of each standardised target.

    Calibrated on validation images in two steps: one scale, then for each probability the level
    of the scaled posterior below which that fraction of true values lies (Kuleshov et al. 2018).
    Estimates are posterior medians; ``mae`` and ``rmse`` are in the unit of the transformed
    target, dex for log10, over all images and targets that have a value.
    """

    higher_is_better = False

    def __init__(
        self, config: "Config", n_features: int, targets: tuple[TargetTransform, ...]
    ) -> None:
        self.targets = targets
        self.shapes = tuple(_shape(config, target) for target in targets)
        self.n_outputs = sum(shape.n_outputs for shape in self.shapes)
        self.n_features = n_features
        self.unit = "_dex" if config.function == "log10" else ""
        self.monitor = f"mae{self.unit}"
        names = [self._key(i, name) for i in range(len(targets)) for name in ("scale", *_LEVELS)]
        numbers = [1.0, *PROBABILITIES] * len(targets)
        self.uncalibrated: Mapping[str, float] = MappingProxyType(
            dict(zip(names, numbers, strict=True))
        )

    @cached_property
    def head(self) -> "nn.Module":
        """Outputs of every posterior, one after the other."""
        from torch import nn

        return nn.Linear(self.n_features, self.n_outputs)

    def prepare(self, labels: NDArray[np.integer], targets: Floats) -> None:
        """Nothing: the transforms know the training images."""

    def loss(self, outputs: "Tensor", label: "Tensor", target: "Tensor") -> "Tensor":
        """Mean loss per value that is known; 0 in a batch without any."""
        import torch

        outputs = outputs.float()
        losses, n_known = [], outputs.new_zeros(())
        for i, (transform, part) in enumerate(zip(self.targets, self._parts(outputs), strict=True)):
            z = _forward(transform, target[:, i])
            known = torch.isfinite(z)
            # Masked before the arithmetic: a NaN times zero has a NaN gradient.
            cost = self.shapes[i].loss(part, torch.where(known, z, torch.zeros_like(z)))
            losses.append(torch.where(known, cost, torch.zeros_like(cost)).sum())
            n_known = n_known + known.sum()
        return torch.stack(losses).sum() / n_known.clamp(min=1)

    def estimate(self, outputs: "Tensor") -> "Tensor":
        """Middle of the first target's posterior (B,), standardised, differentiable."""
        return self.shapes[0].center(self._parts(outputs)[0])

    def calibrate(self, outputs: Outputs) -> dict[str, float]:
        """Scale and levels of each target."""
        found = dict(self.uncalibrated)
        for i, shape in enumerate(self.shapes):
            values, z, known = self._truth(outputs, i)
            if not known.any():
                continue
            scale = shape.fit_scale(values[known], z[known])
            found[self._key(i, "scale")] = scale
            below = shape.cdf(values[known], z[known], scale)
            for name, level in zip(_LEVELS, calibrated_levels(below, PROBABILITIES), strict=True):
                found[self._key(i, name)] = level
        return found

    def answer(self, values: Floats, calibration: Mapping[str, float]) -> Answer:
        """Mean, standard deviation (B, T) and quantiles (B, T, Q) of each transformed target."""
        xp = array_functions(values)
        means, stds, quantiles = [], [], []
        for i, part in enumerate(self._parts(values)):
            transform, shape = self.targets[i], self.shapes[i]
            scale = calibration[self._key(i, "scale")]
            mean, std = shape.moments(part, scale)
            means.append(transform.inverse(mean))
            stds.append(std * transform.std)
            levels = [calibration[self._key(i, name)] for name in _LEVELS]
            columns = [transform.inverse(shape.quantile(part, p, scale)) for p in levels]
            quantiles.append(xp.stack(columns, axis=1))
        return Answer(
            target_mean=xp.stack(means, axis=1),
            target_std=xp.stack(stds, axis=1),
            target_quantile=xp.stack(quantiles, axis=1),
        )

    def metrics(self, outputs: Outputs, calibration: Mapping[str, float]) -> dict[str, float]:
        """Errors, coverage of the central intervals and loss; of each target too if several."""
        answer = self.answer(outputs.values, calibration)
        assert answer.target_quantile is not None
        costs, truths = [], []
        for i, shape in enumerate(self.shapes):
            values, z, known = self._truth(outputs, i)
            scale = calibration[self._key(i, "scale")]
            costs.append(shape.cost(values[known], z[known], scale))
            truths.append(self.targets[i].inverse(z))
        truth = np.stack(truths, axis=1)  # (N, T)
        cost = np.concatenate(costs)
        found = regression_errors(truth, answer.target_quantile, self.unit)
        found["loss"] = float(cost.mean()) if len(cost) else float("nan")
        if len(self.targets) > 1:
            for i, transform in enumerate(self.targets):
                own = regression_errors(truth[:, [i]], answer.target_quantile[:, [i]], self.unit)
                found |= {f"{name}_{transform.name}": value for name, value in own.items()}
        return found

    def _parts[Values: ("Tensor", Floats)](self, outputs: Values) -> list[Values]:
        """Outputs (B, P) of each target."""
        borders = [0, *accumulate(shape.n_outputs for shape in self.shapes)]
        return [outputs[:, a:b] for a, b in pairwise(borders)]

    def _truth(self, outputs: Outputs, i: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Outputs, standardised truth, and where it exists, of one target."""
        z = self.targets[i].forward(outputs.targets[:, i])
        return self._parts(outputs.values)[i], z, np.isfinite(z)

    def _key(self, i: int, name: str) -> str:
        return name if len(self.targets) == 1 else f"{self.targets[i].name}.{name}"


_LEVELS = tuple(f"level_{p:g}" for p in PROBABILITIES)


def _shape(config: "Config", target: TargetTransform) -> Posterior:
    if config.head == "gaussian":
        return Gaussian()
    if config.head == "quantile":
        return Quantiles()
    known = (np.asarray(target.prior) - target.mean) / target.std
    share = np.linspace(0.0, 1.0, config.n_bins + 1)
    edges = np.interp(share, np.linspace(0.0, 1.0, len(known)), known)
    span = edges[-1] - edges[0]
    edges[0], edges[-1] = edges[0] - MARGIN * span, edges[-1] + MARGIN * span
    # Values that occur often make edges coincide; a bin keeps a hundredth of the mean width.
    least = 0.01 * span / config.n_bins
    ramp = least * np.arange(len(edges))
    return Binned(np.maximum.accumulate(edges - ramp) + ramp)


def _forward(transform: TargetTransform, value: "Tensor") -> "Tensor":
    """Standardised target, float32; NaN where the truth is NaN or not positive."""
    import torch

    value = value.double()
    if transform.function == "log10":
        value = torch.where(value > 0, value, torch.nan).log10()
    return ((value - transform.mean) / transform.std).float()
