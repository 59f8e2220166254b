"""Which kind of dark-matter substructure: class probabilities, cross-entropy, temperature."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat

from pipeline.core.config import StrictModel, hint
from pipeline.core.errors import ConfigError
from pipeline.tasks.base import TargetTransform

if TYPE_CHECKING:
    from pipeline.tasks.base import Task


class Config(StrictModel):
    """Softmax over the classes of the dataset.

    Parameters
    ----------
    label_smoothing : float
        Weight that the loss spreads over all classes.
    class_weights : str or mapping
        Weight of a class in the loss: ``none``, ``balanced`` (so that each class counts the same,
        however many images it has) or a number by class name (1 where none is given).
    """

    kind: Literal["classification"] = "classification"
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    class_weights: Literal["none", "balanced"] | dict[str, PositiveFloat] = "none"

    @property
    def targets(self) -> tuple[str, ...]:
        """No truth column beside the label."""
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
    """Build head and loss for these classes.

    Raises
    ------
    ConfigError
        If there is only one class, or a weight for one that does not exist.
    """
    from pipeline.tasks._classification import Classification

    if len(class_names) < 2:
        raise ConfigError(f"classification needs two classes or more; the data have {class_names}")
    if isinstance(config.class_weights, dict):
        for name in config.class_weights:
            if name not in class_names:
                raise ConfigError(
                    f"class_weights: {name!r} is no class of the data{hint(name, class_names)}"
                )
    return Classification(config, n_features, class_names)
