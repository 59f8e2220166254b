"""Which kind of dark-matter substructure: class probabilities, cross-entropy, temperature."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.config import StrictModel
from pipeline.core.errors import ConfigError
from pipeline.tasks.base import TargetTransform

if TYPE_CHECKING:
    from pipeline.tasks.base import Task


class Config(StrictModel):
    """Softmax over the classes of the dataset.

    ``label_smoothing`` is the weight that the loss spreads over all classes.
    """

    kind: Literal["classification"] = "classification"
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)

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
        If there is only one class.
    """
    from pipeline.tasks._classification import Classification

    if len(class_names) < 2:
        raise ConfigError(f"classification needs two classes or more; the data have {class_names}")
    return Classification(n_features, len(class_names), config.label_smoothing)
