"""Other places that the rows of a run go to: TensorBoard, MLflow, Weights & Biases.

All write below the run folder and none needs a network. ``MLFLOW_TRACKING_URI`` and ``WANDB_MODE``
move MLflow and Weights & Biases elsewhere, as their users expect. A resumed run goes on in the
same MLflow and Weights & Biases run.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from pipeline.core.config import dump
from pipeline.core.errors import MissingExtraError
from pipeline.core.files import atomic_write
from pipeline.training.config import Logger, TrainingConfig

#: Module and extra of each logger.
_NEEDS = {
    "tensorboard": ("tensorboard", ""),
    "mlflow": ("mlflow", "mlflow"),
    "wandb": ("wandb", "wandb"),
}
_PROJECT = "deeplense"


class RunLogger(Protocol):
    """Takes the rows of one run."""

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Record the numbers of one evaluation."""

    def close(self) -> None:
        """Write what is left."""


def require_loggers(names: tuple[Logger, ...]) -> None:
    """Check, before training, that the packages are there.

    Raises
    ------
    MissingExtraError
        Naming the extra to install.
    """
    for name in names:
        module, extra = _NEEDS[name]
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(
                f"logger {name!r} needs the package {module}: "
                f"pip install 'deeplense-pipeline[{extra}]', or leave it out of 'loggers'"
            )


def open_loggers(config: TrainingConfig, run: Path, step: int) -> list[RunLogger]:
    """Open the configured loggers of a run that stands at ``step``."""
    makers: dict[str, Callable[[TrainingConfig, Path, int], RunLogger]]
    makers = {"tensorboard": _TensorBoard, "mlflow": _MLflow, "wandb": _Wandb}
    return [makers[name](config, run, step) for name in config.loggers]


class _TensorBoard:
    def __init__(self, config: TrainingConfig, run: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def add(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    def __init__(self, config: TrainingConfig, run: Path, step: int) -> None:
        from mlflow.tracking import MlflowClient

        own = f"sqlite:///{(run / 'mlflow.db').resolve()}"
        self._client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", own))
        note = run / "mlflow.txt"
        if note.is_file():
            self._run = note.read_text(encoding="utf-8").strip()
            return
        found = self._client.get_experiment_by_name(_PROJECT)
        experiment = found.experiment_id if found else self._client.create_experiment(_PROJECT)
        self._run = self._client.create_run(experiment, run_name=run.name).info.run_id
        for key, value in _flat(dump(config)):
            self._client.log_param(self._run, key, str(value)[:500])
        atomic_write(note, self._run + "\n")

    def add(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run)


class _Wandb:
    def __init__(self, config: TrainingConfig, run: Path, step: int) -> None:
        import wandb

        own = f"{config.sha256[:12]}-{run.name}"
        in_sweep = "WANDB_SWEEP_ID" in os.environ  # then its agent has named the run
        self._run = wandb.init(
            project=_PROJECT,
            name=run.name,
            id=os.environ.get("WANDB_RUN_ID", own) if in_sweep else own,
            resume="allow",
            dir=str(run),
            mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]  # its own words
            config=dump(config),
            settings=wandb.Settings(silent=True, console="off"),
        )

    def add(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def _flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # Any: plain JSON data
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node
