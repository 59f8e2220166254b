"""Both at once: which substructure it is and how heavy the axion, from one backbone."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.config import StrictModel
from pipeline.tasks.base import TargetTransform
from pipeline.tasks.classification import Config as Classes
from pipeline.tasks.classification import build as build_classes
from pipeline.tasks.regression import Config as Values
from pipeline.tasks.regression import build as build_values

if TYPE_CHECKING:
    from pipeline.tasks.base import Task


class Config(StrictModel):
    """Classification and regression on the same features.

    Parameters
    ----------
    classification, regression
        As for these tasks alone.
    weight : float
        Factor on the loss of the regression beside the cross-entropy.
    """

    kind: Literal["joint"] = "joint"
    classification: Classes = Classes()
    regression: Values = Values()
    weight: float = Field(0.3, gt=0)

    @property
    def targets(self) -> tuple[str, ...]:
        """Truth columns of the regression."""
        return self.regression.targets

    @property
    def function(self) -> Literal["identity", "log10"]:
        """Transform of those columns."""
        return self.regression.function


def build(
    config: Config,
    n_features: int,
    class_names: tuple[str, ...],
    targets: tuple[TargetTransform, ...],
) -> "Task":
    """Build one head for both.

    Raises
    ------
    ConfigError
        If there is only one class.
    """
    from pipeline.tasks._joint import Joint

    return Joint(
        build_classes(config.classification, n_features, class_names, ()),
        build_values(config.regression, n_features, class_names, targets),
        len(class_names),
        config.weight,
    )
