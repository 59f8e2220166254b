"""What the page asks of a trained network: prepared images in, numbers out, whatever runs it.

Nothing else of this package knows how a network is run. One from PyTorch stands behind
:func:`open_network`; one that another library runs needs the four attributes and three methods of
:class:`Network`, and nothing of PyTorch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoint.onnx_file import is_onnx
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
    return _RunNetwork(Ensemble(ensemble.runs, batch_size=ensemble.symmetries))


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
        if is_onnx(self._run.path):  # it has no gradients
            return None
        from pipeline.checkpoint.load import Run
        from pipeline.core.errors import ExplanationError
        from pipeline.explain.maps import explain

        assert isinstance(self._run, Run)
        try:
            return explain(self._run, images, "gradient")
        except ExplanationError:  # e.g. trees, which have no gradient
            return None
