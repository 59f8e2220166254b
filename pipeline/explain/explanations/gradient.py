"""How much each pixel moves the answer: size of its gradient (Simonyan et al. 2014)."""

from typing import TYPE_CHECKING, Literal

from pipeline.core.config import StrictModel

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.explain.question import Question


class Config(StrictModel):
    """Nothing to choose."""

    kind: Literal["gradient"] = "gradient"


def heat(config: Config, question: "Question") -> "Tensor":
    """Sum over channels of the gradient's size (B, H, W)."""
    return question.gradient(question.prepared).abs().sum(dim=1)
