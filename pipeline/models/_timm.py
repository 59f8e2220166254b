"""Networks of timm without their classification layer; weights are never downloaded."""

from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import nn

from pipeline.core.config import hint
from pipeline.core.errors import ConfigError, UnknownKindError
from pipeline.models._headless import Headless

#: Arguments of timm that fetch or read files, or that this package decides.
_OURS = {
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir",
    "in_chans", "num_classes", "img_size", "features_only",
}  # fmt: skip

Options = Mapping[str, object]


def timm_backbone(
    name: str,
    in_channels: int,
    *,
    image_size: int | None = None,
    channels_last: bool = False,
    options: Options | None = None,
) -> Headless:
    """Build a timm network with random weights.

    Parameters
    ----------
    name : str
        As ``timm.list_models()`` spells it.
    in_channels : int
    image_size : int, optional
        Given to architectures that are built for one size.
    channels_last : bool
    options : mapping, optional
        Keyword arguments of timm's builder.

    Raises
    ------
    UnknownKindError
        Naming the nearest model.
    ConfigError
        If the builder does not take these arguments.
    """
    if name not in (known := timm.list_models()):
        raise UnknownKindError(f"{name!r} is not a model of timm{_nearest(name, known)}")
    given: dict[str, Any] = dict(options or {})  # Any: whatever timm's builder takes
    if taken := sorted(_OURS & given.keys()):
        raise ConfigError(f"timm model {name!r}: option {taken[0]!r} is not yours to set")
    if image_size is not None:
        given["img_size"] = image_size
    try:
        whole: nn.Module = timm.create_model(
            name, pretrained=False, in_chans=in_channels, num_classes=0, **given
        )
    except (
        TypeError,
        ValueError,
        AssertionError,
        RuntimeError,
        KeyError,
        ArithmeticError,
    ) as error:
        raise ConfigError(f"timm model {name!r} cannot be built: {error}") from error
    width = getattr(whole, "head_hidden_size", None) or whole.num_features
    assert isinstance(width, int)
    return Headless(whole, width, channels_last=channels_last)


def any_timm_backbone(name: str, in_channels: int, image_size: int, options: Options) -> Headless:
    """Build any timm network and try it on one blank image.

    Raises
    ------
    ConfigError
        If the network does not take this image size; names the size it was made for.
    """
    made_for = timm.get_pretrained_cfg(name, allow_unregistered=True) if "/" not in name else None
    size = image_size if made_for is not None and made_for.fixed_input_size else None
    backbone = timm_backbone(name, in_channels, image_size=size, options=options)
    blank = torch.zeros(1, in_channels, image_size, image_size)
    try:
        with torch.no_grad():
            features = backbone.eval()(blank)
    except (AssertionError, RuntimeError, ValueError, ArithmeticError) as error:
        native = "" if made_for is None else f"; it was made for {made_for.input_size[-1]} pixels"
        raise ConfigError(
            f"timm model {name!r} does not take images of {image_size}x{image_size} pixels: "
            f"{' '.join(str(error).split())}{native}. 'size: N' resamples images to N pixels"
        ) from error
    backbone.n_features = features.shape[1]
    return backbone.train()


def _nearest(name: str, known: list[str]) -> str:
    """Only the guess: timm has more than a thousand models."""
    guess = hint(name, known)
    return guess[guess.index(" (did") :] if "(did" in guess else ": see timm.list_models()"
