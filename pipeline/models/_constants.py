"""A backbone for images of which some channels are one number for the whole image.

Such a number says nothing to a convolution that it would not say in every pixel, and a batch
normalisation mixes it over the images of a batch; here it goes around the backbone and meets the
features behind it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.models._backbone import Backbone

#: Features made of those of the image and the numbers together.
_N_MIXED = 64


class WithConstants(Backbone):
    """A backbone of the other channels, and features mixed of its own and the constant ones.

    Parameters
    ----------
    inner : Backbone
        Of as many channels as are not constant.
    constant : sequence of int
        The channels that are.
    in_channels : int
        All.
    """

    def __init__(self, inner: Backbone, constant: Sequence[int], in_channels: int) -> None:
        super().__init__()
        self.inner = inner
        self._constant = list(constant)
        self._pictures = [k for k in range(in_channels) if k not in self._constant]
        self.mixer = nn.Sequential(
            nn.LayerNorm(inner.n_features),
            nn.Linear(inner.n_features, _N_MIXED),
        )
        self.numbers = nn.Linear(len(self._constant), _N_MIXED)
        self.mixed = nn.Sequential(nn.GELU(), nn.Linear(_N_MIXED, _N_MIXED), nn.GELU())
        self.n_features = inner.n_features + _N_MIXED
        self.channels_last = inner.channels_last
        self.map_channels = inner.map_channels + len(self._constant) if inner.map_channels else 0

    def forward(self, image: Tensor) -> Tensor:
        """Return features (B, n_features): those of the inner backbone, then the mixed ones."""
        return self._joined(self.inner(self.pictures(image)), image[:, self._constant])

    def pictures(self, image: Tensor) -> Tensor:
        """The channels that the inner backbone sees."""
        return image[:, self._pictures]

    def features_map(self, image: Tensor) -> Tensor:
        """Those of the inner backbone, and the constant channels on as many pixels."""
        maps = self.inner.features_map(self.pictures(image))
        numbers = image[:, self._constant, :1, :1].expand(-1, -1, *maps.shape[-2:])
        return torch.cat((maps, numbers), dim=1)

    def pooled(self, features_map: Tensor) -> Tensor:
        """Features (B, n_features) of a :meth:`features_map`."""
        n = self.inner.map_channels
        return self._joined(self.inner.pooled(features_map[:, :n]), features_map[:, n:])

    def over_image(self, heat: Tensor, size: int) -> Tensor:
        """As the inner backbone does."""
        return self.inner.over_image(heat, size)

    def _joined(self, features: Tensor, constant: Tensor) -> Tensor:
        numbers = self.numbers(constant.mean((2, 3)))
        return torch.cat((features, self.mixed(self.mixer(features) + numbers)), dim=1)
