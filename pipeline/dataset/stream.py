"""An endless stream of simulated images: image i is a pure function of (configuration, i).

It is the stream that a stored dataset is the beginning of: image i has the same scene, noise, class
and split here and there. So a network trained on the stream has never seen the validation or test
images of a dataset of the same configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.priors import narrowed
from pipeline.dataset.augment import Augmentation
from pipeline.dataset.config import DatasetConfig
from pipeline.dataset.generate import record
from pipeline.dataset.preprocess import Preprocess
from pipeline.dataset.splits import GALAXY, SPLITS, split_codes
from pipeline.engines.base import Engine
from pipeline.physics.convergence import substructure_convergence
from pipeline.physics.scene import Scene, SceneConfig, draw_scene, smooth_twin

#: What a batch may carry besides its images, each (B, C, H, W): the noise-free image, the lens
#: without its substructure, their difference (electron/s), and the convergence of the substructure.
Map = Literal["noiseless", "twin", "difference", "kappa"]
#: Image numbers set aside for a batch, over those it is expected to need.
_MARGIN = 1.5

type Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Request:
    """A batch to simulate.

    Attributes
    ----------
    candidates : array of int
        Image numbers, ascending; the first ``n`` of ``split`` among them make the batch.
    split : str
    n : int
    rank, n_ranks : int
        Every ``n_ranks``-th image of the batch, from the ``rank``-th on.
    signal_factor : float
        On the signal scale of the configuration.
    prior_width : float
        Width of the priors of lens and source, over that of the configuration.
    twins : tuple of str
        Classes that every lens of the batch is shown as, one after the other; if empty, each lens
        is shown as the class of its number.
    targets : tuple of str
        Columns of the truth.
    maps : tuple of str
    preprocess : Preprocess, optional
    augmentation : Augmentation, optional
    """

    candidates: Numbers
    split: str
    n: int
    rank: int = 0
    n_ranks: int = 1
    signal_factor: float = 1.0
    prior_width: float = 1.0
    twins: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    maps: tuple[Map, ...] = ()
    preprocess: Preprocess | None = None
    augmentation: Augmentation | None = None


@dataclass(frozen=True)
class Simulated:
    """A simulated batch, as arrays."""

    image: NDArray[np.float32]  # (B, C, H, W)
    label: NDArray[np.int64]  # (B,)
    target: NDArray[np.float32]  # (B, T)
    index: Numbers  # (B,)
    extra: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def block_size(config: DatasetConfig, batch_size: int) -> int:
    """Image numbers that are certain to hold a batch of the train split."""
    # The golden-ratio sequence is off by less than two in any stretch; galaxies scatter more.
    return int(np.ceil(_MARGIN * batch_size / config.splits.train)) + 8 * len(config.class_names)


def block(
    config: DatasetConfig, batch_size: int, position: int, only: tuple[str, ...] = ()
) -> Numbers:
    """Candidates of the train batch at ``position`` of the stream, of the classes ``only``."""
    size = block_size(config, batch_size)
    if only:
        size = -(-size * len(config.class_names) // len(only))
    return _of_classes(config, np.arange(position * size, (position + 1) * size), only)


def first_of_split(
    config: DatasetConfig, split: str, n: int, only: tuple[str, ...] = ()
) -> Numbers:
    """Numbers of the first ``n`` images of a split, of the classes ``only`` if any are named."""
    parts: list[Numbers] = []
    start, found = 0, 0
    step = max(256, 2 * n)
    while found < n:
        candidates = _of_classes(config, np.arange(start, start + step), only)
        parts.append(np.fromiter(_of_split(config, candidates, split), np.int64))
        found, start = found + len(parts[-1]), start + step
    return np.concatenate(parts)[:n] if parts else np.empty(0, np.int64)


def simulate_batch(config: DatasetConfig, engine: Engine, request: Request) -> Simulated:
    """Draw, render, expose and prepare a batch.

    Raises
    ------
    EngineError
        If a scene cannot be rendered.
    """
    index, label = _lenses(config, request)
    scene_config = _eased(config.scenes, request.signal_factor, request.prior_width)
    scenes = [
        draw_scene(scene_config, config.seed, i, config.class_names[k])
        for i, k in zip(index.tolist(), label.tolist(), strict=True)
    ]
    noiseless = engine.render(scenes, config.grid, config.instruments)
    image = record(config, noiseless, scenes)
    extra = _maps(config, engine, scenes, noiseless, request.maps)
    if request.augmentation is not None:
        image = request.augmentation.apply(image, index)
        extra = {name: request.augmentation.apply(m, index) for name, m in extra.items()}
    if request.preprocess is not None:
        image = request.preprocess.apply(image)
    truth = [[scene.truth[name] for name in request.targets] for scene in scenes]
    return Simulated(
        image=image,
        label=label,
        target=np.array(truth, np.float32).reshape(len(index), len(request.targets)),
        index=index,
        extra=extra,
    )


def _lenses(config: DatasetConfig, request: Request) -> tuple[Numbers, Numbers]:
    """Image numbers and classes of a batch, of one rank."""
    names, n_classes = config.class_names, len(config.class_names)
    places = np.arange(request.n)[request.rank :: request.n_ranks]
    found = islice(_of_split(config, request.candidates, request.split), request.n)
    if not request.twins:
        index = np.fromiter(found, np.int64)[request.rank :: request.n_ranks]
        return index, index % n_classes
    n_twins = len(request.twins)
    lenses = np.fromiter(islice(found, -(-request.n // n_twins)), np.int64)
    shown = np.array([names.index(name) for name in request.twins])
    return lenses[places // n_twins], shown[places % n_twins]


def _eased(scenes: SceneConfig, signal_factor: float, prior_width: float) -> SceneConfig:
    """Scenes with other masses of the substructure, and other priors of lens and source."""
    changes: dict[str, Any] = {}
    if signal_factor != 1.0:
        changes["signal_scale"] = scenes.signal_scale * signal_factor
    if prior_width != 1.0:
        names = ("macro", "source", "source_position", "lens_light")
        blocks = {name: getattr(scenes, name) for name in names}
        changes |= {k: narrowed(v, prior_width) for k, v in blocks.items() if v is not None}
        changes["classes"] = scenes.classes | {
            name: block.model_copy(update={"macro": narrowed(block.macro, prior_width)})
            for name, block in scenes.classes.items()
            if block.macro is not None
        }
    return scenes.model_copy(update=changes)


def _maps(
    config: DatasetConfig,
    engine: Engine,
    scenes: list[Scene],
    noiseless: NDArray[np.float64],
    names: tuple[Map, ...],
) -> dict[str, NDArray[np.float32]]:
    found: dict[str, NDArray[np.float32]] = {}
    if {"twin", "difference"} & set(names):
        twins = [smooth_twin(scene) for scene in scenes]
        twin = engine.render(twins, config.grid, config.instruments)
        found["twin"] = twin.astype(np.float32)
        found["difference"] = (noiseless - twin).astype(np.float32)
    if "noiseless" in names:
        found["noiseless"] = noiseless.astype(np.float32)
    if "kappa" in names:
        kappa = [substructure_convergence(scene, config.grid) for scene in scenes]
        found["kappa"] = np.stack(kappa)[:, None].astype(np.float32)
    return {name: found[name] for name in names}


def _of_classes(config: DatasetConfig, numbers: Numbers, only: tuple[str, ...]) -> Numbers:
    if not only:
        return numbers
    wanted = [config.class_names.index(name) for name in only]
    return numbers[np.isin(numbers % len(config.class_names), wanted)]


def _of_split(config: DatasetConfig, candidates: Numbers, split: str) -> Iterator[int]:
    """Yield those candidates that belong to a split, in order."""
    n_classes, code = len(config.class_names), SPLITS.index(split)
    train, val = config.splits.train, config.splits.val
    first = draw_scene(config.scenes, config.seed, int(candidates[0]))
    if not first.group:
        codes = split_codes(candidates, n_classes, train, val)
        yield from candidates[codes == code].tolist()
        return
    for i in candidates.tolist():  # the source galaxy decides, and has to be drawn
        scene = draw_scene(config.scenes, config.seed, i)
        galaxy = np.array([scene.truth[GALAXY]])
        if split_codes(np.array([i]), n_classes, train, val, galaxy)[0] == code:
            yield i
