"""The network of ``cross_vit``: vit-pytorch's CrossViT up to its two class tokens."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from vit_pytorch.cross_vit import CrossViT  # type: ignore[import-untyped]

from pipeline.models._backbone import Backbone

if TYPE_CHECKING:
    from pipeline.models.cross_vit import Config


class CrossVitBackbone(Backbone):
    """The normalised class tokens of both branches, side by side."""

    def __init__(self, config: "Config", in_channels: int, image_size: int) -> None:
        super().__init__()
        small, large = config.dim
        whole = CrossViT(
            image_size=image_size,
            num_classes=1,
            channels=in_channels,
            sm_dim=small,
            lg_dim=large,
            sm_patch_size=config.patch[0],
            lg_patch_size=config.patch[1],
            sm_enc_depth=config.encoder_depth[0],
            lg_enc_depth=config.encoder_depth[1],
            sm_enc_heads=config.heads,
            lg_enc_heads=config.heads,
            sm_enc_dim_head=config.head_dim,
            lg_enc_dim_head=config.head_dim,
            sm_enc_mlp_dim=config.mlp_ratio * small,
            lg_enc_mlp_dim=config.mlp_ratio * large,
            cross_attn_depth=config.cross_depth,
            cross_attn_heads=config.heads,
            cross_attn_dim_head=config.head_dim,
            depth=config.depth,
            dropout=config.dropout,
            emb_dropout=config.dropout,
        )
        self.small_embedder = whole.sm_image_embedder
        self.large_embedder = whole.lg_image_embedder
        self.encoder = whole.multi_scale_encoder
        self.small_norm = nn.LayerNorm(small)
        self.large_norm = nn.LayerNorm(large)
        self.n_features = small + large

    def forward(self, image: Tensor) -> Tensor:
        """Return features (B, n_features)."""
        small, large = self.encoder(self.small_embedder(image), self.large_embedder(image))
        return torch.cat((self.small_norm(small[:, 0]), self.large_norm(large[:, 0])), dim=1)
