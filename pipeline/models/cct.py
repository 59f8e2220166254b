"""CCT: compact convolutional transformer, Hassani et al. (2021, arXiv:2104.05704)."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import NonNegativeFloat, PositiveInt, model_validator

from pipeline.models.base import ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """Convolution and pooling make tokens, attention weighs them into one; CCT-7/7x1 by default."""

    kind: Literal["cct"] = "cct"
    dim: PositiveInt = 256
    depth: PositiveInt = 7
    heads: PositiveInt = 4
    mlp_ratio: PositiveInt = 2
    convolutions: PositiveInt = 1
    kernel: PositiveInt = 7
    dropout: NonNegativeFloat = 0.0
    attention_dropout: NonNegativeFloat = 0.1
    stochastic_depth: NonNegativeFloat = 0.1

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads {self.heads} does not divide dim {self.dim}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd")
        return self


VARIANTS = {
    "7_7x1": Config(),
    "2_3x2": Config(dim=128, depth=2, heads=2, mlp_ratio=1, convolutions=2, kernel=3),
    "mini": Config(
        dim=32, depth=2, heads=2, mlp_ratio=1, convolutions=2, kernel=3,
        attention_dropout=0.0, stochastic_depth=0.0,
    ),
}  # fmt: skip


def image_sizes(config: Config) -> ImageSizes:
    """Any size that leaves two tokens a side."""
    return ImageSizes(minimum=4**config.convolutions + 1)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer; positions are learnt."""
    from vit_pytorch.cct import CCT  # type: ignore[import-untyped]

    from pipeline.models._headless import headless

    return headless(
        lambda n: CCT(
            img_size=image_size,
            n_input_channels=in_channels,
            embedding_dim=config.dim,
            n_conv_layers=config.convolutions,
            kernel_size=config.kernel,
            stride=2,
            padding=config.kernel // 2,
            dropout_rate=config.dropout,
            attention_dropout=config.attention_dropout,
            stochastic_depth_rate=config.stochastic_depth,
            num_layers=config.depth,
            num_heads=config.heads,
            mlp_ratio=float(config.mlp_ratio),
            num_classes=n,
            positional_embedding="learnable",
        ),
        channels_last=True,
    )
