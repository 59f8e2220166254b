"""Two heads as one, for ``joint``."""

from torch import Tensor, cat, nn


class SideBySide(nn.Module):
    """Two heads on the same features."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F) to the outputs of both, one after the other."""
        return cat((self.first(features), self.second(features)), dim=1)
