"""The network of ``lens_hybrid``.

Substructure bends an arc over a few pixels, and whether a bend is unusual shows only beside the
rest of the ring. So convolutions read the fine structure while there is resolution, and attention
compares the tokens of the ring with one another. The mean and the maximum over tokens are both
kept: one subhalo touches few tokens, a vortex many.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models._backbone import Backbone

if TYPE_CHECKING:
    from pipeline.models.lens_hybrid import Config


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}


class LensHybrid(Backbone):
    """Convolution stages, attention blocks, pooled tokens."""

    channels_last = True

    def __init__(self, config: "Config", in_channels: int, image_size: int) -> None:
        super().__init__()
        self.coordinates: Tensor | None
        self.register_buffer(
            "coordinates",
            _coordinates(image_size) if config.coordinates else None,
            persistent=False,
        )
        width = in_channels + (3 if config.coordinates else 0)
        stages: list[nn.Module] = []
        shape = zip(config.channels, config.blocks, strict=True)
        for stage, (channels, n_blocks) in enumerate(shape):
            stages.append(
                _convolution(
                    width, channels, kernel=4, stride=2, padding=1, activation=config.activation
                )
            )
            block = DenseBlock if stage < config.dense else DepthwiseBlock
            stages.extend(block(channels, config.activation) for _ in range(n_blocks))
            width = channels
        self.stages = nn.Sequential(*stages)
        self.side = side = image_size // 2 ** len(config.channels)
        self.position = nn.Parameter(0.02 * torch.randn(1, side * side, width))
        self.attention = nn.Sequential(
            *(
                AttentionBlock(width, config.heads, config.mlp_ratio, config.dropout)
                for _ in range(config.depth)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.map_channels = width
        self.n_features = 2 * width

    def forward(self, image: Tensor) -> Tensor:
        """Return features (B, n_features)."""
        return self.pooled(self.features_map(image))

    def features_map(self, image: Tensor) -> Tensor:
        """Tokens where they belong in the image (B, map_channels, side, side)."""
        tokens: Tensor = self.norm(self.attention(self._tokens(image)))
        n_batch, _, width = tokens.shape
        return tokens.transpose(1, 2).reshape(n_batch, width, self.side, self.side)

    def _tokens(self, image: Tensor) -> Tensor:
        if self.coordinates is not None:
            grid = self.coordinates.expand(image.shape[0], -1, -1, -1)
            image = torch.cat((image, grid), dim=1)
        tokens: Tensor = self.stages(image).flatten(2).transpose(1, 2)  # (B, N, width)
        return tokens + self.position

    def pooled(self, features_map: Tensor) -> Tensor:
        """Mean and maximum over tokens (B, n_features)."""
        return torch.cat((features_map.mean(dim=(2, 3)), features_map.amax(dim=(2, 3))), dim=1)


class DenseBlock(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, activation=activation)
        self.second = _convolution(channels, channels)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, channels, H, W) in and out."""
        change: Tensor = self.activation(x + self.second(self.first(x)))
        return change


class DepthwiseBlock(nn.Module):
    """A depthwise 5x5 convolution and a two-layer perceptron on every pixel, beside the identity.

    After ConvNeXt (Liu et al. 2022), with batch norm.
    """

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        self.space = nn.Sequential(
            nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.mix = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 1),
            ACTIVATIONS[activation](),
            nn.Conv2d(2 * channels, channels, 1),
        )
        self.gain = nn.Parameter(torch.full((1, channels, 1, 1), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, channels, H, W) in and out."""
        changed: Tensor = x + self.gain * self.mix(self.space(x))
        return changed


class AttentionBlock(nn.Module):
    """Pre-norm self-attention and a two-layer perceptron."""

    def __init__(self, width: int, heads: int, mlp_ratio: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = nn.Dropout(dropout)
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Shape (B, N, width) in and out."""
        n_batch, n_tokens, width = tokens.shape
        packed = self.query_key_value(self.norm_attention(tokens))
        packed = packed.view(n_batch, n_tokens, 3, self.heads, width // self.heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4)  # each (B, heads, N, width / heads)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        mixed = mixed.transpose(1, 2).reshape(n_batch, n_tokens, width)
        tokens = tokens + self.dropout(self.project(mixed))
        change: Tensor = self.dropout(self.mlp(self.norm_mlp(tokens)))
        return tokens + change


def _convolution(
    in_channels: int,
    out_channels: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 1,
    activation: str | None = None,
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, *([ACTIVATIONS[activation]()] if activation else []))


def _coordinates(image_size: int) -> Tensor:
    """x, y in [-1, 1] and the radius of every pixel centre, shape (1, 3, H, W)."""
    axis = (torch.arange(image_size) + 0.5) / image_size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack((x, y, torch.hypot(x, y)))[None]
