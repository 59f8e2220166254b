"""Types that models' configurations share; which image sizes fit, what becomes of the others."""

from dataclasses import dataclass
from typing import Literal

from pydantic import PositiveInt

Fit = Literal["exact", "pad", "resample"]
#: One setting for each of three or four stages.
Three = tuple[PositiveInt, PositiveInt, PositiveInt]
Four = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]
#: Keyword arguments of a network of another package, as YAML can say them.
type Option = bool | int | float | str | tuple["Option", ...] | None
Options = dict[str, Option]

#: Largest growth of an image's side by each rule; resampling shrinks by no more either.
MAX_PAD, MAX_RESAMPLE = 1.5, 4.0
#: The same in words, by rule.
LIMITS: dict[Fit, str] = {
    "exact": "",
    "pad": f", and others padded to these by at most a factor of {MAX_PAD:g} ('fit: pad')",
    "resample": f", and others resampled by at most a factor of {MAX_RESAMPLE:g} ('fit: resample')",
}


@dataclass(frozen=True)
class ImageSizes:
    """Square image sizes (pixels a side): a range, a divisor with its remainder, and single ones.

    ``also`` are sizes below the range that fit as well.
    """

    minimum: int
    multiple_of: int = 1
    maximum: int | None = None
    remainder: int = 0
    also: tuple[int, ...] = ()

    def __contains__(self, size: int) -> bool:
        inside = size >= self.minimum and (self.maximum is None or size <= self.maximum)
        return size in self.also or (inside and size % self.multiple_of == self.remainder)

    def __str__(self) -> str:
        single = "".join(f"{size}, " for size in self.also)
        if self.maximum == self.minimum:
            return f"{single}{self.minimum} pixels"
        plus = f" plus {self.remainder}" if self.remainder else ""
        step = f"multiples of {self.multiple_of}{plus}" if self.multiple_of > 1 else "any size"
        to = f" to {self.maximum} pixels" if self.maximum else " pixels up"
        return f"{single}{step} from {self.minimum}{to}"

    def examples(self, n: int = 2) -> tuple[int, ...]:
        """Return the ``n`` smallest sizes that fit."""
        found: list[int] = []
        while len(found) < n:
            size = self.next_from(found[-1] + 1 if found else 1)
            if size is None:
                break
            found.append(size)
        return tuple(found)

    def next_from(self, size: int) -> int | None:
        """Return the smallest size that fits and is not below ``size``, if there is one."""
        single = [s for s in self.also if s >= size]
        first = max(size, self.minimum)
        first += (self.remainder - first) % self.multiple_of
        if self.maximum is None or first <= self.maximum:
            single.append(first)
        return min(single, default=None)

    def largest_to(self, size: int) -> int | None:
        """Return the largest size that fits and is not above ``size``, if there is one."""
        return next((s for s in range(size, 0, -1) if s in self), None)


def fitted_size(sizes: ImageSizes, size: int, fit: str) -> int | None:
    """Size that images of ``size`` pixels are brought to, or None if the rule cannot.

    The next larger size; when resampling and there is none, the largest there is.
    """
    if size in sizes:
        return size
    above = sizes.next_from(size)
    if fit == "pad":
        return above if above is not None and above <= MAX_PAD * size else None
    if fit == "resample":
        near = above if above is not None else sizes.largest_to(size)
        within = near is not None and size / MAX_RESAMPLE <= near <= size * MAX_RESAMPLE
        return near if within else None
    return None
