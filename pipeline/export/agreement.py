"""Whether an exported network answers as the run does, image by image."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoint.onnx_run import OnnxRun

if TYPE_CHECKING:
    from pipeline.checkpoint.load import Run
    from pipeline.tasks.base import Prediction

Array = NDArray[np.floating]

#: Largest difference of raw outputs, over 1 plus their size.
MAX_VALUES = 1e-4
#: Largest difference of a probability; of a target, over its spread among training images.
MAX_ANSWER = 1e-4
#: Largest difference of the distance from the training images, over 1 plus its size (1 is what one
#: validation image in a hundred exceeds); it measures every feature by its own spread, so it is
#: strict where outputs happen to be small.
MAX_DISTANCE = 1e-3
#: Largest difference of novelty, which is a rank among a finite number of images.
MAX_NOVELTY = 0.01


@dataclass(frozen=True)
class Agreement:
    """How far the answers of an export lie from the run's.

    ``values`` and ``distance`` (relative to 1 plus their size), ``answer`` and ``novelty`` are the
    largest differences over all images; ``same_label`` is the fraction of classifications that
    are the same (1 where there are none); ``problem`` says what is beyond its limit, and is empty
    if nothing is.
    """

    n_images: int
    n_extremes: int
    values: float
    distance: float
    answer: float
    novelty: float
    same_label: float
    problem: str = ""

    @property
    def agrees(self) -> bool:
        """Whether every difference is within its limit."""
        return not self.problem

    @property
    def worst(self) -> float:
        """Largest difference of raw outputs and answers."""
        return max(self.values, self.answer)


def compare(run: "Run", exported: OnnxRun, images: Array, extreme: Array) -> Agreement:
    """Ask both about the same images (B, C, H, W), one and all at a time.

    The answers that the graph itself tells are held against the run's as well.
    """
    both = np.concatenate([images, extreme], dtype=np.float32)
    expected, known_distance = run.judged(run.prepare(both))
    wanted = run.predict(both)
    found, distance = exported.judged(both)
    alone, _ = exported.judged(both[:1])
    values = max(_relative(found, expected), _relative(alone, expected[:1]))
    far = _relative(distance, known_distance)
    told = exported.tell(both)
    answer, novelty = _differences(run, exported.predict(both), wanted)
    graph = {name: told[name] for name in told if name in vars(wanted)}
    from_graph = _differences(run, graph, wanted)
    answer, novelty = max(answer, from_graph[0]), max(novelty, from_graph[1])
    allowed = max(MAX_NOVELTY, 2.0 / len(run.novelty.val_distances))
    limits = (
        ("raw outputs", values, MAX_VALUES),
        ("distances", far, MAX_DISTANCE),
        ("answers", answer, MAX_ANSWER),
        ("novelty", novelty, allowed),
    )
    beyond = [f"{what} differ by {d:.1e}, allowed {m:.0e}" for what, d, m in limits if not d <= m]
    return Agreement(
        n_images=len(images), n_extremes=len(extreme), values=values, distance=far,
        answer=answer,
        novelty=novelty, same_label=_same_label(told.get("class_probability"), wanted),
        problem="; ".join(beyond),
    )  # fmt: skip


def _differences(
    run: "Run", found: "Prediction | dict[str, Array]", wanted: "Prediction"
) -> tuple[float, float]:
    """Largest difference of an answer, and of novelty."""
    fields = found if isinstance(found, dict) else vars(found)
    worst, novelty = 0.0, 0.0
    for name, expected in vars(wanted).items():
        value = fields.get(name)
        if expected is None:
            continue
        if value is None:
            return float("nan"), float("nan")  # an answer that is missing agrees with nothing
        if name == "novelty":
            novelty = _largest(value, expected)
        elif name.startswith("target"):
            spread = np.array([t.std for t in run.spec.targets])
            spread = spread.reshape((1, -1) + (1,) * (expected.ndim - 2))
            worst = max(worst, _largest(value / spread, expected / spread))
        else:
            worst = max(worst, _largest(value, expected))
    return worst, novelty


def _relative(found: Array, expected: Array) -> float:
    size = 1.0 + np.abs(expected)
    return _largest(found / size, expected / size)


def _largest(found: Array, expected: Array) -> float:
    """Largest difference; where both are not a number they agree, where one is they do not."""
    both = np.isnan(found) & np.isnan(expected)
    with np.errstate(invalid="ignore"):
        difference = np.where(both | (found == expected), 0.0, np.abs(found - expected))
    return float(np.max(difference, initial=0.0))


def _same_label(probability: Array | None, wanted: "Prediction") -> float:
    if probability is None or wanted.class_probability is None:
        return 1.0
    same = probability.argmax(axis=1) == wanted.class_probability.argmax(axis=1)
    return float(same.mean())
