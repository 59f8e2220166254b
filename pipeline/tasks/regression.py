"""How heavy is the axion: a posterior of any truth of the simulation, where there is one."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.config import StrictModel
from pipeline.tasks.base import TargetTransform

if TYPE_CHECKING:
    from pipeline.tasks.base import Task


class Config(StrictModel):
    """Posterior of one or more truth columns.

    Parameters
    ----------
    targets : tuple of str
        Columns of the dataset's truth; images without a value teach nothing.
    function : str
        Transform before standardising: ``log10`` for quantities that span decades.
    head : str
        Shape of the posterior: ``gaussian`` has a mean and a width; ``binned`` is a histogram and
        takes any shape; ``quantile`` has the quantiles themselves.
    n_bins : int
        Bins of the ``binned`` head, each with the same number of training images.
    """

    kind: Literal["regression"] = "regression"
    targets: tuple[str, ...] = Field(("axion_mass",), min_length=1)
    function: Literal["identity", "log10"] = "log10"
    head: Literal["gaussian", "binned", "quantile"] = "binned"
    n_bins: int = Field(64, ge=4, le=1024)


def build(
    config: Config,
    n_features: int,
    class_names: tuple[str, ...],
    targets: tuple[TargetTransform, ...],
) -> "Task":
    """Build head and loss for these targets."""
    from pipeline.tasks._regression import Regression

    return Regression(config, n_features, targets)
