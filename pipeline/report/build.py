"""Put a report together from what lies on disk: a run, its dataset, a table of scores."""

from pathlib import Path

from pipeline.checkpoint.spec import CheckpointSpec, read_spec
from pipeline.core.errors import ConfigError
from pipeline.core.provenance import package_versions
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.models.base import kind_of
from pipeline.report.dataset_section import dataset_section
from pipeline.report.evaluation_section import (
    evaluation_section,
    evaluation_tiles,
    read_evaluation,
)
from pipeline.report.page import Page, Section, Tile, write_page
from pipeline.report.scores_section import Scores, read_scores, scores_section
from pipeline.report.training_section import training_section


def build_report(
    out: Path,
    *,
    run: Path | None = None,
    data: Path | None = None,
    scores: Path | None = None,
    images: Path | None = None,
) -> Path:
    """Write one self-contained HTML file.

    Parameters
    ----------
    out : Path
    run : Path, optional
        Run folder; it contributes its curves and, once evaluated, its test.
    data : Path, optional
        Dataset to show pictures of.
    scores : Path, optional
        Table that ``deeplense score`` wrote.
    images : Path, optional
        The folder that was scored, for pictures.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    ConfigError
        If there is nothing to report on.
    DatasetError, CheckpointError, ScoringError
        If one of them cannot be read.
    """
    if run is None and scores is None:
        raise ConfigError("a report needs a run folder or a table of scores")
    dataset = None if data is None else open_dataset(data)
    spec = None if run is None else read_spec(run)
    table = None if scores is None else read_scores(scores, images)
    sections: list[Section] = []
    tiles: list[Tile] = []
    if dataset is not None:
        sections.append(dataset_section(dataset))
        tiles.append(Tile("simulated images", f"{dataset.n_images:,}", ", ".join(dataset.bands)))
    if run is not None and spec is not None:
        sections.append(training_section(run, spec))
        evaluation = read_evaluation(run)
        if evaluation is not None:
            sections.append(evaluation_section(evaluation))
            tiles = [*evaluation_tiles(evaluation), *tiles]
    if table is not None:
        sections.append(scores_section(table))
        tiles.append(
            Tile(
                "FITS files scored",
                f"{len(table.scored):,} of {len(table.rows):,}",
                f"{len(table.rejected):,} rejected, each with a reason",
            )
        )
    page = Page(
        _title(spec, scores),
        _subtitle(spec),
        tuple(tiles),
        tuple(sections),
        _next_steps(run, data),
        _provenance(dataset, spec, table),
    )
    return write_page(page, out)


def _title(spec: CheckpointSpec | None, scores: Path | None) -> str:
    if spec is None:
        return f"Scores in {scores.name}" if scores is not None else "Report"
    return "Dark-matter substructure in strong lenses"


def _subtitle(spec: CheckpointSpec | None) -> str:
    if spec is None:
        return "FITS images and what a trained network says about them."
    targets = ", ".join(target.name for target in spec.targets)
    purpose = f"to measure {targets}" if targets else "to tell them apart"
    return (
        f"Simulated strong gravitational lenses of {len(spec.class_names)} classes "
        f"({', '.join(spec.class_names)}), a {kind_of(spec.model)} network trained {purpose}, "
        "and how far to trust it."
    )


def _next_steps(run: Path | None, data: Path | None) -> dict[str, str]:
    steps = {}
    if run is not None:
        steps["Score your own images"] = f"deeplense score {run} DIR --out scores.ecsv"
    if data is not None:
        steps["Train another network on the same images, and judge it on the same test"] = (
            f"deeplense train --data {data} --out runs/cvt --model cvt\n"
            f"deeplense evaluate runs/cvt --data {data}"
        )
    steps |= {
        "Simulate your own lenses: print a preset, change three lines": (
            "deeplense presets demo > mine.yaml\ndeeplense simulate mine.yaml --out mine.zarr"
        ),
        "See every command": "deeplense --help",
    }
    return steps


def _provenance(
    dataset: Dataset | None, spec: CheckpointSpec | None, table: Scores | None
) -> dict[str, str]:
    found = {}
    if dataset is not None:
        if dataset.simulation is not None:
            found["dataset configuration sha256"] = dataset.simulation.sha256
            found["seed of the dataset"] = str(dataset.simulation.seed)
        found["dataset origin"] = dataset.origin
        found["dataset sha256"] = dataset.sha256
    if spec is not None:
        found["training data sha256"] = spec.dataset_sha256
        found["training configuration sha256"] = spec.config_sha256
        found["checkpoint sha256"] = spec.sha256
        found["versions, training"] = ", ".join(f"{k} {v}" for k, v in spec.versions.items())
    if table is not None:
        found["scores made by checkpoint"] = table.checkpoint_sha256
    found["versions, report"] = ", ".join(f"{k} {v}" for k, v in package_versions().items())
    return found
