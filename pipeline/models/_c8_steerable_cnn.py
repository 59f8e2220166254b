"""The network of ``c8_steerable_cnn``: features that do not change when the image is turned.

Turned by a multiple of 45 degrees, that is; by quarter turns exactly, by the others as well as
sampled kernels allow. The rim outside the largest disc is masked, since a turn moves it out.
"""

import warnings
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models._backbone import Backbone

with warnings.catch_warnings():
    # e2cnn 0.2.3 builds its masks as uint8 when it is imported and used
    warnings.simplefilter("ignore")
    from e2cnn import gspaces  # type: ignore[import-untyped]
    from e2cnn import nn as steerable

if TYPE_CHECKING:
    from pipeline.models.c8_steerable_cnn import Config

#: Smoothing before a pool, pixels: e2cnn's own example.
SIGMA = 0.66
#: Width of the disc's soft rim, pixels.
RIM = 2.0


class SteerableCnn(Backbone):
    """Steerable convolutions, group pooling, the mean over the image, a dense layer."""

    disc: Tensor

    def __init__(self, config: "Config", in_channels: int, image_size: int) -> None:
        super().__init__()
        space = gspaces.Rot2dOnR2(N=8)
        self.input_type = steerable.FieldType(space, in_channels * [space.trivial_repr])
        self.register_buffer("disc", _disc(image_size), persistent=False)
        blocks: list[nn.Module] = []
        fields = self.input_type
        # e2cnn indexes with uint8 masks, which torch deprecates
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for i, (width, kernel) in enumerate(zip(config.channels, config.kernels, strict=True)):
                out = steerable.FieldType(space, width * [space.regular_repr])
                blocks += [
                    steerable.R2Conv(fields, out, kernel, padding=kernel // 2, bias=False),
                    steerable.InnerBatchNorm(out),
                    steerable.ReLU(out, inplace=True),
                ]
                if i % 2 == 1:
                    blocks.append(steerable.PointwiseAvgPoolAntialiased(out, SIGMA, stride=2))
                fields = out
            self.blocks = steerable.SequentialModule(*blocks)
            self.group_pool = steerable.GroupPooling(fields)
        width = config.channels[-1]
        self.dense = nn.Sequential(
            nn.Linear(width, config.dense),
            nn.ELU(),
            nn.Dropout(config.dropout),
        )
        self.map_channels = width
        self.n_features = config.dense
        self.register_load_state_dict_post_hook(_expand_again)  # type: ignore[no-untyped-call]
        self.train()  # discards the placeholders of the expanded kernels

    def train(self, mode: bool = True) -> Self:
        """Switch the mode; what e2cnn derives from weights and architecture stays out of the state.

        Kernels expanded for evaluation are registered anew by every ``eval()``.
        """
        with torch.no_grad():  # else the expanded kernels would keep the graph of their weights
            super().train(mode)
        for module in (*self.blocks.modules(), *self.group_pool.modules()):
            if not isinstance(module, nn.BatchNorm3d):
                module._non_persistent_buffers_set.update(module._buffers)
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Return invariant features (B, n_features)."""
        return self.pooled(self.features_map(image))

    def features_map(self, image: Tensor) -> Tensor:
        """Features that turn with the image (B, map_channels, h, w)."""
        fields = steerable.GeometricTensor(image * self.disc, self.input_type)
        pooled: Tensor = self.group_pool(self.blocks(fields)).tensor
        return pooled

    def pooled(self, features_map: Tensor) -> Tensor:
        """Mean over the image, through the dense layer.

        Not the maximum: what a pixel grid does to a turn of 45 degrees is largest in single pixels.
        """
        features: Tensor = self.dense(features_map.mean(dim=(2, 3)))
        return features

    def plain(self) -> nn.Module:
        """Ordinary convolutions with the expanded kernels; knows nothing of e2cnn."""
        self.eval()
        # e2cnn has no export of its antialiased pooling
        layers = [
            _Blur(block) if isinstance(block, steerable.PointwiseAvgPoolAntialiased)
            else block.export()
            for block in self.blocks.children()
        ]  # fmt: skip
        body = nn.Sequential(*layers, self.group_pool.export())
        return _Plain(self.disc, body, self.dense).eval()


class _Plain(nn.Module):
    """What :meth:`SteerableCnn.plain` gives."""

    disc: Tensor

    def __init__(self, disc: Tensor, body: nn.Module, dense: nn.Module) -> None:
        super().__init__()
        self.register_buffer("disc", disc)
        self.body, self.dense = body, dense

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.dense(self.body(image * self.disc).mean(dim=(2, 3)))
        return features


class _Blur(nn.Module):
    """Depthwise convolution with the filter of an antialiased pooling."""

    kernel: Tensor

    def __init__(self, pool: Any) -> None:  # Any: e2cnn carries no types
        super().__init__()
        self.register_buffer("kernel", pool.filter)
        self.stride: tuple[int, int] = pool.stride
        self.padding: tuple[int, int] = pool.padding

    def forward(self, x: Tensor) -> Tensor:
        groups = len(self.kernel)
        blurred: Tensor = functional.conv2d(
            x, self.kernel, None, self.stride, self.padding, groups=groups
        )
        return blurred


def _expand_again(module: nn.Module, _: object) -> None:
    """Expand the kernels of freshly loaded weights; a module in training mode does so by itself."""
    if not module.training:
        module.train().eval()


def _disc(size: int) -> Tensor:
    """1 inside the largest disc, falling to 0 over its last pixels, shape (size, size)."""
    axis = torch.arange(size) - (size - 1) / 2
    radius = torch.hypot(axis[:, None], axis[None, :])
    return torch.clamp((size - 1) / 2 - radius, 0.0, RIM) / RIM
