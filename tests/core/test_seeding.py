"""Randomness is a pure function of (seed, stream, index)."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.seeding import Stream, child_rngs, image_rng


def test_first_draws_are_those_of_the_specification(shared: Path) -> None:
    entries = json.loads((shared / "physics/vectors.json").read_text())["entries"]
    cases = [e for e in entries if e["kind"] == "rng"]
    assert cases
    for case in cases:
        given, drawn = case["params"], case["out"]["random"]
        rng = image_rng(given["seed"], given["index"], Stream(given["stream"]))
        np.testing.assert_array_equal(rng.random(len(drawn)), drawn)


def test_streams_indices_and_seeds_are_independent() -> None:
    draws = {
        (s, i, t): tuple(image_rng(s, i, t).random(4))
        for s in (0, 1) for i in (0, 1, 10**9) for t in Stream
    }  # fmt: skip
    assert len(set(draws.values())) == len(draws)


def test_children_do_not_shift_each_other() -> None:
    mass, position = child_rngs(7, 3, Stream.SUBSTRUCTURE, 2)
    expected = position.random(3)
    _, again = child_rngs(7, 3, Stream.SUBSTRUCTURE, 2)
    mass.random(1000)
    np.testing.assert_array_equal(again.random(3), expected)


def test_negative_index_is_refused() -> None:
    with pytest.raises(ValueError, match=r"non-negative"):
        image_rng(0, -1)
