"""One telescope's labels, another's images: classification that holds on an unlabelled domain."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from pipeline.core.config import StrictModel
from pipeline.tasks.base import TargetTransform
from pipeline.tasks.classification import Config as Classes
from pipeline.tasks.classification import build as build_classes

if TYPE_CHECKING:
    from pipeline.tasks.base import Task

Method = Literal["source_only", "coral", "dann", "adamatch"]


class Config(StrictModel):
    """Classification of the source; the target is images alone, its labels are never read.

    Parameters
    ----------
    target : str
        Images to adapt to: a dataset (its train split), or a folder, file or glob of FITS images,
        which are prepared as scoring prepares them.
    method : str
        ``source_only``: the target is not looked at. ``coral``: equal covariance of the features
        (Sun & Saenko 2016), relative to the source's. ``dann``: features that no adversary can
        tell apart (Ganin et al. 2016). ``adamatch``: confident answers on the target teach its
        altered copies (Berthelot et al. 2021).
    weight : float
        Of what the target adds to the loss; reached gradually.
    threshold : float
        For ``adamatch``: confidence that counts, relative to the mean confidence on the source.
    max_images : int
        Target images that are used at most, the first of the split or by name.
    classification
        As for that task alone.
    """

    kind: Literal["adaptation"] = "adaptation"
    target: str = ""
    method: Method = "dann"
    weight: float = Field(1.0, gt=0)
    threshold: float = Field(0.9, gt=0, le=1)
    max_images: PositiveInt = 20_000
    classification: Classes = Classes()

    @property
    def targets(self) -> tuple[str, ...]:
        """No truth column beside the label."""
        return ()

    @property
    def function(self) -> Literal["identity", "log10"]:
        """Unused: there are no targets."""
        return "identity"

    @property
    def domain(self) -> str | None:
        """Images of another domain that training needs beside the labelled ones, if any."""
        return None if self.method == "source_only" else self.target


def build(
    config: Config,
    n_features: int,
    class_names: tuple[str, ...],
    targets: tuple[TargetTransform, ...],
) -> "Task":
    """Build the classifier and what aligns it.

    Raises
    ------
    ConfigError
        If there is only one class.
    """
    from pipeline.tasks._adaptation import Adaptation

    return Adaptation(
        config, build_classes(config.classification, n_features, class_names, ()), n_features
    )
