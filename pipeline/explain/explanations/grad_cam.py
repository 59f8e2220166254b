"""The last maps of features, weighted by their gradients: Grad-CAM (Selvaraju et al. 2017)."""

from typing import TYPE_CHECKING, Literal

from pipeline.core.config import StrictModel

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.explain.question import Question


class Config(StrictModel):
    """Nothing to choose: the last maps before features lose their place."""

    kind: Literal["grad_cam"] = "grad_cam"


def heat(config: Config, question: "Question") -> "Tensor":
    """Positive part of the weighted maps (B, H, W), as coarse as they are.

    Raises
    ------
    ExplanationError
        If the network ends in tokens and names no map of them.
    """
    from pipeline.explain.explanations._grad_cam import last_maps

    maps, gradient = last_maps(question)
    weight = gradient.mean(dim=(2, 3), keepdim=True)
    coarse = (weight * maps).sum(dim=1).clamp(min=0.0)
    return question.network.backbone.over_image(coarse, question.prepared.shape[-1])
