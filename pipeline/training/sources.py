"""The batches that a run is trained and judged on."""

from typing import Any, get_args

from pipeline.core.errors import ConfigError
from pipeline.dataset.loader import Batches
from pipeline.dataset.online import OnlineData
from pipeline.dataset.preprocess import Preprocess
from pipeline.dataset.signal import SIGNAL
from pipeline.dataset.stream import Map
from pipeline.training.config import TrainingConfig
from pipeline.training.processes import Group
from pipeline.training.targets import Data


def make_source(
    config: TrainingConfig,
    dataset: Data,
    preprocess: Preprocess,
    split: str,
    group: Group,
    target_names: tuple[str, ...],
) -> Batches:
    """Batches of a split, augmented and shared among the processes if it is the train split.

    Raises
    ------
    ConfigError
        If the data cannot give what the configuration asks for.
    """
    is_train, augment = split == "train", config.augment
    batches: Batches = dataset.batches(
        split,
        preprocess,
        batch_size=config.batch_size,
        seed=config.seed,
        target_names=target_names,
        augment=is_train and augment.enabled,
        rotate=augment.rotate,
        flip=augment.flip,
        max_shift=augment.max_shift if is_train else 0,
        drop_last=is_train and dataset.n_of(split) >= config.batch_size,
        rank=group.rank if is_train else 0,
        n_ranks=group.size if is_train else 1,
        **_special(config, dataset, is_train),
    )
    return batches


def _special(
    config: TrainingConfig, dataset: Data, is_train: bool
) -> dict[str, Any]:  # Any: arguments
    """What only one of the two kinds of data can do: new noise, or maps beside the images."""
    augment, auxiliary = config.augment, config.auxiliary
    maps = () if auxiliary is None else auxiliary.maps
    is_online = isinstance(dataset, OnlineData)
    if not set(maps) <= set(get_args(Map) if is_online else (SIGNAL,)):
        raise ConfigError(
            f"{dataset.path}: found auxiliary.maps {', '.join(maps)}; images simulated on "
            f"the fly have {', '.join(get_args(Map))}, a stored dataset with fits has {SIGNAL}"
        )
    if is_online:
        return {"maps": maps} if maps else {}
    if augment.redraw_noise and is_train and not augment.enabled:
        raise ConfigError("augment.redraw_noise is set, but augment.enabled is false")
    is_redrawn, has_signal = augment.redraw_noise and is_train, bool(maps) and is_train
    return {"redraw_noise": is_redrawn, "signal": has_signal}
