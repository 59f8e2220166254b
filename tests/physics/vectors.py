"""Reads the reference vectors for the tests of this folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FILE = Path(__file__).resolve().parents[3] / "shared" / "physics" / "vectors.json"


def entries(*kinds: str) -> list[Any]:
    """Pytest parameters, one per entry of these kinds; one skipped one without the file."""
    if not FILE.is_file():
        reason = "the developers' shared/ folder is not beside the checkout"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="no-vectors")]
    found = [e for e in _read() if e["kind"] in kinds]
    assert found, f"no entry of kind {kinds}"
    return [pytest.param(entry, id=entry["name"]) for entry in found]


def kinds() -> set[str]:
    """Every kind of entry in the file."""
    return {entry["kind"] for entry in _read()}


def _read() -> Iterator[dict[str, Any]]:
    yield from json.loads(FILE.read_text(encoding="utf-8"))["entries"]


def positions(entry: dict[str, Any], dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Positions x and y of an entry."""
    return np.array(entry["x"], dtype=dtype), np.array(entry["y"], dtype=dtype)


def assert_meets(entry: dict[str, Any], **found: Any) -> None:
    """Every named output lies within the entry's own tolerance."""
    for name, value in found.items():
        np.testing.assert_allclose(
            value, entry["out"][name], rtol=entry["rtol"], atol=entry["atol"], err_msg=name
        )
