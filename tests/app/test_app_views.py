"""What the page says of an answer: measured, limited, doubted or refused; files say no markup."""

import numpy as np
import pytest

from pipeline.app import views
from pipeline.app.answer import Answer
from pipeline.inference.catalogue import scored_rows
from pipeline.inference.ensemble import Verdict
from pipeline.inference.images import Rejection, RejectReason
from pipeline.inference.prepare import Prepared
from pipeline.inference.read_item import Outcome
from pipeline.statistics.regression import PROBABILITIES
from pipeline.tasks.base import Prediction, fit_target

CLASSES = ("no", "subhalo", "vortex")
TARGET = fit_target("axion_mass", "eV", "log10", 10.0 ** np.linspace(-24.0, -22.0, 101))


def row(quantiles: np.ndarray, *, novelty: float = 0.5, flags: tuple[str, ...] = ()) -> dict:
    """Row of one image whose posterior has these quantiles, shape (7,)."""
    prediction = Prediction(
        novelty=np.array([novelty]), class_probability=np.array([[0.1, 0.2, 0.7]]),
        target_mean=quantiles[None, 3:4], target_std=np.array([[0.1]]),
        target_quantile=quantiles[None, None],
    )  # fmt: skip
    image = Prepared(np.zeros((1, 8, 8), np.float32), "0", 0.05, False, 9.0, flags)
    (values,) = scored_rows([Outcome(image, "0", None)], Verdict(prediction), CLASSES, (TARGET,))
    return values


def told(*args: object, **options: object) -> str:
    return views.answer_text(Answer(row(*args, **options)), CLASSES, (TARGET,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (-23.1, -22.9, "-23.00 (68 %: "),
        (-24.0, -22.0, "does not constrain it"),
        (-23.2, -22.0, "above -23."),
        (-24.0, -22.8, "below -22."),
    ],
)
def test_an_axion_mass_is_measured_or_a_limit_or_nothing(
    low: float, high: float, sentence: str
) -> None:
    text = told(low + (high - low) * np.array(PROBABILITIES))
    assert sentence in text
    assert "log₁₀(axion mass / eV)" in text


def test_probabilities_stand_beside_their_classes_and_the_best_is_marked() -> None:
    text = told(np.linspace(-24, -22, 7))
    assert 'class="dl-best"><th scope="row">vortex</th>' in text
    assert "70.0 %" in text and "20.0 %" in text and "10.0 %" in text
    assert "No warning" in text


def test_a_foreign_image_is_not_to_be_believed_and_its_flags_are_explained() -> None:
    text = told(np.linspace(-24, -22, 7), novelty=1.0, flags=("padded", "picture"))
    assert "Do not believe this score" in text
    assert "unlike anything the network was trained" in text
    assert "a picture made for the eye" in text


def test_what_a_file_says_is_text_and_never_markup() -> None:
    rejection = Rejection(RejectReason.UNREADABLE, "<script>alert(1)</script>")
    text = views.answer_text(
        Answer({"reason": str(rejection.reason), "detail": rejection.detail}), CLASSES, ()
    )
    assert "No score: unreadable" in text
    assert "<script" not in text
    assert "&lt;script&gt;" in text
