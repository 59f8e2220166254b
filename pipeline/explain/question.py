"""What an explanation explains: one number that a network says about each image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.checkpoint.load import Run
from pipeline.checkpoint.network import Network
from pipeline.core.errors import ExplanationError
from pipeline.dataset.preprocess import BORDER_FRACTION
from pipeline.tasks._regression import Regression
from pipeline.tasks.base import Task


@dataclass(frozen=True)
class Question:
    """One number that the network says about each of some images: why that one.

    The answer is the log-odds of a class against all others, or the estimate of the first target
    of a regression, or the first output of any other network.

    Attributes
    ----------
    network : Network
        In evaluation mode.
    task : Task
    prepared : Tensor, shape (B, C, H, W)
        What the network sees.
    of : Tensor of int, shape (B,), or None
        Class asked about in each image; None for a task without classes.
    n_classes : int
    """

    network: Network
    task: Task
    prepared: Tensor
    of: Tensor | None
    n_classes: int

    @property
    def blank(self) -> Tensor:
        """Level of the empty sky in each image and channel, (B, C, 1, 1): median of the border."""
        width = max(2, round(self.prepared.shape[-1] * BORDER_FRACTION))
        x = self.prepared
        sides = (x[..., :width, :], x[..., -width:, :], x[..., :width], x[..., -width:])
        level = torch.cat([side.flatten(2) for side in sides], dim=2).median(dim=2).values
        return level[..., None, None]

    def answers(self, images: Tensor, rows: slice | None = None) -> Tensor:
        """Answers (B',) for variants (B', C, H, W) of the images ``rows`` (all by default)."""
        return self.answer_of(self.network(images), rows)

    def answer_of(self, outputs: Tensor, rows: slice | None = None) -> Tensor:
        """Answers (B',) in raw outputs (B', O)."""
        if self.of is None:
            if isinstance(self.task, Regression):
                return self.task.estimate(outputs)
            return outputs[:, 0]
        of = self.of if rows is None else self.of[rows]
        logits = outputs[:, : self.n_classes].float()
        own = logits.gather(1, of[:, None])[:, 0]
        rest = logits.scatter(1, of[:, None], -torch.inf)
        return own - rest.logsumexp(dim=1)

    def gradient(self, images: Tensor) -> Tensor:
        """Derivative of the answers by each pixel of variants of all images, (B, C, H, W).

        Raises
        ------
        ExplanationError
            If the network has none.
        """
        self.require_gradient()
        images = images.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.answers(images).sum(), images)
        return gradient

    def require_gradient(self) -> None:
        """Refuse a network that is no differentiable function of its image.

        Raises
        ------
        ExplanationError
        """
        if self.network.backbone.is_fitted:
            raise ExplanationError(
                "this network is a step function of statistics of the image and has no gradient; "
                "the explanation 'occlusion' needs none"
            )


def ask(run: Run, prepared: Tensor, of: Tensor | None) -> Question:
    """Ask a run about prepared images.

    Parameters
    ----------
    run : Run
    prepared : Tensor, shape (B, C, H, W)
        On the device of the run.
    of : Tensor of int, shape (B,), optional
        Classes to ask about; by default the most probable one of each image.
    """
    with torch.no_grad():
        outputs = run.network(prepared)
    values = outputs.double().cpu().numpy()
    probability = run.task.answer(values, run.spec.calibration).class_probability
    if probability is None:
        return Question(run.network, run.task, prepared, None, 0)
    n_classes = probability.shape[1]
    if of is None:
        of = outputs[:, :n_classes].argmax(dim=1)
    return Question(run.network, run.task, prepared, of.to(prepared.device), n_classes)
