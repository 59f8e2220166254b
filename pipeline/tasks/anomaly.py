"""What was never taught: trained on chosen classes only, tells how unlike them an image is."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from pipeline.core.config import StrictModel, hint
from pipeline.core.errors import ConfigError
from pipeline.tasks.base import TargetTransform

if TYPE_CHECKING:
    from pipeline.tasks.base import Task

Method = Literal["vae", "adversarial", "mahalanobis", "knn"]


class Config(StrictModel):
    """One score that grows with strangeness; images of other classes are never seen.

    Parameters
    ----------
    inliers : tuple of str
        Classes to train, calibrate and choose weights on.
    method : str
        ``vae``: evidence lower bound of a variational autoencoder (Kingma & Welling 2014), its
        pixel variance fitted (Rybkin et al. 2021). ``adversarial``: that of an adversarial
        autoencoder (Makhzani et al. 2015). Both encode with the backbone. ``mahalanobis``,
        ``knn``: distance of the backbone's features from those of training images; the backbone
        learns to tell images from copies that were bent a little in one place.
    latent : int
        Dimensions of the latent space of an autoencoder.
    width : int
        Channels of the decoder at full resolution; twice as many at each coarser one.
    adversary : float
        Weight of the adversary in the loss of ``adversarial``.
    neighbours : int
        For ``knn``: which neighbour's distance counts.
    bend : float
        For ``mahalanobis`` and ``knn``: largest displacement in a bent copy, pixels.
    """

    kind: Literal["anomaly"] = "anomaly"
    inliers: tuple[str, ...] = Field(("no",), min_length=1)
    method: Method = "vae"
    latent: PositiveInt = 32
    width: PositiveInt = 16
    adversary: float = Field(1.0, gt=0)
    neighbours: PositiveInt = 10
    bend: float = Field(3.0, ge=1.0)

    @property
    def targets(self) -> tuple[str, ...]:
        """No truth column."""
        return ()

    @property
    def function(self) -> Literal["identity", "log10"]:
        """Unused: there are no targets."""
        return "identity"


def build(
    config: Config,
    n_features: int,
    class_names: tuple[str, ...],
    targets: tuple[TargetTransform, ...],
) -> "Task":
    """Build the head that scores.

    Raises
    ------
    ConfigError
        If a class to train on does not exist, or none is left to find.
    """
    from pipeline.tasks._autoencoder import Autoencoder
    from pipeline.tasks._feature_distance import FeatureDistance

    for name in config.inliers:
        if name not in class_names:
            raise ConfigError(
                f"task.inliers: {name!r} is no class of the data{hint(name, class_names)}"
            )
    if config.method in ("vae", "adversarial"):
        return Autoencoder(config, n_features)
    return FeatureDistance(config, n_features)
