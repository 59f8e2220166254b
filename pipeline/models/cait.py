"""CaiT: deep attention, class token at the end, Touvron et al. (2021, arXiv:2103.17239)."""

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat, PositiveInt

from pipeline.models.base import ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """``depth`` layers over patches, then ``class_depth`` layers that read them out.

    The widths are the paper's CaiT-XXS24, its patches halved for small images.
    """

    kind: Literal["cait"] = "cait"
    patch: PositiveInt = 8
    dim: PositiveInt = 192
    depth: PositiveInt = 24
    class_depth: PositiveInt = 2
    heads: PositiveInt = 4
    head_dim: PositiveInt = 48
    mlp_ratio: PositiveInt = 4
    dropout: NonNegativeFloat = 0.0


VARIANTS = {
    "xxs24": Config(),
    "small": Config(depth=6),
    "mini": Config(dim=32, depth=2, class_depth=1, heads=2, head_dim=16, mlp_ratio=2),
}


def image_sizes(config: Config) -> ImageSizes:
    """Multiples of the patch; at least two patches a side."""
    return ImageSizes(minimum=2 * config.patch, multiple_of=config.patch)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from vit_pytorch.cait import CaiT  # type: ignore[import-untyped]

    from pipeline.models._headless import headless, read_patches

    backbone = headless(
        lambda n: CaiT(
            image_size=image_size,
            patch_size=config.patch,
            num_classes=n,
            dim=config.dim,
            depth=config.depth,
            cls_depth=config.class_depth,
            heads=config.heads,
            dim_head=config.head_dim,
            mlp_dim=config.mlp_ratio * config.dim,
            dropout=config.dropout,
            emb_dropout=config.dropout,
        )
    )
    read_patches(backbone.whole, in_channels, config.patch)
    return backbone
