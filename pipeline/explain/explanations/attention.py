"""Where the last layers of attention look, whatever is asked (Abnar & Zuidema 2020)."""

from typing import TYPE_CHECKING, Literal

from pipeline.core.config import StrictModel

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.explain.question import Question


class Config(StrictModel):
    """Nothing to choose: heads are averaged, layers of one size multiplied (attention rollout)."""

    kind: Literal["attention"] = "attention"


def heat(config: Config, question: "Question") -> "Tensor":
    """Attention that each token receives (B, H, W), as coarse as the tokens are.

    From the class token where there is one, else from all tokens alike; what every token receives
    is taken away. It does not depend on the class asked about.

    Raises
    ------
    ExplanationError
        If the network has no attention, or attends within windows only.
    """
    from pipeline.explain.explanations._attention import received

    coarse = received(question)
    coarse = coarse - coarse.amin(dim=(1, 2), keepdim=True)
    return question.network.backbone.over_image(coarse, question.prepared.shape[-1])
