"""Bring images to a size that the architecture takes, by the model's own rule."""

import copy

from torch import Tensor, nn
from torch.nn import functional

from pipeline.models._backbone import Backbone
from pipeline.models._shapes import Fit


class Resized(Backbone):
    """A backbone behind padding or resampling.

    Padding repeats the border on both sides; resampling is bilinear, antialiased where it shrinks.
    Both commute with quarter turns and mirrors as far as the sizes allow.
    """

    def __init__(self, inner: Backbone, size: int, fit: Fit) -> None:
        super().__init__()
        self.inner = inner
        self.size = size
        self.resamples = fit == "resample"
        self.n_features = inner.n_features
        self.channels_last = inner.channels_last
        self.map_channels = inner.map_channels
        self.is_fitted = inner.is_fitted

    def forward(self, image: Tensor) -> Tensor:
        """Return features (B, n_features)."""
        features: Tensor = self.inner(self._bring(image))
        return features

    def features_map(self, image: Tensor) -> Tensor:
        """Features with their place in the padded or resampled image."""
        return self.inner.features_map(self._bring(image))

    def pooled(self, features_map: Tensor) -> Tensor:
        """Features (B, n_features) of a :meth:`features_map`."""
        return self.inner.pooled(features_map)

    def over_image(self, heat: Tensor, size: int) -> Tensor:
        """Undo the padding or resampling for a map over the image."""
        if self.resamples:
            return self.inner.over_image(heat, size)
        before = (self.size - size) // 2
        inside = slice(before, before + size)
        return self.inner.over_image(heat, self.size)[:, inside, inside]

    def plain(self) -> nn.Module:
        """The same around the inner backbone's ordinary layers."""
        resized = copy.copy(self)
        resized._modules = {"inner": self.inner.plain()}
        return resized

    def describe(self, image: Tensor) -> Tensor:
        """What the inner backbone learns from."""
        return self.inner.describe(self._bring(image))

    def features_of(self, description: Tensor) -> Tensor:
        """Features (B, n_features) of a :meth:`describe`."""
        return self.inner.features_of(description)

    def fit(self, description: Tensor, label: Tensor, target: Tensor) -> None:
        """Fit the inner backbone to all training images at once."""
        self.inner.fit(description, label, target)

    def _bring(self, image: Tensor) -> Tensor:
        if self.resamples:
            return functional.interpolate(
                image, size=(self.size, self.size), mode="bilinear", antialias=True
            )
        missing = self.size - image.shape[-1]
        before, after = missing // 2, missing - missing // 2
        return functional.pad(image, (before, after, before, after), mode="replicate")
