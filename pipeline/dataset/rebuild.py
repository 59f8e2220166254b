"""One image of a dataset, rendered again from its row: ``deeplense simulate --rebuild``.

The scene is what the row holds: every mass and light with its numbers. Only random fields, stamps
of galaxies and the noise, which are no numbers of a row, are drawn again from the stored
configuration. With the engine that made the dataset the image must be the same to the last bit.
Another engine is compared before the exposure, because a Poisson draw jumps with the last digit of
its mean.
"""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError, DatasetError
from pipeline.core.files import atomic_write
from pipeline.core.provenance import package_versions
from pipeline.dataset.components import CODE, VALUE, decode
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.generate import record, variances
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.dataset.writer import DECIDING_PACKAGES
from pipeline.engines.base import ENGINES, Engine
from pipeline.physics.components import LightComponent
from pipeline.physics.scene import Scene, draw_scene

#: Formats of ``--out``.
SUFFIXES = (".npz", ".fits")


@dataclass(frozen=True)
class Rebuilt:
    """An image rendered again, and how far it is from the one stored.

    Attributes
    ----------
    path : str
    index : int
    class_name : str
    engine, stored_engine : str
        What rendered it now, and what made the dataset.
    identical : bool
        Whether the exposure is the stored one, bit for bit.
    row_is_drawn : bool
        Whether the row is what the configuration draws for this index, bit for bit.
    max_difference : float, electron/s
        Largest difference of the exposures.
    max_difference_noiseless : float, electron/s
        Largest difference of the two engines' noiseless images; 0 for the same engine.
    max_sigma : float
        The same over the noise of the pixel; NaN for a telescope without noise.
    other_versions : str
        Packages whose versions are not those that made the dataset.
    image, stored, noiseless, variance : arrays, shape (C, H, W)
    """

    path: str
    index: int
    class_name: str
    engine: str
    stored_engine: str
    identical: bool
    row_is_drawn: bool
    max_difference: float
    max_difference_noiseless: float
    max_sigma: float
    other_versions: str
    image: NDArray[np.float32]
    stored: NDArray[np.float32]
    noiseless: NDArray[np.float64]
    variance: NDArray[np.float64]

    @property
    def is_sound(self) -> bool:
        """Whether it came out as it must: another engine may differ, the same one may not."""
        return self.identical or self.engine != self.stored_engine

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Every field but the images."""
        names = [f.name for f in dataclasses.fields(self)][:-4]
        return {name: getattr(self, name) for name in names}

    def text(self) -> str:
        """What came out, in a few lines."""
        what = f"{self.path}: image {self.index} ({self.class_name}), engine {self.engine}: "
        if self.identical:
            what += "the stored image, bit for bit"
        else:
            what += f"differs from the stored image by up to {self.max_difference:.3g} electron/s"
        lines = [what]
        if self.engine != self.stored_engine:
            lines.append(
                f"before the exposure {self.engine} and {self.stored_engine} differ by up to "
                f"{self.max_difference_noiseless:.3g} electron/s, {self.max_sigma:.3g} sigma"
            )
        if not self.row_is_drawn:
            lines.append("the row is not what its configuration draws")
        if self.other_versions and not self.identical:
            lines.append(f"the dataset was made with {self.other_versions}")
        return "\n".join(lines)


def rebuild(path: str | Path, index: int, *, engine: str | None = None) -> Rebuilt:
    """Render image ``index`` again from its row.

    Parameters
    ----------
    path : str or Path
        A complete dataset that was simulated.
    index : int
    engine : str, optional
        The dataset's own by default.

    Raises
    ------
    DatasetError
        If there is no such image, or the dataset was not simulated.
    EngineError
        If the engine cannot render it.
    """
    dataset = open_dataset(path)
    if not 0 <= index < dataset.n_images:
        raise DatasetError(f"{path}: no image {index}; it has 0 to {dataset.n_images - 1}")
    config = dataset.require_simulation("rebuilding an image")
    scene, is_drawn = stored_scene(dataset, index)
    kind = engine or config.engine.kind
    own = _build(config, config.engine.kind).render([scene], config.grid, config.instruments)
    noiseless = own
    if kind != config.engine.kind:
        noiseless = _build(config, kind).render([scene], config.grid, config.instruments)
    image, stored = (
        record(config, noiseless, [scene])[0],
        dataset.read_images(slice(index, index + 1))[0],
    )
    variance = variances(config, own, [scene])[0]
    gap = np.abs(noiseless - own)[0]
    then, now = dataset.versions, package_versions()
    changed = [
        f"{n} {then.get(n)} (here {now.get(n)})"
        for n in (*DECIDING_PACKAGES, "jax")
        if then.get(n) != now.get(n)
    ]
    return Rebuilt(
        path=str(path),
        index=index,
        class_name=scene.class_name,
        engine=kind,
        stored_engine=config.engine.kind,
        identical=image.tobytes() == stored.tobytes(),
        row_is_drawn=is_drawn,
        max_difference=float(np.abs(image.astype(np.float64) - stored).max()),
        max_difference_noiseless=float(gap.max()),
        max_sigma=float((gap / np.sqrt(variance)).max()) if variance.min() > 0 else float("nan"),
        other_versions=", ".join(changed),
        image=image,
        stored=stored,
        noiseless=noiseless[0],
        variance=variance,
    )


def stored_scene(dataset: Dataset, index: int) -> tuple[Scene, bool]:
    """Scene of one row, and whether it is the one that the configuration draws, bit for bit."""
    config = dataset.require_simulation("rebuilding a scene")
    name = dataset.class_names[int(dataset.read("label", slice(index, index + 1))[0])]
    drawn = draw_scene(config.scenes, config.seed, index, name)
    rows = dataset.read_components(index)
    truth = {n: float(dataset.read(f"truth/{n}", slice(index, index + 1))[0]) for n in drawn.truth}
    parts: dict[str, Any] = decode(rows[CODE], rows[VALUE])
    for role in ("source", "lens_light", "subtracted_light"):
        parts[role] = _with_stamps(parts[role], getattr(drawn, role))
    scene = dataclasses.replace(drawn, truth=truth, **parts)
    return scene, _plain(scene) == _plain(drawn)


def _with_stamps(
    stored: tuple[LightComponent, ...], drawn: tuple[LightComponent, ...]
) -> tuple[LightComponent, ...]:
    """Light of a row with the pixels of its galaxies, which are not in the row."""
    if len(stored) != len(drawn):
        return stored
    return tuple(dataclasses.replace(s, stamp=d.stamp) for s, d in zip(stored, drawn, strict=True))


def write_rebuilt(found: Rebuilt, out: Path) -> None:
    """Write the images as ``.npz`` or ``.fits``.

    Raises
    ------
    ConfigError
        If the suffix is neither.
    OutputError
        If the file cannot be written.
    """
    arrays = {name: getattr(found, name) for name in ("image", "stored", "noiseless", "variance")}
    buffer = io.BytesIO()
    if out.suffix == ".npz":
        np.savez(buffer, **arrays)
    elif out.suffix == ".fits":
        from astropy.io import fits  # type: ignore[import-untyped]  # heavy

        hdus = [fits.ImageHDU(array, name=name.upper()) for name, array in arrays.items()]
        for hdu in hdus:
            hdu.header["BUNIT"] = "electron/s" if hdu.name != "VARIANCE" else "(electron/s)**2"
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(buffer)
    else:
        raise ConfigError(f"--out {out}: expected a name that ends in {' or '.join(SUFFIXES)}")
    atomic_write(out, buffer.getvalue())


def _build(config: DatasetConfig, kind: str) -> Engine:
    block = config.engine if kind == config.engine.kind else ENGINES.config(kind)
    engine: Engine = ENGINES.load(kind).build(block)
    return engine


def _plain(value: Any) -> Any:
    """Scenes as something whose equality is that of all bits (NaN equals NaN)."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.ndarray):
        return np.asarray(value).tobytes()
    return value
