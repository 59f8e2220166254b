"""Three shapes of a posterior over a standardised target: Gaussian, binned, quantiles.

Each says how raw outputs become a loss in torch, and a distribution function in numpy. ``scale``
widens (above 1) or narrows a posterior about its middle; it is fitted on validation images.
Quantiles and moments are written on the functions that numpy and torch share, so that an exported
network answers by the same formula.
"""

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, ndtr, ndtri  # type: ignore[import-untyped]

from pipeline.statistics.calibrate import (
    apply_temperature,
    array_functions,
    fit_std_factor,
    fit_temperature,
)
from pipeline.tasks.base import Floats

if TYPE_CHECKING:
    from torch import Tensor

#: Bounds of the standard deviation, in units of the spread of the target over the train split.
MIN_STD, MAX_STD = 1e-3, 1e2
#: Width of the soft label of the binned head, in bins (Imani & White 2018).
LABEL_WIDTH = 0.75
#: Probabilities at which the quantile head has outputs; 1/2 is in the middle.
KNOTS = np.array([0.01, 0.025, 0.05, 0.1, 0.16, 0.3, 0.5, 0.7, 0.84, 0.9, 0.95, 0.975, 0.99])
#: The outer knots of the quantile head are extended by so many times their spacing.
TAIL = 2.0
#: softplus of this is 1.
_SOFTPLUS_ONE = math.log(math.e - 1.0)


class Posterior(Protocol):
    """One shape; arrays are of one target, in standardised units z."""

    #: Outputs per target.
    n_outputs: int

    def loss(self, outputs: "Tensor", z: "Tensor") -> "Tensor":
        """Loss (N,) of outputs (N, P) at true values (N,), all finite."""

    def center(self, outputs: "Tensor") -> "Tensor":
        """Mean or median (N,) of outputs (N, P), differentiable."""

    def fit_scale(self, values: Floats, z: Floats) -> float:
        """Scale that makes these true values most likely."""

    def cdf(self, values: Floats, z: Floats, scale: float) -> Floats:
        """Probability (N,) that the target is below z (N,)."""

    def quantile(self, values: Floats, p: float, scale: float) -> Floats:
        """Value (N,) below which the target lies with probability p."""

    def moments(self, values: Floats, scale: float) -> tuple[Floats, Floats]:
        """Mean and standard deviation (N,)."""

    def cost(self, values: Floats, z: Floats, scale: float) -> Floats:
        """What :meth:`loss` lowers, at this scale (N,)."""


class Gaussian:
    """Mean and logarithm of the standard deviation (Nix & Weigend 1994)."""

    n_outputs = 2

    def loss(self, outputs: "Tensor", z: "Tensor") -> "Tensor":
        """Negative log-likelihood in nat, but for a constant."""
        import torch

        log_std = outputs[:, 1].clamp(math.log(MIN_STD), math.log(MAX_STD))
        return 0.5 * ((outputs[:, 0] - z) * torch.exp(-log_std)).square() + log_std

    def center(self, outputs: "Tensor") -> "Tensor":
        """Mean."""
        return outputs[:, 0]

    def fit_scale(self, values: Floats, z: Floats) -> float:
        """Factor on the standard deviations."""
        return fit_std_factor(z - values[:, 0], _std(values, 1.0))

    def cdf(self, values: Floats, z: Floats, scale: float) -> Floats:
        """Normal distribution function."""
        return np.asarray(ndtr((z - values[:, 0]) / _std(values, scale)))

    def quantile(self, values: Floats, p: float, scale: float) -> Floats:
        """Inverse of the normal distribution function."""
        quantile: Floats = values[:, 0] + _std(values, scale) * float(ndtri(p))
        return quantile

    def moments(self, values: Floats, scale: float) -> tuple[Floats, Floats]:
        """Outputs as they are."""
        return values[:, 0], _std(values, scale)

    def cost(self, values: Floats, z: Floats, scale: float) -> Floats:
        """Negative log-density in nat."""
        std = _std(values, scale)
        density: Floats = 0.5 * ((z - values[:, 0]) / std) ** 2 + np.log(std)
        return density + 0.5 * math.log(2.0 * math.pi)


class Binned:
    """Probabilities of bins with fixed edges, uniform inside each; any shape a posterior takes.

    The label is spread over neighbouring bins by a Gaussian, so that a bin learns from those
    beside it. ``scale`` is a temperature.
    """

    def __init__(self, edges: Floats) -> None:
        self.edges = np.asarray(edges, np.float64)
        self.n_outputs = len(edges) - 1

    def loss(self, outputs: "Tensor", z: "Tensor") -> "Tensor":
        """Cross-entropy against the soft label, in nat."""
        import torch
        from torch.nn import functional

        edges = torch.as_tensor(self.edges, dtype=z.dtype, device=z.device)
        inner = z.clamp(edges[0], edges[-1])
        k = torch.searchsorted(edges, inner.contiguous(), right=True).sub(1)
        k = k.clamp(0, self.n_outputs - 1)
        place = k + (inner - edges[k]) / (edges[k + 1] - edges[k])  # (N,), in bins
        borders = torch.arange(self.n_outputs + 1, dtype=z.dtype, device=z.device)
        below = torch.special.ndtr((borders - place[:, None]) / LABEL_WIDTH)
        label = below.diff(dim=1)
        label = label / label.sum(dim=1, keepdim=True)
        cost: Tensor = -(label * functional.log_softmax(outputs, dim=1)).sum(dim=1)
        return cost

    def center(self, outputs: "Tensor") -> "Tensor":
        """Mean."""
        import torch
        from torch.nn import functional

        middle = torch.as_tensor(0.5 * (self.edges[1:] + self.edges[:-1]), dtype=outputs.dtype)
        return functional.softmax(outputs, dim=1) @ middle.to(outputs.device)

    def fit_scale(self, values: Floats, z: Floats) -> float:
        """Temperature of the bins."""
        return fit_temperature(values, self._bin(z))

    def cdf(self, values: Floats, z: Floats, scale: float) -> Floats:
        """Piecewise linear."""
        below = self._below(values, scale)
        k, rows = self._bin(z), np.arange(len(z))
        inside = (z - self.edges[k]) / np.diff(self.edges)[k]
        share = below[rows, k] + (below[rows, k + 1] - below[rows, k]) * inside
        return np.clip(share, 0.0, 1.0)

    def quantile(self, values: Floats, p: float, scale: float) -> Floats:
        """Piecewise linear: the widths of the bins below p, and a part of the one that holds it."""
        xp = array_functions(values)
        below = self._below(values, scale)
        mass = xp.clip(below[:, 1:] - below[:, :-1], np.finfo(float).tiny, None)
        inside = xp.clip((p - below[:, :-1]) / mass, 0.0, 1.0)
        quantile: Floats = float(self.edges[0]) + inside @ xp.asarray(np.diff(self.edges))
        return quantile

    def moments(self, values: Floats, scale: float) -> tuple[Floats, Floats]:
        """Of the histogram."""
        xp = array_functions(values)
        probability = apply_temperature(values, scale)
        middle, width = 0.5 * (self.edges[1:] + self.edges[:-1]), np.diff(self.edges)
        mean = probability @ xp.asarray(middle)
        second = probability @ xp.asarray(middle**2 + width**2 / 12.0)
        return mean, xp.sqrt(xp.clip(second - mean**2, 0.0, None))

    def cost(self, values: Floats, z: Floats, scale: float) -> Floats:
        """Negative log-density in nat."""
        k = self._bin(z)
        log_probability = log_softmax(values / scale, axis=1)[np.arange(len(z)), k]
        return np.asarray(-log_probability + np.log(np.diff(self.edges)[k]))

    def _bin(self, z: Floats) -> NDArray[np.int64]:
        k = np.searchsorted(self.edges, z, side="right") - 1
        return np.clip(k, 0, self.n_outputs - 1).astype(np.int64)

    def _below(self, values: Floats, scale: float) -> Floats:
        """Probability below each edge (N, K + 1), from 0 to exactly 1."""
        xp = array_functions(values)
        probability = apply_temperature(values, scale)
        upper = xp.cumsum(probability, axis=1)
        below: Floats = xp.concatenate((xp.zeros_like(upper[:, :1]), upper / upper[:, -1:]), axis=1)
        return below


class Quantiles:
    """Quantiles at fixed probabilities, in order by construction (Koenker & Bassett 1978).

    The outputs are the median, then by how much each spacing exceeds that of a standard normal.
    """

    n_outputs = len(KNOTS)

    def loss(self, outputs: "Tensor", z: "Tensor") -> "Tensor":
        """Pinball loss, averaged over the probabilities."""
        import torch
        from torch.nn import functional

        spacing = torch.as_tensor(_NORMAL_SPACING, dtype=outputs.dtype, device=outputs.device)
        steps = functional.softplus(outputs[:, 1:] + _SOFTPLUS_ONE) * spacing
        half = len(KNOTS) // 2
        below = outputs[:, :1] - steps[:, :half].flip(1).cumsum(1).flip(1)
        above = outputs[:, :1] + steps[:, half:].cumsum(1)
        quantiles = torch.cat((below, outputs[:, :1], above), dim=1)
        p = torch.as_tensor(KNOTS, dtype=outputs.dtype, device=outputs.device)
        short = z[:, None] - quantiles
        return torch.maximum(p * short, (p - 1.0) * short).mean(dim=1)

    def center(self, outputs: "Tensor") -> "Tensor":
        """Median."""
        return outputs[:, 0]

    def fit_scale(self, values: Floats, z: Floats) -> float:
        """Factor on the distances from the median that makes the 68 % interval hold 68 %."""
        median = values[:, 0]
        side = np.where(z < median, *(self.quantile(values, p, 1.0) for p in (0.16, 0.84)))
        far = np.abs(z - median) / np.maximum(np.abs(side - median), MIN_STD)
        return max(float(np.quantile(far, 0.68)), MIN_STD)

    def cdf(self, values: Floats, z: Floats, scale: float) -> Floats:
        """Piecewise linear between the knots."""
        knots, p = self._knots(values, scale)
        return np.array([np.interp(z[i], knots[i], p) for i in range(len(z))])

    def quantile(self, values: Floats, p: float, scale: float) -> Floats:
        """Piecewise linear between the knots."""
        knots, known = self._knots(values, scale)
        k = int(np.clip(np.searchsorted(known, p, side="right") - 1, 0, len(known) - 2))
        inside = float((p - known[k]) / (known[k + 1] - known[k]))
        quantile: Floats = knots[:, k] + inside * (knots[:, k + 1] - knots[:, k])
        return quantile

    def moments(self, values: Floats, scale: float) -> tuple[Floats, Floats]:
        """Of the piecewise uniform density between the knots."""
        xp = array_functions(values)
        knots, p = self._knots(values, scale)
        mass = xp.asarray(np.diff(p))
        low, high = knots[:, :-1], knots[:, 1:]
        mean = 0.5 * (low + high) @ mass
        second = (low**2 + low * high + high**2) / 3.0 @ mass
        return mean, xp.sqrt(xp.clip(second - mean**2, 0.0, None))

    def cost(self, values: Floats, z: Floats, scale: float) -> Floats:
        """Pinball loss, averaged over the probabilities."""
        short = z[:, None] - self._knots(values, scale)[0][:, 1:-1]
        return np.asarray(np.maximum(KNOTS * short, (KNOTS - 1.0) * short).mean(axis=1))

    def _knots(self, values: Floats, scale: float) -> tuple[Floats, Floats]:
        """Quantiles (N, Q + 2) with the extended tails, and their probabilities."""
        xp = array_functions(values)
        raw = values[:, 1:] + _SOFTPLUS_ONE
        softplus = xp.log1p(xp.exp(-xp.abs(raw))) + xp.clip(raw, 0.0, None)
        steps = softplus * xp.asarray(_NORMAL_SPACING) * scale
        half = len(KNOTS) // 2
        backwards = list(range(half))[::-1]
        median = values[:, :1]
        below = median - xp.cumsum(steps[:, backwards], axis=1)[:, backwards]
        above = median + xp.cumsum(steps[:, half:], axis=1)
        first = below[:, :1] - TAIL * steps[:, :1]
        last = above[:, -1:] + TAIL * steps[:, -1:]
        knots = xp.concatenate((first, below, median, above, last), axis=1)
        return knots, np.r_[0.0, KNOTS, 1.0]


_NORMAL_SPACING = np.diff(ndtri(KNOTS))


def _std(values: Floats, scale: float) -> Floats:
    xp = array_functions(values)
    log_std = xp.clip(values[:, 1], math.log(MIN_STD), math.log(MAX_STD))
    std: Floats = xp.exp(log_std) * scale
    return std
