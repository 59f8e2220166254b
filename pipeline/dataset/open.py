"""Open what a network learns from or is judged on: a stored dataset, or a preset as a stream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.config import hint
from pipeline.core.errors import ConfigError, DatasetNotFoundError
from pipeline.core.resources import sim_params
from pipeline.dataset.place import Url, locate
from pipeline.dataset.store import Dataset, open_dataset

if TYPE_CHECKING:
    from pipeline.dataset.online import OnlineConfig, OnlineData

    type Data = Dataset | OnlineData


def open_data(
    source: str | Path,
    online: OnlineConfig | None = None,
    *,
    overrides: tuple[str, ...] = (),
    producers: int | None = None,
) -> Data:
    """Open a dataset, or a preset (a name, or a YAML file) as a stream of new images.

    Parameters
    ----------
    source : str or Path
        A folder that exists, a name ending in ``.zarr`` and a URL are datasets.
    online : OnlineConfig, optional
        Size of the splits of a stream.
    overrides : tuple of str
        ``"key.key=value"``, on the preset of a stream.
    producers : int, optional
        Processes that simulate a stream.

    Raises
    ------
    DatasetNotFoundError
        If it is neither.
    DatasetError
        If the dataset is not complete, or not ours.
    ConfigError
        If the YAML file is wrong.
    """
    text = str(source)
    if _is_dataset(source):
        return open_dataset(source)
    if not _is_preset(source):
        names = ", ".join(sorted(p.stem for p in sim_params().glob("*.yaml")))
        raise DatasetNotFoundError(
            f"{text}: no dataset lies there, and no preset has that name; presets: {names}"
        )
    from pipeline.dataset.config import load_dataset_config
    from pipeline.dataset.online import OnlineConfig, OnlineData

    config = load_dataset_config(source, overrides)
    return OnlineData(config, online or OnlineConfig(), producers)


def is_stream(source: str | Path) -> bool:
    """Whether :func:`open_data` takes it for a preset, whose images are simulated."""
    return not _is_dataset(source) and _is_preset(source)


def _is_dataset(source: str | Path) -> bool:
    path = Path(str(source))
    return isinstance(locate(source), Url) or path.is_dir() or path.suffix == ".zarr"


def _is_preset(source: str | Path) -> bool:
    path = Path(str(source))
    return path.suffix in (".yaml", ".yml") or (sim_params() / f"{path}.yaml").is_file()


def restricted(data: Data, class_names: tuple[str, ...]) -> Data:
    """Return the same data with only the images of these classes in every split; all if empty.

    Class indices, number of images and hash stay those of the whole.

    Raises
    ------
    ConfigError
        If there is no such class.
    """
    for name in class_names:
        if name not in data.class_names:
            raise ConfigError(
                f"{data.path}: has no class {name!r} to train on{hint(name, data.class_names)}"
            )
    return replace(data, only=class_names)
