"""Many networks on the same images: trained or loaded, judged, and put into one table.

A network that fails is a row that says why. Interrupted, the same call goes on: finished trainings
are recognised, an unfinished one is resumed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.benchmark.judge import Answers, Row, answers_of, row_of, with_tests
from pipeline.benchmark.published import published
from pipeline.benchmark.tables import write_tables
from pipeline.benchmark.trainings import Outcome, Training, plan_trainings, train_one
from pipeline.checkpoint.load import Run, load_run
from pipeline.core.config import dump
from pipeline.core.errors import ConfigError, DeepLenseError
from pipeline.core.logs import get_logger
from pipeline.core.provenance import canonical_json
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.simulate import simulate_dataset
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.training.bounds import class_ceilings, class_floors
from pipeline.training.config import load_training_config

logger = get_logger("compare")


@dataclass(frozen=True)
class Reference:
    """A figure that is no model of this comparison.

    ``kind`` is ``ceiling`` (no network can exceed it), ``floor`` (plain statistics reach it, or no
    estimator has a smaller error) or ``published`` (reported by others, on their own images).
    """

    kind: Literal["ceiling", "floor", "published"]
    name: str
    dataset: str
    source: str
    macro_auc: float | None = None
    accuracy: float | None = None
    mae_dex: float | None = None


@dataclass(frozen=True)
class Comparison:
    """The table, and where it was written."""

    rows: tuple[Row, ...]
    references: tuple[Reference, ...]
    data: str
    dataset_sha256: str
    split: str
    n: int
    out: Path


def compare(
    runs: Sequence[Path],
    *,
    out: Path,
    data: Path | str | None = None,
    preset: str | None = None,
    models: Sequence[str] = (),
    seeds: int = 1,
    minutes: float | None = None,
    images: int | None = None,
    config: str | None = None,
    overrides: Sequence[str] = (),
    split: str = "test",
    device: str = "auto",
) -> Comparison:
    """Compare runs, or models trained here, on one dataset.

    Parameters
    ----------
    runs : sequence of Path
        Run folders; those of one configuration with different seeds make one row.
    out : Path
        Folder for the tables (``compare.csv``, ``.md``, ``.html``, ``.json``), the runs trained
        here and the dataset simulated here.
    data : Path, optional
        A complete dataset.
    preset : str, optional
        Simulate this instead.
    models : sequence of str
        ``KIND``, ``KIND/VARIANT`` or ``all``: trained here.
    seeds, minutes, images : optional
        Trainings per model, budget of each, images to simulate.
    config : str, optional
        Training preset of all models; by default that of the model's name.
    overrides : sequence of str
        ``"key.key=value"`` of the training configuration.
    split, device : str

    Raises
    ------
    ConfigError
        If there is nothing to compare, or not exactly one of data and preset.
    """
    if not runs and not models:
        raise ConfigError("nothing to compare: give run folders, or --models")
    if (data is None) == (preset is None):
        raise ConfigError("a comparison needs either --data DATA.zarr or --preset NAME")
    planned = plan_trainings(
        models, out, seeds=seeds, minutes=minutes, config=config, overrides=overrides
    )
    if preset is not None:
        changes = [] if images is None else [f"n_images={images}"]
        data = out / "data.zarr"
        simulate_dataset(load_dataset_config(preset, changes), data)
    assert data is not None
    dataset = open_dataset(data)
    table = _Table(dataset, split, out, _references(dataset, split, preset, planned, runs))
    for name, group in _groups(runs).items():
        table.add(name, [(run, Outcome("", None)) for run in group], device)
    for name in dict.fromkeys(training.name for training in planned):
        trainings = [training for training in planned if training.name == name]
        found = [(training.run, train_one(training, data, device)) for training in trainings]
        table.add(name, found, device)
    return table.write()


class _Table:
    """Rows so far, written after every model so that an interruption loses none."""

    def __init__(
        self, dataset: Dataset, split: str, out: Path, references: tuple[Reference, ...]
    ) -> None:
        self._dataset, self._split, self._out = dataset, split, out
        self._references = references
        self._rows: list[Row] = []
        self._answers: dict[str, Sequence[Answers]] = {}

    def add(self, name: str, found: Sequence[tuple[Path, Outcome]], device: str) -> None:
        """Judge the runs of one model and write the table anew."""
        answers, memory, reasons = [], [], []
        for run, outcome in found:
            if outcome.reason:
                reasons.append(outcome.reason)
                continue
            try:
                loaded = load_run(run, device=device)
                answers.append(answers_of(loaded, self._dataset, self._split))
                memory.append(outcome.memory_mb)
            except DeepLenseError as error:
                reasons.append(str(error))
        if answers:
            row = row_of(name, answers, memory)
            self._answers[name] = answers
            if reasons and row.status == "ok":
                row = Row(**{**asdict(row), "reason": f"{len(reasons)} failed: {reasons[0]}"})
        else:
            row = Row(name, "failed", reasons[0])
        self._rows.append(row)
        logger.info("%s: %s %s", name, row.status, row.reason)
        self.write()

    def write(self) -> Comparison:
        """Write what there is."""
        rows = with_tests(self._rows, self._answers)
        rows.sort(key=_order)
        result = Comparison(
            rows=tuple(rows),
            references=self._references,
            data=self._dataset.path.name,
            dataset_sha256=self._dataset.sha256,
            split=self._split,
            n=len(self._dataset.indices(self._split)),
            out=self._out,
        )
        write_tables(result)
        return result


def _order(row: Row) -> tuple[bool, float]:
    """Best first; failures last."""
    best = row.mae_dex if row.macro_auc is None else -row.macro_auc
    return row.status == "failed", float("inf") if best is None else best


def _references(
    dataset: Dataset,
    split: str,
    preset: str | None,
    planned: Sequence[Training],
    runs: Sequence[Path],
) -> tuple[Reference, ...]:
    """What to hold the table against: bounds of the dataset, figures of others."""
    tasks = {training.config.task.kind for training in planned} | {_task(run) for run in runs}
    known, found, name = published(), [], dataset.path.name
    if tasks & {"classification", "joint"}:
        ceiling = class_ceilings(dataset, split).get("macro_auc")
        floor = class_floors(dataset, split).get("macro_auc")
        source = "detectability of the split's images (docs/detectability.md)"
        if ceiling is not None:
            found.append(Reference("ceiling", "ceiling", name, source, macro_auc=ceiling))
        if floor is not None:
            source = "boosted trees on plain statistics of the images"
            found.append(Reference("floor", "plain statistics", name, source, macro_auc=floor))
    if tasks & {"regression", "joint"}:
        found += [
            Reference(
                "floor",
                f"Bayes, {f.note or f.dataset}",
                f.dataset,
                known.sources[f.source],
                mae_dex=f.mae_dex,
            )
            for f in known.floors
            if preset in (None, f.dataset)
        ]
    names = {figure.dataset for figure in known.figures}
    for figure in known.figures:
        fits = figure.task in tasks or "joint" in tasks
        if fits and (preset not in names or figure.dataset == preset):
            found.append(
                Reference(
                    "published",
                    f"DeepLense {figure.model}",
                    figure.dataset,
                    known.sources[figure.source],
                    figure.macro_auc,
                    figure.accuracy,
                    figure.mae_dex,
                )
            )
    return tuple(found)


def _task(run: Path) -> str:
    try:
        return str(load_run(run).spec.task.kind)
    except DeepLenseError:
        return ""


def _groups(runs: Sequence[Path]) -> dict[str, list[Path]]:
    """Run folders by name of their row: those that differ by the seed alone share one."""
    found: dict[str, tuple[str, list[Path]]] = {}
    for run in runs:
        try:
            loaded = load_run(run)
        except DeepLenseError:
            found[str(run)] = (run.name, [run])
            continue
        name, group = found.setdefault(_recipe(loaded), (loaded.spec.model.kind, []))
        group.append(run)
    named: dict[str, list[Path]] = {}
    for name, group in found.values():
        own = f"{name} ({group[0].name})" if name in named else name
        named[own] = group
    return named


def _recipe(run: Run) -> str:
    """What a run was made from, but for the seed."""
    path = run.path / "config.yaml"
    if path.is_file():
        return load_training_config(path).with_changes(seed=0).sha256
    spec: dict[str, Any] = dump(run.spec)  # Any: plain JSON data
    return canonical_json({key: spec[key] for key in ("model", "task", "preprocess")})
