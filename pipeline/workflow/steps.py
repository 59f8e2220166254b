"""The steps of the chain, each one call: what a command's flags and a flow's parameters mean.

Every step may be called again: what is complete is recognised, what was interrupted goes on.
Heavy packages are imported by the step that needs them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.cores import wait_without_spinning
from pipeline.core.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.dataset.simulate import Maker, SimulateSummary
    from pipeline.inference.images import ReadOptions
    from pipeline.inference.score import ScoreSummary
    from pipeline.training.evaluate import Evaluation
    from pipeline.training.run import TrainSummary


def simulate(
    preset: str | Path,
    out: str | Path,
    *,
    images: int | None = None,
    seed: int | None = None,
    engine: str | None = None,
    overrides: Sequence[str] = (),
    workers: int | None = None,
    max_hours: float | None = None,
    max_gb: float | None = None,
    repair: bool = False,
    maker: "Maker | None" = None,
) -> "SimulateSummary":
    """Make or complete a dataset.

    Parameters
    ----------
    preset : str or Path
        Preset name or YAML file.
    out : str or Path
        Folder ``NAME.zarr``, or a URL.
    images, seed, engine : optional
        Replace ``n_images``, ``seed`` and ``engine`` of the configuration.
    overrides : sequence of str
        ``"key.key=value"``, applied after those.
    workers : int, optional
        Worker processes; one per core by default.
    max_hours, max_gb : float, optional
        Budget: no shard is begun beyond it.
    repair : bool
        Check every shard and make the damaged ones again.
    maker : callable, optional
        Makes the shards somewhere else than in processes of this machine.
    """
    from pipeline.dataset.config import load_dataset_config
    from pipeline.dataset.simulate import simulate_dataset

    if workers is not None and workers < 1:
        raise ConfigError(f"--workers must be at least 1, found {workers}")
    for name, value in (("--max-hours", max_hours), ("--max-gb", max_gb)):
        if value is not None and not value > 0:
            raise ConfigError(f"{name} must be more than 0, found {value:g}")
    given = settings(n_images=images, seed=seed, engine=engine)
    config = load_dataset_config(preset, (*given, *overrides))
    return simulate_dataset(
        config, out, workers=workers, max_hours=max_hours, max_gb=max_gb, repair=repair,
        maker=maker,
    )  # fmt: skip


def train(
    config: str | Path,
    data: Path,
    out: Path,
    *,
    model: str | None = None,
    epochs: int | None = None,
    max_minutes: float | None = None,
    seed: int | None = None,
    task: str | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    loggers: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    devices: int = 1,
) -> "TrainSummary":
    """Train a network, or go on with a run that was interrupted.

    Parameters
    ----------
    config : str or Path
        Training preset or YAML file.
    data : Path
        A complete dataset.
    out : Path
        Run folder.
    model, task, epochs, max_minutes, seed, batch_size, learning_rate, loggers : optional
        Replace those values of the configuration; ``model`` and ``task`` take that kind's own
        defaults.
    overrides : sequence of str
        ``"key.key=value"``, applied after those.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    devices : int
        Processes that share every batch.
    """
    wait_without_spinning()
    from pipeline.training.config import load_training_config
    from pipeline.training.run import run_training

    given = settings(
        model=model,
        task=task,
        epochs=epochs,
        max_minutes=max_minutes,
        seed=seed,
        batch_size=batch_size,
        **{"optimiser.learning_rate": learning_rate},
    )
    if loggers is not None:
        given.append(f"loggers=[{', '.join(loggers)}]")
    resolved = load_training_config(config, (*given, *overrides))
    return run_training(resolved, data, out, device, devices=devices)


def evaluate(
    run: Path, data: Path, *, split: str = "test", device: str = "auto", floor_lenses: int = 0
) -> "Evaluation":
    """Measure a network on one split of a dataset and keep the result in its run folder.

    Parameters
    ----------
    run, data : Path
    split : str
        ``test``, ``val`` or ``train``.
    device : str
    floor_lenses : int
        Vortices from which the information floor of the axion mass is measured.
    """
    from pipeline.training.evaluate import evaluate_run

    return evaluate_run(run, data, split, device=device, floor_lenses=floor_lenses)


def sample_images(data: Path, folder: Path) -> Path:
    """Write a folder of FITS files that fit a dataset, some of them faulty, to try scoring on.

    Parameters
    ----------
    data : Path
        A complete dataset.
    folder : Path
    """
    from pipeline.dataset.store import open_dataset
    from pipeline.workflow.sample_images import write_sample_images

    dataset = open_dataset(data)
    return write_sample_images(dataset.require_simulation("making sample images"), folder)


def score(
    run: Path | Sequence[Path],
    inputs: Sequence[Path],
    out: Path,
    *,
    hdu: str | None = None,
    device: str = "auto",
    options: "ReadOptions | None" = None,
    workers: int | None = None,
    batch_size: int = 64,
    symmetries: int | None = None,
    catalogue: Path | None = None,
    explain: Path | None = None,
    gallery: Path | None = None,
    timeout: float = 60.0,
    part: tuple[int, int] | None = None,
) -> "ScoreSummary":
    """Score images with a trained network, or several as one; one row an image.

    Parameters
    ----------
    run : Path or sequence of Path
    inputs : sequence of Path
        Files, folders, globs, datasets, or ``@FILE`` with one path a line.
    out : Path
        Table; its suffix is its format.
    hdu : str, optional
        HDU to take from every file, instead of choosing by name.
    device : str
    options, workers, batch_size, symmetries, catalogue, explain, timeout, part
        As :func:`pipeline.inference.score.run_scoring` takes them.
    gallery : Path, optional
        HTML page of thumbnails to write as well.
    """
    wait_without_spinning()
    from pipeline.inference.score import run_scoring

    summary = run_scoring(
        run, inputs, out, hdu=hdu, device=device, options=options, workers=workers,
        batch_size=batch_size, symmetries=symmetries, catalogue=catalogue, explain=explain,
        timeout=timeout, part=part,
    )  # fmt: skip
    if gallery is not None and part is None:
        from pipeline.report.gallery import build_gallery

        build_gallery(
            gallery, out, run, inputs, options=options, catalogue=catalogue, workers=workers
        )
    return summary


def score_part(
    run: Path,
    inputs: Sequence[Path],
    out: Path,
    hdu: str | None,
    device: str,
    part: tuple[int, int],
) -> int:
    """Score one part of what :func:`score` would, for a worker of a cluster; rows it has."""
    return score(run, inputs, out, hdu=hdu, device=device, part=part).rows


def report(
    out: Path,
    *,
    run: Path | None = None,
    data: Path | None = None,
    scores: Path | None = None,
    images: Path | None = None,
) -> Path:
    """Write one self-contained HTML file about a run, its dataset and a table of scores.

    Parameters
    ----------
    out : Path
    run, data, scores : Path, optional
        At least one of run and scores.
    images : Path, optional
        The folder that was scored, for pictures.
    """
    from pipeline.report.build import build_report

    return build_report(out, run=run, data=data, scores=scores, images=images)


def report_on(
    subject: Path,
    *,
    data: Path | None = None,
    images: Path | None = None,
    out: Path | None = None,
) -> Path:
    """Write the report of a run folder or of a table of scores, beside it unless ``out`` says.

    Parameters
    ----------
    subject : Path
        A run folder, or a table.
    data, images, out : Path, optional
    """
    if subject.is_dir():
        return report(out or subject / "report.html", run=subject, data=data)
    return report(out or subject.with_suffix(".html"), data=data, scores=subject, images=images)


def settings(**values: object) -> list[str]:
    """Overrides ``key=value`` of the values that are given."""
    return [f"{key}={value}" for key, value in values.items() if value is not None]
