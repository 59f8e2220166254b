"""Attention of any network, recorded while it runs: softmax and fused attention are watched."""

from collections.abc import Callable, Sequence
from itertools import takewhile
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pipeline.core.errors import ExplanationError
from pipeline.explain.question import Question

_SOFTMAX = (functional.softmax, torch.softmax, Tensor.softmax)


def received(question: Question) -> Tensor:
    """Attention received by each token of the last layers (B, h, w).

    Raises
    ------
    ExplanationError
        If no layer attends over the whole image.
    """
    with torch.no_grad(), _Recorder(len(question.prepared)) as recorder:
        question.network.backbone(question.prepared)
    layers = recorder.layers
    if not layers:
        raise ExplanationError(
            "this network has no attention over the whole image; 'gradient' and 'occlusion' are "
            "explanations that need none"
        )
    n_queries, n_keys = layers[-1].shape[1:]
    if n_queries == n_keys:
        same = takewhile(lambda layer: layer.shape == layers[-1].shape, reversed(layers))
        attention = _rollout(list(same)[::-1])
    else:
        attention = layers[-1]
    side, has_class_token = _grid(n_keys)
    row = attention[:, 0] if has_class_token else attention.mean(dim=1)
    return row[:, -(side**2) :].reshape(len(row), side, side)


def _rollout(layers: Sequence[Tensor]) -> Tensor:
    """Product over layers, half of each token staying itself beside the residual path."""
    stays = torch.eye(layers[0].shape[-1], device=layers[0].device)
    total = stays.expand_as(layers[0])
    for layer in layers:
        total = (0.5 * layer + 0.5 * stays) @ total
    return total


def _grid(n_tokens: int) -> tuple[int, bool]:
    """Side of the square of tokens, 0 if they form none, and whether a class token leads."""
    for extra in (0, 1):
        side = isqrt(n_tokens - extra)
        if side >= 2 and side**2 == n_tokens - extra:
            return side, bool(extra)
    return 0, False


class _Recorder(TorchFunctionMode):
    """Keeps the attention over whole images, (B, queries, keys), heads averaged."""

    def __init__(self, n_images: int) -> None:
        super().__init__()
        self.layers: list[Tensor] = []
        self._n_images = n_images

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # Any: torch's own protocol
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is functional.scaled_dot_product_attention:
            self._keep(_weights(*args, **kwargs))
        elif func in _SOFTMAX and isinstance(result, Tensor):
            self._keep(result)
        return result

    def _keep(self, weights: Tensor) -> None:
        n = self._n_images
        # Windows are stacked on the images, in four dimensions; in three it is the heads.
        whole = len(weights) % n == 0 if weights.ndim == 3 else len(weights) == n
        if weights.ndim >= 3 and whole and _grid(weights.shape[-1])[0]:
            self.layers.append(weights.reshape(n, -1, *weights.shape[-2:]).float().mean(dim=1))


def _weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **rest: Any,
) -> Tensor:
    """What fused attention keeps to itself; arguments as torch names them."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    score = query @ key.transpose(-2, -1) * scale
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        score = score.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        score = score + attn_mask
    return score.softmax(dim=-1)
