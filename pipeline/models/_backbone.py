"""What every model's network is: a module from images to feature vectors."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from pipeline.core.errors import ConfigError


class Backbone(nn.Module):
    """Maps images (B, C, H, W) float32 to features (B, ``n_features``).

    Attributes
    ----------
    n_features : int
    channels_last : bool
        Whether it is faster with channels-last memory on a CPU; the caller lays memory out.
    map_channels : int
        Channels of :meth:`features_map`; 0 where there is none. A backbone that has one computes
        ``forward(image)`` as ``pooled(features_map(image))``, so that a loss on maps and one on
        features share a single pass.
    is_fitted : bool
        Whether it is fitted to the training images at once (``fit``) instead of by gradients.
    """

    n_features: int
    channels_last: bool = False
    map_channels: int = 0
    is_fitted: bool = False

    def __setattr__(self, name: str, value: Any) -> None:  # Any: as of nn.Module
        if isinstance(value, nn.Module) and callable(getattr(Backbone, name, None)):
            raise ConfigError(
                f"{type(self).__name__}.{name}: a layer cannot have this name, which is that of a "
                "method of every backbone; call it something else"
            )
        super().__setattr__(name, value)

    def forward(self, image: Tensor) -> Tensor:
        """Return features (B, n_features); no softmax, no normalisation of the input."""
        raise NotImplementedError

    def pictures(self, image: Tensor) -> Tensor:
        """Those channels of images (B, C, H, W) that are pictures, not one number an image."""
        return image

    def features_map(self, image: Tensor) -> Tensor:
        """Features with their place in the image (B, map_channels, h, w)."""
        raise NotImplementedError

    def pooled(self, features_map: Tensor) -> Tensor:
        """Features (B, n_features) of a :meth:`features_map`."""
        raise NotImplementedError

    def over_image(self, heat: Tensor, size: int) -> Tensor:
        """Bring a map (B, h, w) over what the backbone sees to the pixels of its images.

        Returns
        -------
        Tensor, shape (B, size, size)
        """
        return functional.interpolate(heat[:, None], size=(size, size), mode="bilinear")[:, 0]

    def plain(self) -> nn.Module:
        """The same function of images, for an exporter: of ordinary layers, in evaluation mode."""
        return self

    def describe(self, image: Tensor) -> Tensor:
        """What :meth:`fit` learns from, (B, D) float64 on the CPU."""
        raise NotImplementedError

    def features_of(self, description: Tensor) -> Tensor:
        """Features (B, n_features) of a :meth:`describe`; ``forward`` is one after the other."""
        raise NotImplementedError

    def fit(self, description: Tensor, label: Tensor, target: Tensor) -> None:
        """Fit to all training images at once.

        Parameters
        ----------
        description : Tensor, shape (N, D)
            Of every image, as :meth:`describe` gives them.
        label : Tensor of int, shape (N,)
            Class of each image.
        target : Tensor, shape (N, T)
            Transformed truths, NaN where there is none; T may be 0.

        Raises
        ------
        ConfigError
            If there are more classes or targets than the backbone has features.
        """
        raise NotImplementedError
