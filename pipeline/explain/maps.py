"""Maps of what an answer rests on, for any network and any way of explaining."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.config import StrictModel
from pipeline.explain.explanations.base import EXPLANATIONS
from pipeline.explain.patches import finished
from pipeline.explain.question import ask

if TYPE_CHECKING:
    from pipeline.checkpoint.load import Run

#: Images explained at once.
BATCH_SIZE = 32


def explain(
    run: "Run",
    images: NDArray[np.floating],
    method: str | StrictModel = "gradient",
    of: NDArray[np.integer] | None = None,
) -> NDArray[np.float64]:
    """How much each pixel matters to the answer, in [0, 1], smoothed over three pixels.

    Parameters
    ----------
    run : Run
    images : NDArray, shape (B, C, H, W)
        As ``Run.predict`` takes them, or with the planes of their fits behind the bands.
    method : str or StrictModel
        A kind of :data:`EXPLANATIONS`, or its ``Config``.
    of : NDArray of int, shape (B,), optional
        Class to explain in each image; by default the one the network names.

    Returns
    -------
    NDArray, shape (B, H, W)
        The largest value of each map is 1; a map of zeros says that nothing matters.

    Raises
    ------
    UnknownKindError
        If there is no such method.
    ExplanationError
        If the method does not apply to the network, and which does.
    """
    config = EXPLANATIONS.config(method)
    heat_of = EXPLANATIONS.load(str(config.kind)).heat  # type: ignore[attr-defined]
    found = np.empty((len(images), *images.shape[2:]))
    layout = run.network.memory_format
    for first in range(0, len(images), BATCH_SIZE):
        rows = slice(first, first + BATCH_SIZE)
        prepared = torch.from_numpy(run.preprocess.apply(np.asarray(images[rows], np.float32)))
        classes = None if of is None else torch.from_numpy(np.asarray(of[rows], np.int64))
        prepared = prepared.to(run.device, memory_format=layout)
        found[rows] = heat_of(config, ask(run, prepared, classes)).detach().cpu().numpy()
    return finished(found)
