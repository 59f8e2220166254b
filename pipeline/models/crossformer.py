"""CrossFormer: attention across scales, Wang et al. (2021, arXiv:2108.00154)."""

import math
from typing import TYPE_CHECKING, Literal, Self

from pydantic import NonNegativeFloat, PositiveInt, model_validator

from pipeline.models._shapes import Four
from pipeline.models.base import Fit, ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """Four stages; local attention inside windows, global attention between windows.

    The defaults are DeepLense's (the paper's at 224 pixels): 28.3 M parameters.
    """

    kind: Literal["crossformer"] = "crossformer"
    fit: Fit = "resample"
    dim: Four = (64, 128, 256, 512)
    depth: Four = (2, 2, 8, 2)
    global_window: Four = (8, 4, 2, 1)
    local_window: Four = (7, 7, 7, 7)
    kernels: tuple[PositiveInt, ...] = (4, 8, 16, 32)
    dropout: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if any(width % 32 for width in self.dim):
            raise ValueError("dim must be multiples of 32, the width of an attention head")
        return self


VARIANTS = {
    "seed": Config(),
    "small": Config(
        dim=(32, 64, 128, 256), depth=(1, 1, 4, 1), global_window=(4, 4, 2, 2),
        local_window=(4, 4, 2, 2),
    ),
    "mini": Config(
        dim=(32, 32, 32, 32), depth=(1, 1, 1, 1), global_window=(4, 4, 2, 2),
        local_window=(4, 4, 2, 2), kernels=(4, 8),
    ),
}  # fmt: skip


def image_sizes(config: Config) -> ImageSizes:
    """Multiples of every stage's windows times its stride."""
    windows = zip(config.local_window, config.global_window, strict=True)
    step = math.lcm(*(n * 4 * 2**stage for stage, pair in enumerate(windows) for n in pair))
    return ImageSizes(minimum=step, multiple_of=step)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from vit_pytorch.crossformer import CrossFormer  # type: ignore[import-untyped]

    from pipeline.models._headless import headless

    backbone = headless(
        lambda n: CrossFormer(
            num_classes=n,
            channels=in_channels,
            dim=config.dim,
            depth=config.depth,
            global_window_size=config.global_window,
            local_window_size=config.local_window,
            cross_embed_kernel_sizes=(config.kernels, (2, 4), (2, 4), (2, 4)),
            attn_dropout=config.dropout,
            ff_dropout=config.dropout,
        ),
        channels_last=True,
    )
    # the last bias of a position bias shifts all logits alike, which no softmax sees
    for name, module in backbone.whole.named_modules():
        if name.endswith("dpb.9"):
            module.register_parameter("bias", None)
    return backbone
