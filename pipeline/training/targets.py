"""What a task takes from a dataset before training: its targets, and the metric it is judged by."""

from pipeline.core.config import StrictModel, hint
from pipeline.core.errors import ConfigError
from pipeline.dataset.online import OnlineData
from pipeline.dataset.store import Dataset
from pipeline.tasks.base import TargetTransform, build_task, fit_target

#: A stored dataset, or a preset.
type Data = Dataset | OnlineData


def fit_targets(task: StrictModel, dataset: Data) -> tuple[TargetTransform, ...]:
    """Fit the transform of every target of a task block to the training images.

    Raises
    ------
    ConfigError
        If the dataset has no such truth column, or no values in it.
    """
    units = dataset.truth_info()
    for name in task.targets:  # type: ignore[attr-defined]  # a TaskConfig
        if name not in units:
            raise ConfigError(
                f"task.targets: {dataset.path} has no truth column {name!r}{hint(name, units)}"
            )
    return tuple(
        fit_target(name, units[name].unit, task.function, dataset.first_truth(name))  # type: ignore[attr-defined]
        for name in task.targets  # type: ignore[attr-defined]
    )


def monitored_metric(task: StrictModel, dataset: Data) -> tuple[str, bool]:
    """Name of the validation metric that a task is judged by, and whether more of it is better."""
    targets = fit_targets(task, dataset)
    built = build_task(task, 1, dataset.class_names, targets, dataset.image_shape)
    return built.monitor, built.higher_is_better
