"""The whole chain in one folder: simulate, train, evaluate, score FITS files, report."""

import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.files import require_writable_parent
from pipeline.core.logs import get_logger
from pipeline.workflow import steps

logger = get_logger("demo")


@dataclass(frozen=True)
class ChainFolder:
    """Where the chain keeps what it makes."""

    root: Path

    @property
    def data(self) -> Path:
        """The dataset."""
        return self.root / "data.zarr"

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.root / "run"

    @property
    def images(self) -> Path:
        """FITS files to score."""
        return self.root / "fits"

    @property
    def scores(self) -> Path:
        """The table of scores."""
        return self.root / "scores.ecsv"

    @property
    def report(self) -> Path:
        """The report."""
        return self.root / "report.html"


@dataclass(frozen=True)
class ChainSummary:
    """What the chain came to."""

    seconds: float
    images: int
    macro_auc: float
    accuracy: float
    scored: int
    rejected: int
    report: Path
    run: Path
    data: Path
    scores: Path

    @property
    def text(self) -> str:
        """What was found, where it lies, and what to try next."""
        return f"""\
{self.images} images, accuracy {100 * self.accuracy:.1f} %, macro AUC {self.macro_auc:.3f}, \
{self.scored} files scored, {self.rejected} rejected, {self.seconds:.0f} s

report   {self.report}
scores   {self.scores}
network  {self.run}
images   {self.data}

next:
  open the report in a browser     {self.report.resolve().as_uri()}
  score your own FITS files        deeplense score {self.run} DIR --out scores.ecsv
  make your own dataset            deeplense presets demo > mine.yaml
                                   deeplense simulate mine.yaml --out mine.zarr
  train another network            deeplense train --data {self.data} --out runs/cvt --model cvt"""


def run_chain(
    out: Path,
    *,
    preset: str = "demo",
    config: str = "demo",
    images: int | None = None,
    epochs: int | None = None,
    workers: int | None = None,
    device: str = "auto",
) -> ChainSummary:
    """Simulate, train, evaluate, score and report; called again, go on from what is on disk.

    Parameters
    ----------
    out : Path
        Folder of everything that is made.
    preset, config : str
        Dataset and training configuration.
    images, epochs : int, optional
        Replace those values of the configurations.
    workers : int, optional
        Worker processes of the simulation; one per core by default.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns
    -------
    ChainSummary
    """
    start = time.monotonic()
    folder = ChainFolder(out)
    require_writable_parent(folder.report)
    _say(1, "simulating strong lenses with different dark-matter substructure")
    made = steps.simulate(preset, folder.data, images=images, workers=workers)
    _say(2, "training a network to tell the classes apart")
    steps.train(config, folder.data, folder.run, epochs=epochs, device=device)
    _say(3, "judging it on images it has never seen")
    found = steps.evaluate(folder.run, folder.data, device=device)
    logger.info("accuracy %.1f %%, macro AUC %.3f", 100 * found.accuracy, found.macro_auc)
    _say(4, "scoring FITS files: new lenses, and files with faults")
    steps.sample_images(folder.data, folder.images)
    table = steps.score(folder.run, [folder.images], folder.scores, device=device)
    logger.info("%d scored, %d rejected with a reason", table.scored, table.rejected)
    _say(5, "writing the report")
    steps.report(
        folder.report,
        run=folder.run,
        data=folder.data,
        scores=folder.scores,
        images=folder.images,
    )
    return ChainSummary(
        seconds=round(time.monotonic() - start, 1),
        images=made.images,
        macro_auc=found.macro_auc,
        accuracy=found.accuracy,
        scored=table.scored,
        rejected=table.rejected,
        report=folder.report,
        run=folder.run,
        data=folder.data,
        scores=folder.scores,
    )


def _say(step: int, text: str) -> None:
    logger.info("\n[%d/5] %s", step, text)
