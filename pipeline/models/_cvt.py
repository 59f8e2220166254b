"""The network of ``cvt``: vit-pytorch's CvT up to its pooled features."""

from typing import TYPE_CHECKING

from torch import Tensor
from vit_pytorch.cvt import CvT  # type: ignore[import-untyped]

from pipeline.models._backbone import Backbone

if TYPE_CHECKING:
    from pipeline.models.cvt import Config


class CvtBackbone(Backbone):
    """vit-pytorch's CvT; its stages, then the mean over tokens."""

    # measured on two cores: 1-2 images/s in the default layout, 25-33 in this one
    channels_last = True

    def __init__(self, config: "Config", in_channels: int) -> None:
        super().__init__()
        options: dict[str, int] = {}
        for stage in range(3):
            options |= {
                f"s{stage + 1}_emb_dim": config.dim[stage],
                f"s{stage + 1}_emb_kernel": config.embedding_kernel[stage],
                f"s{stage + 1}_emb_stride": config.embedding_stride[stage],
                f"s{stage + 1}_proj_kernel": config.projection_kernel[stage],
                f"s{stage + 1}_kv_proj_stride": config.key_value_stride[stage],
                f"s{stage + 1}_heads": config.heads[stage],
                f"s{stage + 1}_depth": config.depth[stage],
                f"s{stage + 1}_mlp_mult": config.mlp_ratio[stage],
            }
        whole = CvT(num_classes=1, channels=in_channels, dropout=config.dropout, **options)
        self.stages = whole.layers
        self.n_features = config.dim[2]

    def forward(self, image: Tensor) -> Tensor:
        """Return features (B, n_features)."""
        tokens: Tensor = self.stages(image)  # (B, F, h, w)
        return tokens.mean(dim=(2, 3))
