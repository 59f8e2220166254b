"""XCiT: attention between channels, El-Nouby et al. (2021, arXiv:2106.09681)."""

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat, PositiveInt

from pipeline.models.base import ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """Cross-covariance attention and local interaction; a class token reads the patches out.

    The widths are the paper's XCiT-T12, its patches halved for small images.
    """

    kind: Literal["xcit"] = "xcit"
    patch: PositiveInt = 8
    dim: PositiveInt = 192
    depth: PositiveInt = 12
    class_depth: PositiveInt = 2
    heads: PositiveInt = 4
    head_dim: PositiveInt = 48
    mlp_ratio: PositiveInt = 4
    dropout: NonNegativeFloat = 0.0


VARIANTS = {
    "t12": Config(),
    "small": Config(depth=6),
    "mini": Config(dim=32, depth=2, class_depth=1, heads=2, head_dim=16, mlp_ratio=2),
}


def image_sizes(config: Config) -> ImageSizes:
    """Multiples of the patch; at least two patches a side."""
    return ImageSizes(minimum=2 * config.patch, multiple_of=config.patch)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from vit_pytorch.xcit import XCiT  # type: ignore[import-untyped]

    from pipeline.models._headless import headless, read_patches

    backbone = headless(
        lambda n: XCiT(
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
