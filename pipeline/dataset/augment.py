"""Symmetries and shifts of training images: a pure function of (seed, epoch, image number)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.seeding import RunStream, hashed_bits, image_rng

#: Symmetries of the square: quarter turns, and each with a flip.
N_SYMMETRIES = 8

type Images = NDArray[np.float32]
type Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Augmentation:
    """One epoch's augmentation.

    Parameters
    ----------
    seed, epoch : int
    max_shift : int
        Largest shift along each axis, pixels.
    rotate, flip : bool
        Allow quarter turns, and mirror images.
    """

    seed: int
    epoch: int
    max_shift: int = 0
    rotate: bool = True
    flip: bool = True

    def apply(self, images: Images, index: Numbers) -> Images:
        """Turn and shift each image (B, C, H, W) as its number says."""
        turn, shift = self.draw(index)
        return shift_images(turn_images(images, turn), shift)

    def draw(self, index: Numbers) -> tuple[Numbers, Numbers]:
        """Symmetry (0..7) and shift (y, x; pixels) of each image, shapes (B,) and (B, 2)."""
        key = image_rng(self.seed, self.epoch, RunStream.AUGMENT).integers(2**63)
        bits = hashed_bits(int(key), index)
        turn = (bits >> np.uint64(61)).astype(np.int64)  # the top three bits
        turn = turn % 4 * self.rotate + turn // 4 * 4 * self.flip
        # Multiply and shift: 16 bits each, so the odds of two shifts differ by under 1e-3.
        n_shifts = np.uint64(2 * self.max_shift + 1)
        draws = [(bits >> np.uint64(k)) & np.uint64(0xFFFF) for k in (0, 16)]
        places = [((d * n_shifts) >> np.uint64(16)).astype(np.int64) for d in draws]
        return turn, np.stack(places, axis=1) - self.max_shift


def turn_images(images: Images, turn: Numbers) -> Images:
    """Apply symmetry ``turn`` of the square: ``turn % 4`` quarter turns, then from 4 on a flip."""
    out = np.empty_like(images)
    for image, target, code in zip(images, out, turn.tolist(), strict=True):
        turned = np.rot90(image, code % 4, axes=(-2, -1))
        target[:] = turned[..., ::-1] if code >= 4 else turned
    return out


def shift_images(images: Images, shift: Numbers) -> Images:
    """Move each image by whole pixels (y, x); what leaves on one side comes back on the other."""
    if not shift.any():
        return images
    out = np.empty_like(images)
    for image, target, (down, right) in zip(images, out, shift.tolist(), strict=True):
        target[:] = np.roll(image, (down, right), axis=(-2, -1))
    return out
