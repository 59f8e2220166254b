"""How much the answer falls when a patch is covered (Zeiler & Fergus 2014)."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import PositiveFloat, PositiveInt, model_validator

from pipeline.core.config import StrictModel
from pipeline.explain.patches import patch_places

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.explain.question import Question


class Config(StrictModel):
    """Square patches, and what covers them: empty sky, or the image blurred.

    A blurred patch keeps the ring and loses what is finer than ``blur``; a blank one also cuts the
    ring, which is an event of its own.
    """

    kind: Literal["occlusion"] = "occlusion"
    patch: PositiveInt = 8  # pixels
    stride: PositiveInt = 4  # pixels
    cover: Literal["blank", "blurred"] = "blank"
    blur: PositiveFloat = 2.0  # standard deviation, pixels

    @model_validator(mode="after")
    def _covers_all(self) -> Self:
        if self.stride > self.patch:
            raise ValueError("stride must not exceed patch: pixels between patches would be left")
        return self


def heat(config: Config, question: "Question") -> "Tensor":
    """Fall of the answer, averaged over the patches that cover a pixel; 0 where it rises."""
    import torch

    images = question.prepared
    size = images.shape[-1]
    total, n_covers = torch.zeros_like(images[:, 0]), images.new_zeros(size, size)
    with torch.no_grad():
        whole = question.answers(images)
        cover = _cover(config, question)
        for rows, columns in patch_places(size, config.patch, config.stride):
            place = (..., rows, columns)
            covered = images.clone()
            covered[place] = cover[place]
            fall = whole - question.answers(covered)
            total[place] += fall[:, None, None]
            n_covers[place] += 1.0
    return (total / n_covers).clamp(min=0.0)


def _cover(config: Config, question: "Question") -> "Tensor":
    images = question.prepared
    if config.cover == "blank":
        return question.blank.expand_as(images)
    import torch
    from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]  # heavy

    spread = (0.0, 0.0, config.blur, config.blur)
    blurred = gaussian_filter(images.cpu().numpy(), spread, mode="nearest")
    return torch.from_numpy(blurred).to(images.device)
