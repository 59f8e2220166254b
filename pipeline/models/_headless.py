"""Networks of other packages without their classification layer."""

from collections.abc import Callable

from torch import Tensor, nn

from pipeline.core.errors import ConfigError
from pipeline.models._backbone import Backbone

#: A number of classes that no other layer of a network has as its width: marks the last layer.
MARK = 1013


class Headless(Backbone):
    """A network whose output are its features.

    Parameters
    ----------
    whole : nn.Module
        Images (B, C, H, W) to features (B, n_features).
    n_features : int
    channels_last : bool
        Whether it was measured to be faster so on a CPU, by how much (forward and backward, 64
        pixels): LeViT 1.8, EfficientNet-B0 1.7, CCT 1.5, ScalableViT 1.3, CrossFormer 1.2, CoAtNet
        1.2, MobileViT 1.1 times; ResNet-34, MaxViT, RegionViT, NesT and Twins within 10 %.
    """

    def __init__(self, whole: nn.Module, n_features: int, *, channels_last: bool = False) -> None:
        super().__init__()
        self.whole = whole
        self.n_features = n_features
        self.channels_last = channels_last

    def forward(self, image: Tensor) -> Tensor:
        """Return features (B, n_features)."""
        features: Tensor = self.whole(image)
        return features


def headless(make: Callable[[int], nn.Module], *, channels_last: bool = False) -> Headless:
    """Build a classifier and take its last linear layer away.

    Parameters
    ----------
    make : callable
        Builds the network for a number of classes.
    channels_last : bool

    Raises
    ------
    ConfigError
        If the network does not end in one linear layer.
    """
    whole = make(MARK)
    last = [
        (name, module)
        for name, module in whole.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == MARK
    ]
    if len(last) != 1:
        raise ConfigError(f"{type(whole).__name__} has {len(last)} classification layers, not one")
    name, linear = last[0]
    parent, _, leaf = name.rpartition(".")
    setattr(whole.get_submodule(parent), leaf, nn.Identity())
    return Headless(whole, linear.in_features, channels_last=channels_last)


def read_channels(network: nn.Module, path: str, in_channels: int) -> None:
    """Let the convolution at a dotted ``path`` of a network read ``in_channels`` channels.

    vit-pytorch hard-codes three in some of its models.
    """
    old = network.get_submodule(path)
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]  # torch types its own tuples loosely
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    network.set_submodule(path, new)


def read_patches(network: nn.Module, in_channels: int, patch: int) -> None:
    """Let a patch embedding (rearrange, norm, linear, norm) read ``in_channels`` channels."""
    embedding = network.get_submodule("to_patch_embedding")
    assert isinstance(embedding, nn.Sequential)
    n_values = in_channels * patch**2
    old = embedding[2]
    assert isinstance(old, nn.Linear)
    embedding[1] = nn.LayerNorm(n_values)
    embedding[2] = nn.Linear(n_values, old.out_features)
