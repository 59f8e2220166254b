"""What the page asks of a trained network: prepared images in, numbers out, whatever runs it.

Nothing else of this package knows how a network is run: a run folder's in PyTorch, an exported one
in ONNX Runtime without it. Another needs the four attributes and three methods of :class:`Network`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoint.onnx_file import is_onnx
from pipeline.dataset.preprocess import border_pixels
from pipeline.explain.patches import finished, patch_places
from pipeline.inference.target import Target

if TYPE_CHECKING:
    from pipeline.inference.ensemble import Ensemble, Verdict
    from pipeline.tasks.base import TargetTransform

Images = NDArray[np.float32]


class Network(Protocol):
    """A trained network.

    Attributes
    ----------
    name : str
        Of the model, for the page's title.
    target : Target
        What images are prepared for.
    class_names : sequence of str
        Empty for a task without classes.
    targets : sequence of TargetTransform
        Quantities that are measured.
    """

    name: str
    target: Target
    class_names: Sequence[str]
    targets: "Sequence[TargetTransform]"

    def predict(self, images: Images) -> "Verdict":
        """Calibrated answers for images (B, C, H, W), as ``prepare_image`` makes them."""
        ...

    def as_seen(self, images: Images) -> Images:
        """The images (B, C', H, W) that enter the first layer."""
        ...

    def saliency(self, images: Images) -> NDArray[np.float64] | None:
        """How much each pixel matters, (B, H, W) in [0, 1]; None where that is not known."""
        ...


def open_network(path: Path, device: str = "cpu") -> Network:
    """Network of a run folder.

    Raises
    ------
    CheckpointError
    """
    from pipeline.inference.ensemble import Ensemble, load_ensemble

    ensemble = load_ensemble([path], device=device)
    # passes of one image: nobody waits for room that stays empty
    ensemble = Ensemble(ensemble.runs, batch_size=ensemble.symmetries)
    return _OnnxNetwork(ensemble) if is_onnx(path) else _RunNetwork(ensemble)


class _RunNetwork:
    """A run folder's network in PyTorch."""

    def __init__(self, ensemble: "Ensemble") -> None:
        (self._run,) = ensemble.runs
        self._ensemble = ensemble
        self.name = f"{self._run.spec.model.kind}, {self._run.spec.task.kind}"
        self.target = Target.of_run(self._run)
        self.class_names: Sequence[str] = ensemble.class_names
        self.targets: Sequence[TargetTransform] = ensemble.targets

    def predict(self, images: Images) -> "Verdict":
        """See :class:`Network`."""
        verdict: Verdict = self._ensemble.predict(images)
        return verdict

    def as_seen(self, images: Images) -> Images:
        """See :class:`Network`."""
        seen: Images = self._run.preprocess.apply(images)
        return seen

    def saliency(self, images: Images) -> NDArray[np.float64] | None:
        """See :class:`Network`."""
        from pipeline.checkpoint.load import Run
        from pipeline.core.errors import ExplanationError
        from pipeline.explain.maps import explain

        assert isinstance(self._run, Run)
        try:
            return explain(self._run, images, "gradient")
        except ExplanationError:  # e.g. trees, which have no gradient
            return None


class _OnnxNetwork(_RunNetwork):
    """An exported network, which has no gradient: patches are covered instead."""

    def saliency(self, images: Images) -> NDArray[np.float64] | None:
        """See :class:`Network`."""
        return np.concatenate([finished(self._fall(image)[None]) for image in images])

    def _fall(self, image: Images) -> NDArray[np.float64]:
        """Fall of the answer, averaged over the patches of empty sky that cover a pixel, (H, W)."""
        size = image.shape[-1]
        patch = max(2, size // 8)
        places = patch_places(size, patch, max(1, patch // 2))
        sky = np.median(border_pixels(image[None])[0], axis=-1)
        variants = np.repeat(image[None], len(places) + 1, axis=0)
        for variant, (rows, columns) in zip(variants[1:], places, strict=True):
            variant[:, rows, columns] = sky[:, None, None]
        answers = self._answers(variants)
        total, n_covers = np.zeros((2, size, size))
        for answer, place in zip(answers[1:], places, strict=True):
            total[place] += answers[0] - answer
            n_covers[place] += 1.0
        return np.asarray(np.maximum(total / n_covers, 0.0))

    def _answers(self, images: Images) -> NDArray[np.float64]:
        """Log-odds (B,) of the first image's class; without classes, the first output."""
        values, _ = self._run.judged(images)
        probability = self._run.task.answer(values, self._run.spec.calibration).class_probability
        if probability is None:
            return np.asarray(values[:, 0], np.float64)
        chosen = np.clip(probability[:, probability[0].argmax()], 1e-12, 1.0 - 1e-12)
        return np.asarray(np.log(chosen) - np.log1p(-chosen))
