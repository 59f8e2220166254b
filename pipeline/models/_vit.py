"""The network of ``vit``: vit-pytorch's ViT up to its class token."""

from typing import TYPE_CHECKING

from torch import Tensor, nn
from vit_pytorch.vit import ViT  # type: ignore[import-untyped]

from pipeline.models._backbone import Backbone

if TYPE_CHECKING:
    from pipeline.models.vit import Config


class VitBackbone(Backbone):
    """vit-pytorch's ViT with its last linear layer left out."""

    def __init__(self, config: "Config", in_channels: int, image_size: int) -> None:
        super().__init__()
        self.whole = ViT(
            image_size=image_size,
            patch_size=config.patch,
            num_classes=1,  # 0 would return all tokens
            dim=config.dim,
            depth=config.depth,
            heads=config.heads,
            dim_head=config.head_dim,
            mlp_dim=config.mlp_ratio * config.dim,
            channels=in_channels,
            dropout=config.dropout,
            emb_dropout=config.dropout,
        )
        self.whole.mlp_head = nn.Identity()
        self.n_features = config.dim

    def forward(self, image: Tensor) -> Tensor:
        """Return features (B, n_features)."""
        features: Tensor = self.whole(image)
        return features
