"""Explain a run on a split of a dataset: maps by every method, and how well they point."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.checkpoint.load import Run, load_run
from pipeline.core.errors import ConfigError, DatasetError, ExplanationError
from pipeline.core.logs import get_logger
from pipeline.dataset.detectability import substructured
from pipeline.dataset.fitted import with_planes
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.explain.explanations.base import EXPLANATIONS
from pipeline.explain.maps import explain
from pipeline.explain.pointing import Pointing, pointing_scores
from pipeline.explain.where import Whereabouts, locate_substructure, unknowable
from pipeline.training.evaluate import require_fitting

logger = get_logger("explain")

#: Images that are explained, and the least d' (nuisances known) of those that count in scores.
N_IMAGES, MIN_D_PRIME = 200, 3.0


@dataclass(frozen=True)
class Explanations:
    """Maps of the images of one split, and scores where the truth is known.

    Attributes
    ----------
    run, data : str
    checkpoint_sha256, dataset_sha256 : str
    split : str
    index : (n,) int
        Numbers of the images in the dataset.
    class_of, said : tuple of str, length n
        True class, and what the network says; ``said`` is "" for a task without classes.
    images : (n, H, W)
        First band as stored.
    maps : dict of (n, H, W) in [0, 1]
        By method.
    refused : dict of str to str
        Methods that do not apply, and why.
    where : Whereabouts or None
        Of the images ``located``.
    located : (m,) int
        Positions among the n of images whose substructure is known and stands out.
    unscored : str
        Why there is no pointing score; "" if there is.
    n_faint : int
        Images with substructure left out of the score because d' is below ``min_d_prime``.
    min_d_prime : float
    scores : tuple of Pointing
    """

    run: str
    data: str
    checkpoint_sha256: str
    dataset_sha256: str
    split: str
    index: NDArray[np.int64]
    class_of: tuple[str, ...]
    said: tuple[str, ...]
    images: NDArray[np.float64]
    maps: dict[str, NDArray[np.float64]]
    refused: dict[str, str]
    where: Whereabouts | None
    located: NDArray[np.int64]
    unscored: str
    n_faint: int
    min_d_prime: float
    scores: tuple[Pointing, ...]


def explain_run(
    run: Path,
    data: Path | str,
    *,
    methods: Sequence[str] = (),
    split: str = "test",
    n_images: int = N_IMAGES,
    min_d_prime: float = MIN_D_PRIME,
    device: str = "auto",
) -> Explanations:
    """Explain a network's answers on the first images of a split.

    The class asked about is the true one. Methods that are asked for must apply; without a choice
    those that do are used, and the others named.

    Parameters
    ----------
    run : Path
    data : Path or str
        A complete dataset that fits the checkpoint.
    methods : sequence of str
        Kinds of :data:`EXPLANATIONS`; all by default.
    split : str
    n_images : int
    min_d_prime : float
        Images whose substructure stands out less have no pointing score: nobody sees it.
    device : str

    Raises
    ------
    UnknownKindError
        If there is no such method.
    ExplanationError
        If a chosen method does not apply, or none does.
    CheckpointError, DatasetError
        If either cannot be used, or they do not fit.
    """
    if n_images < 1:
        raise ConfigError(f"--images must be at least 1, found {n_images}")
    configs = {name: EXPLANATIONS.config(name) for name in methods or EXPLANATIONS.kinds()}
    loaded, dataset = load_run(run, device=device), open_dataset(data)
    require_fitting(loaded, dataset)
    index = dataset.indices(split)[:n_images]
    if not len(index):
        raise DatasetError(f"{dataset.path}: the split {split!r} has no images")
    images = _with_planes(loaded, dataset, index)
    labels = dataset.labels[index]
    values, _ = loaded.outputs(torch.from_numpy(loaded.preprocess.apply(images)))
    said = loaded.task.answer(values, loaded.spec.calibration).class_probability
    of = None if said is None else labels
    maps, refused = {}, {}
    for name, config in configs.items():
        logger.info("%s of %d images", name, len(index))
        try:
            maps[name] = explain(loaded, images, config, of)
        except ExplanationError as error:
            if methods:
                raise ExplanationError(f"{name} does not apply to {run}: {error}") from error
            refused[name] = str(error)
    class_of = tuple(dataset.class_names[k] for k in labels)
    truth = _truth(dataset, index, class_of, min_d_prime)
    scores: tuple[Pointing, ...] = ()
    if truth.where is not None:
        scores = pointing_scores(
            {name: values[truth.located] for name, values in maps.items()},
            images[truth.located, 0].astype(np.float64),
            truth.where,
            [class_of[k] for k in truth.located],
        )
    return Explanations(
        run=str(run),
        data=str(dataset.path),
        checkpoint_sha256=loaded.sha256,
        dataset_sha256=dataset.sha256,
        split=split,
        index=index,
        class_of=class_of,
        said=("",) * len(index)
        if said is None
        else tuple(loaded.class_names[k] for k in said.argmax(axis=1)),
        images=images[:, 0].astype(np.float64),
        maps=maps,
        refused=refused,
        where=truth.where,
        located=truth.located,
        unscored=truth.unscored,
        n_faint=truth.n_faint,
        min_d_prime=min_d_prime,
        scores=scores,
    )


def _with_planes(run: Run, dataset: Dataset, index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Images, with the planes of their fits behind the bands where the network sees some."""
    images = dataset.read_images(index)
    fit = run.preprocess.smooth_fit
    return images if fit is None else with_planes(dataset, images, index, fit)


@dataclass(frozen=True)
class _Truth:
    where: Whereabouts | None = None
    located: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    unscored: str = ""
    n_faint: int = 0


def _truth(
    dataset: Dataset, index: NDArray[np.int64], class_of: Sequence[str], min_d_prime: float
) -> _Truth:
    """Where the substructure is in the images where it stands out."""
    why_not = unknowable(dataset)
    if why_not:
        return _Truth(unscored=why_not)
    with_it = substructured(dataset.require_simulation("a pointing score"))
    chosen = np.flatnonzero([name in with_it for name in class_of])
    if not len(chosen):
        return _Truth(unscored="none of these images has substructure")
    where = locate_substructure(dataset, index[chosen].tolist())
    stands_out = where.d_prime >= min_d_prime
    n_faint = int((~stands_out).sum())
    if not stands_out.any():
        why_not = f"none of these images has substructure with d' of {min_d_prime:g} or more"
        return _Truth(unscored=why_not, n_faint=n_faint)
    return _Truth(where.of(stands_out), chosen[stands_out], "", n_faint)
