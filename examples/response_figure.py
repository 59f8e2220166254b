"""Draw what smooth fits lack: image, residual and response of one lens of each class.

    python examples/response_figure.py data.zarr response.png

of a simulated dataset with stored fits (``deeplense fit data.zarr --store``). Circles are halos,
the line is a vortex, the cross is the most significant place; each lens is the median of its class.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from pipeline.core.files import atomic_path
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.explain.where import stored_scene
from pipeline.fit.store import FOLDER, FitStore, open_fits


def middle_of_class(dataset: Dataset, store: FitStore, name: str) -> int:
    """Number of the test image of a class whose largest significance is the median."""
    shards = [store.numbers(k)["perturber"][:, 0] for k in range(store.n_shards)]
    sigma = np.nan_to_num(np.concatenate(shards))
    test = dataset.indices("test")
    chosen = test[dataset.labels[test] == dataset.class_names.index(name)]
    ranked = chosen[np.argsort(sigma[chosen])]
    return int(ranked[len(ranked) // 2])


def draw_row(axes: NDArray[Any], dataset: Dataset, store: FitStore, k: int) -> None:
    """Image, residual and response of one lens."""
    shard, row = divmod(k, store.shard_size)
    maps = store.pixels(shard, "response")[row].astype(np.float64)
    best = maps[maps.max(axis=(1, 2)).argmax()]
    image = np.arcsinh(np.asarray(dataset.read_images(slice(k, k + 1)))[0, 0] / 0.02)
    half = dataset.pixel_scale * image.shape[-1] / 2.0
    frame = {"origin": "lower", "extent": (-half, half, -half, half)}
    axes[0].imshow(image, cmap="magma", **frame)
    residual = store.pixels(shard, "residual")[row, 0]
    axes[1].imshow(residual, cmap="RdBu_r", vmin=-5.0, vmax=5.0, **frame)
    axes[2].imshow(best, cmap="RdBu_r", vmin=-8.0, vmax=8.0, **frame)
    sigma, x, y = store.numbers(shard)["perturber"][row]
    axes[2].plot(x, y, "k+", ms=9)
    for perturbers in stored_scene(dataset, k)[0].perturbers:
        p = perturbers.params
        if perturbers.profile == "rod":
            reach = np.outer([-1.0, 1.0], [np.cos(p["phi"][0]), np.sin(p["phi"][0])])
            ends = reach * p["half_length"][0] + [p["center_x"][0], p["center_y"][0]]
            axes[2].plot(*ends.T, color="0.2", lw=1.0)
        elif perturbers.profile == "tnfw":
            axes[2].plot(p["center_x"], p["center_y"], "o", mfc="none", mec="0.2", ms=7)
    name = dataset.class_names[int(dataset.labels[k])]
    titles = (name, "residual, sigma", f"response, up to {sigma:.1f}")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xticks=[], yticks=[], xlim=(-half, half), ylim=(-half, half))


def main() -> None:
    """Draw a row for each class."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data)
    store, _ = open_fits(arguments.data / FOLDER)
    n = len(dataset.class_names)
    figure, axes = plt.subplots(n, 3, figsize=(6.6, 2.3 * n), layout="constrained", squeeze=False)
    for row, name in zip(axes, dataset.class_names, strict=True):
        draw_row(row, dataset, store, middle_of_class(dataset, store, name))
    with atomic_path(arguments.out) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


if __name__ == "__main__":
    main()
