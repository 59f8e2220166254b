"""A split is a property of the image: fixed fractions, no class different, stable when growing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.splits import split_codes


@given(
    n_images=st.integers(30, 3000),
    n_classes=st.integers(1, 6),
    train=st.floats(0.3, 0.8),
)
def test_every_class_has_the_asked_fractions(n_images: int, n_classes: int, train: float) -> None:
    val = (1.0 - train) / 2.0
    index = np.arange(n_images)
    codes = split_codes(index, n_classes, train, val)
    for label in range(n_classes):
        mine = codes[index % n_classes == label]
        for code, fraction in enumerate((train, val, 1.0 - train - val)):
            # The golden-ratio sequence stays within O(log n)/n of the fraction; chance would not.
            assert abs((mine == code).sum() - fraction * len(mine)) < 3.0 + np.log(len(mine))


@given(st.integers(1, 500), st.integers(1, 500))
def test_growing_a_dataset_moves_no_image(n_before: int, n_more: int) -> None:
    before = split_codes(np.arange(n_before), 3, 0.7, 0.15)
    after = split_codes(np.arange(n_before + n_more), 3, 0.7, 0.15)
    np.testing.assert_array_equal(after[:n_before], before)


def test_all_three_splits_occur_in_small_datasets() -> None:
    codes = split_codes(np.arange(30), 3, 0.7, 0.15)
    for label in range(3):
        assert set(codes[np.arange(30) % 3 == label]) == {0, 1, 2}


@pytest.mark.parametrize("n_classes", [1, 3])
def test_twins_of_one_counter_share_a_split(n_classes: int) -> None:
    codes = split_codes(np.arange(30 * n_classes), n_classes, 0.6, 0.2).reshape(30, n_classes)
    assert (codes == codes[:, :1]).all()
