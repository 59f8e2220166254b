"""The last maps of features of any network, with the gradient of the answer by them."""

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.errors import ExplanationError
from pipeline.explain.question import Question

#: Layers whose output may look like maps of features, and is attention.
_NOT_MAPS = (nn.Softmax, nn.Dropout, nn.Identity)


def last_maps(question: Question) -> tuple[Tensor, Tensor]:
    """Maps (B, F, h, w), h and w at least 2, and the gradient of the answer by them.

    Raises
    ------
    ExplanationError
        If there are none, or tokens follow them.
    """
    question.require_gradient()
    network, backbone = question.network, question.network.backbone
    if backbone.map_channels:
        maps = backbone.features_map(question.prepared).detach().requires_grad_(True)
        answers = question.answer_of(network.read(backbone.pooled(maps), question.prepared))
    else:
        maps, answers = _observed(question)
    (gradient,) = torch.autograd.grad(answers.sum(), maps)
    return maps.detach(), gradient


def _observed(question: Question) -> tuple[Tensor, Tensor]:
    """Maps seen while the network runs, and its answers."""
    seen: list[Tensor] = []

    def look(module: nn.Module, inputs: Any, output: Any) -> None:  # Any: what layers exchange
        if not isinstance(output, Tensor) or isinstance(module, _NOT_MAPS):
            return
        if output.ndim == 4 and min(output.shape[2:]) >= 2:
            seen.append(output)
        elif output.ndim == 3 and output.shape[1] > 1:
            seen.clear()  # tokens: maps before them are not the last word

    hooks = [m.register_forward_hook(look) for m in question.network.backbone.modules()]
    try:
        with torch.enable_grad():
            image = question.prepared.detach().requires_grad_(True)
            answers = question.answers(image)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise ExplanationError(
            "this network ends in tokens, not in maps of features; 'attention', 'gradient' and "
            "'occlusion' are explanations that need none"
        )
    return seen[-1], answers
