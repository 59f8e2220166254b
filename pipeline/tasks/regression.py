"""How heavy is the axion: a Gaussian over a truth of the simulation, masked where there is none."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.config import StrictModel
from pipeline.tasks.base import TargetTransform

if TYPE_CHECKING:
    from pipeline.tasks.base import Task


class Config(StrictModel):
    """Mean and standard deviation of one or more truth columns.

    Parameters
    ----------
    targets : tuple of str
        Columns of the dataset's truth; images without a value teach nothing.
    function : str
        Transform before standardising: ``log10`` for quantities that span decades.
    """

    kind: Literal["regression"] = "regression"
    targets: tuple[str, ...] = Field(("axion_mass",), min_length=1)
    function: Literal["identity", "log10"] = "log10"


def build(
    config: Config,
    n_features: int,
    class_names: tuple[str, ...],
    targets: tuple[TargetTransform, ...],
) -> "Task":
    """Build head and loss for these targets."""
    from pipeline.tasks._regression import Regression

    return Regression(n_features, targets)
