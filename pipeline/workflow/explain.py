"""Explain a run and write the page of it: what ``deeplense explain`` does."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.cores import wait_without_spinning
from pipeline.core.files import require_writable_parent

if TYPE_CHECKING:
    from pipeline.explain.pointing import Pointing


@dataclass(frozen=True)
class ExplainSummary:
    """What ``deeplense explain --json`` prints.

    Attributes
    ----------
    run, data, split : str
    images, scored, faint : int
        Explained; with a pointing score; left out of it because nobody sees their substructure.
    methods : tuple of str
    refused : dict of str to str
        Methods that do not apply, and why.
    unscored : str
        Why there is no pointing score; "" if there is.
    pointing : tuple of Pointing
    checkpoint_sha256, dataset_sha256 : str
    out : str or None
        The page.
    """

    run: str
    data: str
    split: str
    images: int
    scored: int
    faint: int
    methods: tuple[str, ...]
    refused: dict[str, str]
    unscored: str
    pointing: "tuple[Pointing, ...]"
    checkpoint_sha256: str
    dataset_sha256: str
    out: str | None


def explain(
    run: Path,
    data: Path | str,
    *,
    out: Path | None = None,
    methods: Sequence[str] = (),
    split: str = "test",
    images: int = 200,
    min_d_prime: float = 3.0,
    device: str = "auto",
) -> ExplainSummary:
    """Explain a run on a split of a dataset.

    Parameters
    ----------
    run : Path
    data : Path or str
    out : Path, optional
        Page to write.
    methods, split, min_d_prime, device
        As :func:`pipeline.explain.run.explain_run` takes them.
    images : int
        The first so many of the split.
    """
    wait_without_spinning()
    if out is not None:
        require_writable_parent(out)
    from pipeline.explain.run import explain_run

    found = explain_run(
        run, data, methods=methods, split=split, n_images=images, min_d_prime=min_d_prime,
        device=device,
    )  # fmt: skip
    if out is not None:
        from pipeline.report.explain_page import write_explain_page

        write_explain_page(found, out)
    return ExplainSummary(
        run=found.run,
        data=found.data,
        split=found.split,
        images=len(found.index),
        scored=len(found.located),
        faint=found.n_faint,
        methods=tuple(found.maps),
        refused=found.refused,
        unscored=found.unscored,
        pointing=found.scores,
        checkpoint_sha256=found.checkpoint_sha256,
        dataset_sha256=found.dataset_sha256,
        out=None if out is None else str(out),
    )
