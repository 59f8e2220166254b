"""Every image once, in an order that only (seed, epoch, step) decide, on any number of ranks."""

import dataclasses
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError
from pipeline.dataset.order import BatchOrder


@st.composite
def orders(draw: st.DrawFn, **fixed) -> BatchOrder:
    n = draw(st.integers(1, 90))
    inside = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    values = {
        "indices": np.flatnonzero(inside).astype(np.int64),
        "shard_size": draw(st.integers(1, 30)),
        "shards_per_window": draw(st.integers(1, 6)),
        "batch_size": draw(st.integers(1, 40)),
        "seed": draw(st.integers(0, 5)),
        "shuffle": draw(st.booleans()),
        "drop_last": draw(st.booleans()),
    }
    return BatchOrder(**values | fixed)


def flat(parts: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(parts))


def batches(order: BatchOrder, epoch: int = 0, start: int = 0) -> list[list[int]]:
    return [index.tolist() for index, _ in order.batches(epoch, start)]


@given(order=orders(drop_last=False), epoch=st.integers(0, 3))
def test_every_image_comes_exactly_once(order: BatchOrder, epoch: int) -> None:
    assert sorted(flat(batches(order, epoch))) == order.indices.tolist()
    assert len(batches(order, epoch)) == order.n_steps
    np.testing.assert_array_equal(order.order(epoch), np.array(flat(batches(order, epoch)), int))


@given(order=orders(drop_last=True), epoch=st.integers(0, 3))
def test_without_a_short_batch_all_are_full_and_none_comes_twice(order, epoch) -> None:
    found = batches(order, epoch)
    assert len(found) == order.n_steps == len(order.indices) // order.batch_size
    assert {len(batch) for batch in found} <= {order.batch_size}
    seen = flat(found)
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(order.indices.tolist())


@given(order=orders(), epoch=st.integers(0, 3), data=st.data())
def test_a_later_start_gives_the_rest(order: BatchOrder, epoch: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, order.n_steps))
    assert batches(order, epoch, start) == batches(order, epoch)[start:]


@given(order=orders(), n_ranks=st.integers(1, 5))
def test_ranks_share_each_batch_of_one(order: BatchOrder, n_ranks: int) -> None:
    alone = batches(order)
    values = {f.name: getattr(order, f.name) for f in dataclasses.fields(order)}
    shared = [BatchOrder(**values | {"rank": r, "n_ranks": n_ranks}) for r in range(n_ranks)]
    parts = [batches(rank) for rank in shared]
    for step, batch in enumerate(alone):
        together = [part[step] for part in parts if step < len(part)]
        assert sorted(flat(together)) == batch
        assert max(map(len, together)) - min(map(len, together)) <= 1


@given(order=orders(shuffle=False, drop_last=False))
def test_without_shuffling_images_come_in_order(order: BatchOrder) -> None:
    assert order.order(0).tolist() == order.indices.tolist()


@given(order=orders(shuffle=True))
def test_a_window_reaches_no_further_than_its_shards(order: BatchOrder) -> None:
    # Images that are in memory together: a batch, and whatever its window holds.
    seen: list[int] = []
    for batch in batches(order):
        seen += batch
    for window in (set(shards.tolist()) for shards in order._windows(0)):
        places = [p for p, i in enumerate(seen) if i // order.shard_size in window]
        # A batch may straddle two windows; beyond that their images do not mix.
        reach = max(places, default=0) - min(places, default=0)
        assert reach < len(places) + 2 * order.batch_size


@given(order=orders(drop_last=False))
def test_shards_of_a_later_window_are_named_beforehand(order: BatchOrder) -> None:
    steps = [(set((i // order.shard_size).tolist()), set(u.tolist())) for i, u in order.batches(0)]
    named = [shard for _, upcoming in steps for shard in upcoming]
    assert len(named) == len(set(named))
    used = set().union(*(shards for shards, _ in steps)) if steps else set()
    assert len(used - set(named)) <= order.shards_per_window  # the first window alone is not


def test_epochs_and_seeds_shuffle_differently() -> None:
    def order(seed: int) -> BatchOrder:
        return BatchOrder(np.arange(60), 9, 2, 8, seed, shuffle=True)

    assert (order(3).order(0) != order(3).order(1)).any()
    assert (order(3).order(0) != order(4).order(0)).any()
    np.testing.assert_array_equal(order(3).order(5), order(3).order(5))


def test_neighbours_within_a_window_are_shuffled() -> None:
    batch = batches(BatchOrder(np.arange(4000), 500, 8, 100, 0, shuffle=True))[0]
    # A uniform draw of 100 from 4000 spans nearly all of them and repeats no neighbourhood.
    assert max(batch) - min(batch) > 3000


@pytest.mark.parametrize(("change", "word"), [({"rank": 2}, "rank"), ({"batch_size": 0}, "batch")])
def test_impossible_requests_are_refused(change: dict, word: str) -> None:
    values = {"batch_size": 4, "rank": 0, "n_ranks": 2, **change}
    with pytest.raises(ConfigError, match=word):
        BatchOrder(np.arange(9), 3, 1, seed=0, shuffle=True, **values)
