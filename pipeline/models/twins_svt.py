"""Twins-SVT: attention in windows, then to a pooled grid, Chu et al. (2021, arXiv:2104.13840)."""

import math
from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat

from pipeline.models._shapes import Four
from pipeline.models.base import Fit, ImageSizes, ModelConfig

if TYPE_CHECKING:
    from pipeline.models._backbone import Backbone


class Config(ModelConfig):
    """Four stages; windows of ``window`` tokens a side, keys pooled by ``pool``.

    The defaults are the paper's Twins-SVT-S, with the eight heads of 64 that vit-pytorch fixes; the
    last stage has no windows.
    """

    kind: Literal["twins_svt"] = "twins_svt"
    fit: Fit = "resample"
    dim: Four = (64, 128, 256, 512)
    depth: Four = (1, 1, 5, 2)
    window: Four = (7, 7, 7, 1)
    pool: Four = (8, 4, 2, 1)
    dropout: NonNegativeFloat = 0.0


VARIANTS = {
    "s": Config(),
    "small": Config(
        dim=(32, 64, 128, 256), depth=(1, 1, 3, 1), window=(4, 4, 4, 1), pool=(4, 4, 2, 1)
    ),
    "mini": Config(
        dim=(16, 16, 32, 32), depth=(1, 1, 1, 1), window=(4, 4, 4, 1), pool=(4, 4, 2, 1)
    ),
}


def image_sizes(config: Config) -> ImageSizes:
    """Multiples of every stage's windows and pools times its stride."""
    stages = enumerate(zip(config.window, config.pool, strict=True))
    step = math.lcm(*(n * 4 * 2**stage for stage, pair in stages for n in pair))
    return ImageSizes(minimum=max(step, 64), multiple_of=step)


def build(config: Config, in_channels: int, image_size: int) -> "Backbone":
    """Build the network without its classification layer."""
    from vit_pytorch.twins_svt import PatchEmbedding, TwinsSVT  # type: ignore[import-untyped]

    from pipeline.models._headless import headless

    options: dict[str, int] = {}
    for stage in range(4):
        name = f"s{stage + 1}"
        options |= {
            f"{name}_emb_dim": config.dim[stage],
            f"{name}_patch_size": 4 if stage == 0 else 2,
            f"{name}_local_patch_size": config.window[stage],
            f"{name}_global_k": config.pool[stage],
            f"{name}_depth": config.depth[stage],
        }
    backbone = headless(lambda n: TwinsSVT(num_classes=n, dropout=config.dropout, **options))
    # vit-pytorch's first embedding reads three channels
    embedding = PatchEmbedding(dim=in_channels, dim_out=config.dim[0], patch_size=4)
    backbone.whole.set_submodule("layers.0.0", embedding)
    return backbone
