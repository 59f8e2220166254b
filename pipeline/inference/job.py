"""Items on their way through readers and network into rows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.logs import get_logger, progress
from pipeline.inference.catalogue import Catalogue, Values, rejected_row, scored_rows
from pipeline.inference.images import ReadOptions, Rejection
from pipeline.inference.journal import Journal
from pipeline.inference.passes import passes_at_once, side_by_side
from pipeline.inference.read_item import Outcome
from pipeline.inference.readers import ReaderPool
from pipeline.inference.search import Search

if TYPE_CHECKING:
    from pipeline.inference.ensemble import Ensemble

_LOGGER = get_logger("score")


class ScoringJob:
    """Items on their way through readers and network into a table."""

    def __init__(
        self, ensemble: "Ensemble", search: Search, pool: ReaderPool, options: ReadOptions
    ) -> None:
        self.ensemble = ensemble
        self.files = search.files
        self.pool = pool
        self.options = options
        self.n_resumed = 0
        if search.n_skipped:
            _LOGGER.info("%d files are no images by name and were left out", search.n_skipped)

    def run(self, journal: Journal | None) -> Catalogue:
        """Fill the table; rows that the journal has are taken from there."""
        table = Catalogue(
            [item.name for item in self.files],
            self.ensemble.class_names,
            self.ensemble.targets,
            len(self.ensemble.runs) > 1,
            self.ensemble.finds_anomalies,
        )
        is_done = np.zeros(len(self.files), bool)
        for row, values in journal.finished(self.files) if journal else ():
            _put(table, row, values)
            is_done[row] = True
        self.n_resumed = int(is_done.sum())
        left = [int(row) for row in np.flatnonzero(~is_done)]
        items = [self.files[row] for row in left]
        with progress("scoring", len(left), "files") as advance:
            done = 0
            groups = self._groups(self.pool.read(items))
            n_at_once = passes_at_once(self.ensemble, len(self.files))
            for group, rows in side_by_side(self._score, groups, n_at_once):
                positions = range(done, done + len(group))
                if journal is not None:
                    journal.add([items[p] for p in positions], rows)
                for position, values in zip(positions, rows, strict=True):
                    _put(table, left[position], values)
                done += len(group)
                advance(len(group))
        return table

    def _groups(self, outcomes: Iterator[Outcome]) -> Iterator[list[Outcome]]:
        """Outcomes in order, cut where the network has a full pass of images."""
        group: list[Outcome] = []
        n_images = 0
        for outcome in outcomes:
            group.append(outcome)
            n_images += not isinstance(outcome.image, Rejection)
            if n_images == self.ensemble.n_images or len(group) == 4 * self.ensemble.n_images:
                yield group
                group, n_images = [], 0
        if group:
            yield group

    def _score(self, group: list[Outcome]) -> list[Values]:
        seen = [outcome for outcome in group if not isinstance(outcome.image, Rejection)]
        answered: Iterator[Values] = iter(())
        if seen:
            images = np.stack([o.image.image for o in seen])  # type: ignore[union-attr]  # (B, C, H, W)
            ensemble = self.ensemble
            verdict = ensemble.predict(images)
            answered = iter(scored_rows(seen, verdict, ensemble.class_names, ensemble.targets))
        rows = [
            rejected_row(o) if isinstance(o.image, Rejection) else next(answered) for o in group
        ]
        if self.options.explain:
            preprocess = self.ensemble.runs[0].preprocess
            for row, outcome in zip(rows, group, strict=True):
                row["steps"] = _steps(outcome, preprocess)
        return rows


def _put(table: Catalogue, row: int, values: Values) -> None:
    table.put(row, {name: value for name, value in values.items() if name != "steps"})


def _steps(outcome: Outcome, preprocess: Any) -> list[dict[str, Any]]:  # Any: Preprocess; JSON
    """Steps of the preparation, with the normalisation that the checkpoint does itself."""
    from pipeline.dataset.preprocess import border_statistics

    image = outcome.image
    if isinstance(image, Rejection):
        return [{"step": "rejected", "reason": str(image.reason), "detail": image.detail}]
    background, sigma = border_statistics(image.image[None])
    normalise = {
        "step": "normalise", "kind": preprocess.normalise,
        "background": background.ravel().tolist(), "sigma": sigma.ravel().tolist(),
        "stretch": list(preprocess.stretch), "softening": preprocess.softening,
        "offset": list(preprocess.offset), "scale": list(preprocess.scale),
        "clip": preprocess.clip,
    }  # fmt: skip
    return [*image.steps, normalise]
