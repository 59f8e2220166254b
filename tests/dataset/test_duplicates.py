"""Equal images share a group, a group has one split, and pixels alone can decide it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipeline.dataset.duplicates import image_digests, joined, one_split_each, same_pixels
from pipeline.dataset.splits import content_split_codes

GROUPS = npst.arrays(np.int64, st.shared(st.integers(0, 30), key="n"), elements=st.integers(-1, 9))


@settings(deadline=None)
@given(numbers=st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_images_share_a_group_exactly_if_they_are_equal(numbers: list[int]) -> None:
    images = np.array(numbers, np.float32)[:, None, None, None] * np.ones((1, 1, 3, 3), np.float32)
    group = same_pixels(image_digests(images))
    for i, a in enumerate(numbers):
        for j, b in enumerate(numbers):
            assert (group[i] == group[j]) == (a == b)


def test_the_hash_does_not_depend_on_the_order_of_bytes_or_memory() -> None:
    image = np.random.default_rng(0).normal(size=(2, 5, 5)).astype(np.float32)
    same = [image, image.astype(">f4"), np.asfortranarray(image)]
    assert len({digest.tobytes() for digest in image_digests(same)}) == 1


@settings(deadline=None)
@given(first=GROUPS, second=GROUPS)
def test_joined_groups_are_the_connected_ones(first: np.ndarray, second: np.ndarray) -> None:
    group = joined(first, second)
    expected = np.arange(len(first))
    for _ in range(len(first)):
        for kind in (first, second):
            for value in range(10):
                expected[kind == value] = expected[kind == value].min(initial=len(first))
    same = group[:, None] == group[None, :]
    np.testing.assert_array_equal(same, expected[:, None] == expected[None, :])


@settings(deadline=None)
@given(data=st.data(), n=st.integers(1, 40))
def test_no_group_lies_in_two_splits_and_none_moves_without_need(
    data: st.DataObject, n: int
) -> None:
    group = data.draw(npst.arrays(np.int64, n, elements=st.integers(0, 9)))
    split = data.draw(npst.arrays(np.int8, n, elements=st.integers(0, 2)))
    moved, n_moved = one_split_each(split, group)
    for value in set(group.tolist()):
        assert set(moved[group == value].tolist()) == {split[group == value].min()}
    assert n_moved == int((moved != split).sum())


def test_a_split_by_content_has_the_asked_fractions_and_another_seed_another_one() -> None:
    digests = image_digests(np.arange(4000, dtype=np.float32)[:, None, None, None])
    codes = content_split_codes(digests, 0.7, 0.15)
    share = np.bincount(codes, minlength=3) / 4000
    np.testing.assert_allclose(share, (0.7, 0.15, 0.15), atol=4 * np.sqrt(0.21 / 4000))
    np.testing.assert_array_equal(codes[:100], content_split_codes(digests[:100], 0.7, 0.15))
    assert (codes != content_split_codes(digests, 0.7, 0.15, seed=1)).any()
