"""What a checkpoint's images look like; light enough to send to reader processes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.checkpoint.any_run import AnyRun
    from pipeline.dataset.preprocess import Preprocess


@dataclass(frozen=True)
class Target:
    """Bands, pixels and instrument of the images a network was trained on.

    ``is_unit_free`` says that each image is normalised by its own noise, so its unit drops out.
    ``psf_fwhm`` (arcsec, of the widest band) and ``zero_points`` (AB magnitude of 1 electron/s, by
    band) are None where the run folder does not describe its instruments.
    """

    bands: tuple[str, ...]
    pixel_scale: float
    size: int
    is_unit_free: bool
    psf_fwhm: float | None = None
    zero_points: tuple[float | None, ...] = (None,)

    @classmethod
    def of(cls, preprocess: "Preprocess") -> "Target":
        """Target of a checkpoint's preprocessing alone."""
        return cls(
            bands=preprocess.bands,
            pixel_scale=preprocess.pixel_scale,
            size=preprocess.size,
            is_unit_free=preprocess.is_unit_free,
            zero_points=(None,) * len(preprocess.bands),
        )

    @classmethod
    def of_run(cls, run: "AnyRun") -> "Target":
        """Target of a loaded run."""
        return cls.of_folder(run.path, run.preprocess)

    @classmethod
    def of_folder(cls, folder: Path, preprocess: "Preprocess") -> "Target":
        """Target of a run folder, with what it says of the instruments of its training data."""
        from pipeline.checkpoint.card import read_dataset_description

        target = cls.of(preprocess)
        described = read_dataset_description(folder).get("instruments")
        by_name = {
            str(item.get("name")): item for item in described or () if isinstance(item, Mapping)
        }
        instruments = [by_name.get(band, {}) for band in target.bands]
        widths = [_number(item.get("psf"), "fwhm") for item in instruments]
        known = [width for width in widths if width is not None]
        return replace(
            target,
            psf_fwhm=max(known) if known else None,
            zero_points=tuple(_number(item, "zero_point") for item in instruments),
        )


def _number(data: Any, key: str) -> float | None:  # Any: plain YAML data
    value = data.get(key) if isinstance(data, Mapping) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and value is not None else None
