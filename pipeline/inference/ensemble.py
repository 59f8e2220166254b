"""One or several runs as one predictor, averaged over the symmetries of the square.

Raw outputs are averaged over the eight turned and mirrored copies of an image before each run's own
calibration; runs are averaged after it. The network always sees passes of one size (the last is
filled up), so that a score does not depend on which images happen to share a pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoint.any_run import AnyRun, load_run
from pipeline.checkpoint.spec import CONFIG_FILE, run_text
from pipeline.core.errors import ConfigError
from pipeline.core.provenance import canonical_json, sha256_hex
from pipeline.core.yaml_source import parse_yaml
from pipeline.tasks.base import Floats, Prediction, TargetTransform

#: Symmetries of the square: quarter turns, and those of the mirror image.
N_SYMMETRIES = 8


@dataclass(frozen=True)
class Verdict:
    """What runs say about images together.

    Attributes
    ----------
    prediction : Prediction
        Means over runs; the variance of a target includes that between them.
    class_spread : (B,) or None
        Standard deviation between runs of the probability of the most probable class.
    target_spread : (B, T) or None
        Standard deviation between runs of each target's mean.
    """

    prediction: Prediction
    class_spread: Floats | None = None
    target_spread: Floats | None = None


class Ensemble:
    """Runs that see the same kind of image.

    Parameters
    ----------
    runs : sequence of AnyRun
    symmetries : int or None
        8 or 1; None is 8 where every run was trained on turned and mirrored images.
    batch_size : int
        Images in one pass of a network, symmetric copies included.

    Raises
    ------
    ConfigError
        If the runs differ in bands, pixels, classes or targets.
    """

    def __init__(
        self, runs: Sequence[AnyRun], *, symmetries: int | None = None, batch_size: int = 64
    ) -> None:
        _require_alike(runs)
        if symmetries not in (None, 1, N_SYMMETRIES):
            raise ConfigError(f"symmetries must be 1 or {N_SYMMETRIES}, found {symmetries}")
        if batch_size < 1:
            raise ConfigError(f"the batch size must be at least 1, found {batch_size}")
        self.runs = tuple(runs)
        learnt = all(knows_symmetries(run.path) for run in runs)
        self.symmetries = symmetries or (N_SYMMETRIES if learnt else 1)
        #: Images that :meth:`predict` takes at a time.
        self.n_images = max(1, batch_size // self.symmetries)

    @property
    def sha256(self) -> str:
        """Hash of the run, or of the hashes of all."""
        hashes = [run.sha256 for run in self.runs]
        return hashes[0] if len(hashes) == 1 else sha256_hex(canonical_json(hashes))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes that are told apart; empty if no run is a classifier."""
        names = [run.class_names for run in self.runs if "class_probability" in run.tells]
        return names[0] if names else ()

    @property
    def finds_anomalies(self) -> bool:
        """Whether a run gives an anomaly score."""
        return any("anomaly" in run.tells for run in self.runs)

    @property
    def targets(self) -> tuple[TargetTransform, ...]:
        """Quantities that are measured; empty if no run measures any."""
        found: list[tuple[TargetTransform, ...]] = [
            run.spec.targets for run in self.runs if run.spec.targets
        ]
        return found[0] if found else ()

    def predict(self, images: NDArray[np.float32]) -> Verdict:
        """Score up to ``n_images`` images (B, C, H, W) as ``Run.predict`` takes them."""
        n = len(images)
        filler = np.repeat(images[-1:], self.n_images - n, axis=0)
        padded = np.concatenate([images, filler]) if len(filler) else images
        answers = [self._one(run, padded, n) for run in self.runs]
        if len(answers) == 1:
            return Verdict(answers[0])
        return _merge(answers)

    def _one(self, run: AnyRun, images: NDArray[np.float32], n: int) -> Prediction:
        prepared = run.prepare(np.asarray(images, np.float32))
        copies = np.concatenate([turned(prepared, k) for k in range(self.symmetries)])
        values, distance = run.judged(copies)
        values = values.reshape(self.symmetries, len(images), -1)[:, :n].mean(axis=0)
        answer = run.task.answer(values, run.spec.calibration)
        # The image as it is, like the validation images that it is ranked among: where the training
        # images have a preferred direction, its turned copies are foreign.
        return Prediction(novelty=run.rank(distance[:n]), **vars(answer))


def load_ensemble(
    paths: Sequence[Path],
    *,
    device: str = "cpu",
    symmetries: int | None = None,
    batch_size: int = 64,
) -> Ensemble:
    """Load run folders and exported networks as one predictor.

    Raises
    ------
    CheckpointError, ConfigError
        If one cannot be loaded, or they do not fit together.
    """
    runs = [load_run(path, device=device) for path in paths]
    return Ensemble(runs, symmetries=symmetries, batch_size=batch_size)


def knows_symmetries(folder: Path) -> bool:
    """Whether a run was trained on turned and mirrored images, as its ``config.yaml`` says."""
    text = run_text(folder, CONFIG_FILE)
    augment = parse_yaml(text, str(folder / CONFIG_FILE))[0].get("augment") if text else None
    if not isinstance(augment, dict):
        return False
    return all(augment.get(key, True) is True for key in ("enabled", "rotate", "flip"))


def turned(images: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """The ``k``-th symmetry (0 to 7) of images (..., H, W)."""
    mirrored = images[..., ::-1] if k >= N_SYMMETRIES // 2 else images
    return np.rot90(mirrored, k % 4, axes=(-2, -1))


def _require_alike(runs: Sequence[AnyRun]) -> None:
    first = runs[0]
    for run in runs[1:]:
        mine, other = first.preprocess, run.preprocess
        pairs = {
            "bands": (mine.bands, other.bands),
            "pixel scale (arcsec)": (mine.pixel_scale, other.pixel_scale),
            "size (pixels)": (mine.size, other.size),
            "normalisation": (mine.normalise, other.normalise),
            "classes": (first.class_names, run.class_names),
        }
        if first.spec.targets and run.spec.targets:
            names = [[t.name for t in r.spec.targets] for r in (first, run)]
            pairs["targets"] = (tuple(names[0]), tuple(names[1]))
        for what, (here, there) in pairs.items():
            if here != there:
                raise ConfigError(
                    f"{run.path}: cannot be scored together with {first.path}: {what} {there} "
                    f"instead of {here}"
                )


def _merge(answers: Sequence[Prediction]) -> Verdict:
    """Mean of runs; further fields that a task may offer are averaged where all have them."""
    probability, class_spread = _classes(answers)
    mean, std, target_spread = _targets(answers)
    special = {"class_probability": probability, "target_mean": mean, "target_std": std}
    merged: dict[str, Any] = {}  # Any: fields of a Prediction
    for name in (f.name for f in fields(Prediction)):
        given = [value for a in answers if (value := getattr(a, name)) is not None]
        if name in special:
            merged[name] = special[name]
        elif given and isinstance(given[0], np.ndarray) and given[0].dtype.kind == "f":
            merged[name] = np.mean(given, axis=0)
        else:
            merged[name] = given[0] if given else None
    return Verdict(Prediction(**merged), class_spread, target_spread)


def _classes(answers: Sequence[Prediction]) -> tuple[Floats | None, Floats | None]:
    given = [a.class_probability for a in answers if a.class_probability is not None]
    if not given:
        return None, None
    stacked = np.stack(given)  # (R, B, K)
    mean = stacked.mean(axis=0)
    if len(given) == 1:
        return mean, None
    best = mean.argmax(axis=1)
    return mean, stacked.std(axis=0, ddof=1)[np.arange(len(best)), best]


def _targets(
    answers: Sequence[Prediction],
) -> tuple[Floats | None, Floats | None, Floats | None]:
    means = [a.target_mean for a in answers if a.target_mean is not None]
    stds = [a.target_std for a in answers if a.target_std is not None]
    if not means:
        return None, None, None
    mean = np.mean(means, axis=0)
    variance = np.mean(np.square(stds), axis=0) + np.var(means, axis=0)
    spread = np.std(means, axis=0, ddof=1) if len(means) > 1 else None
    return mean, np.sqrt(variance), spread
