"""What every model's network is: a module from images to feature vectors."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """Maps images (B, C, H, W) float32 to features (B, ``n_features``).

    Attributes
    ----------
    n_features : int
    channels_last : bool
        Whether it is faster with channels-last memory on a CPU; the caller lays memory out.
    """

    n_features: int
    channels_last: bool = False

    def forward(self, image: Tensor) -> Tensor:
        """Return features (B, n_features); no softmax, no normalisation of the input."""
        raise NotImplementedError
