"""``deeplense bench train`` measures both loops on the same work."""

import math

from pipeline.benchmark.train import run


def test_rows_are_pairs_of_a_bare_loop_and_the_trainer():
    rows = run(quick=True).rows
    assert len(rows) == 2 and all(row.unit == "ms/step" and row.value > 0 for row in rows)
    assert math.isnan(rows[0].ratio)
    assert math.isclose(rows[1].ratio, rows[1].value / rows[0].value)
