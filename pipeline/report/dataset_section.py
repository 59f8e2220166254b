"""The chapter about a dataset: pictures of every class, and what substructure changes in a lens."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.generate import observe, variances
from pipeline.dataset.store import Dataset
from pipeline.engines.base import ENGINES
from pipeline.physics.scene import draw_scene, smooth_twin
from pipeline.report.page import Gallery, Picture, PictureRow, Section
from pipeline.report.pictures import difference_picture, grey_picture, stretch_limits

#: Pictures in a row.
N_COLUMNS = 6
#: Lenses drawn once in every class.
N_TWINS = 4


@dataclass(frozen=True)
class Twins:
    """The same lenses in every class, in the first band.

    ``observed`` (K, n, H, W) electron/s, with noise; ``change`` (K, n, H, W) is the noiseless image
    minus its smooth twin over the noise of each pixel (1 electron/s where there is no noise).
    """

    class_names: tuple[str, ...]
    observed: NDArray[np.float32]
    change: NDArray[np.float64]

    @property
    def signal_to_noise(self) -> NDArray[np.float64]:
        """Root of the sum of ``change`` squared (K, n): S/N for whoever knows the smooth lens."""
        return np.asarray(np.sqrt((self.change**2).sum(axis=(2, 3))))


def dataset_section(dataset: Dataset) -> Section:
    """Show what the network was given.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    Section
    """
    _, rows, columns = dataset.image_shape
    kind = "images" if dataset.simulation is None else "simulated images"
    lead = (
        f"{dataset.n_images} {kind} of {rows} × {columns} pixels, "
        f"{dataset.pixel_scale:g} arcsec each, seen through {', '.join(dataset.bands)}. "
        f"{dataset.description}"
    )
    if dataset.simulation is None:  # nothing to draw again
        return Section("The images", lead, (_examples(dataset),))
    twins = draw_twins(dataset, N_TWINS)
    return Section("The images", lead, (_examples(dataset), _same_lens(twins), _changes(twins)))


def draw_twins(dataset: Dataset, n_lenses: int) -> Twins:
    """Draw the first test lenses again, once in every class: same galaxies, same noise.

    Parameters
    ----------
    dataset : Dataset
    n_lenses : int

    Returns
    -------
    Twins
    """
    config, names = dataset.require_simulation("drawing lenses again"), dataset.class_names
    engine = ENGINES.load(config.engine.kind).build(config.engine)
    index = [int(i) for i in dataset.indices("test")[: n_lenses * len(names) : len(names)]]
    scenes = [
        draw_scene(config.scenes, config.seed, i, class_name=name) for name in names for i in index
    ]
    smooth = engine.render([smooth_twin(s) for s in scenes], config.grid, config.instruments)
    change = engine.render(scenes, config.grid, config.instruments) - smooth
    noise = np.sqrt(variances(config, smooth, scenes))
    shape = (len(names), len(index), config.n_pix, config.n_pix)
    return Twins(
        names,
        observe(config, engine, scenes)[:, 0].reshape(shape),
        (change / np.where(noise > 0, noise, 1.0))[:, 0].reshape(shape),
    )


def _examples(dataset: Dataset) -> Gallery:
    train = dataset.indices("train")
    chosen = [
        train[dataset.labels[train] == k][:N_COLUMNS] for k in range(len(dataset.class_names))
    ]
    images = [dataset.read_images(index)[:, 0] for index in chosen]
    black, white = stretch_limits(np.concatenate(images))
    rows = tuple(
        PictureRow(
            name,
            tuple(
                Picture(grey_picture(image, black, white), f"{name}, image {i}", f"image {i}")
                for i, image in zip(index, stack, strict=True)
            ),
            series=k,
        )
        for k, (name, index, stack) in enumerate(
            zip(dataset.class_names, chosen, images, strict=True)
        )
    )
    return Gallery(
        rows,
        "Training images, one row a class, all under one stretch. Look along the arcs for kinks, "
        "gaps and knots: how many could you sort by eye?",
    )


def _same_lens(twins: Twins) -> Gallery:
    black, white = stretch_limits(twins.observed.reshape(-1, *twins.observed.shape[2:]))
    rows = []
    for k, name in enumerate(twins.class_names):
        pictures = [
            Picture(grey_picture(image, black, white), f"lens {i + 1} as {name}")
            for i, image in enumerate(twins.observed[k])
        ]
        rows.append(PictureRow(name, tuple(pictures), series=k))
    return Gallery(
        tuple(rows),
        "The same lens, source, telescope and noise, drawn once in every class: down a column only "
        "the substructure changes.",
        _lens_names(twins.observed.shape[1]),
    )


def _changes(twins: Twins) -> Gallery:
    limit = float(max(np.quantile(np.abs(twins.change), 0.998), 1.0))
    total = twins.signal_to_noise
    rows = []
    for k, name in enumerate(twins.class_names):
        if not total[k].any():
            continue
        pictures = [
            Picture(
                difference_picture(change, limit),
                f"what {name} changes in lens {i + 1}",
                f"S/N {total[k, i]:,.0f}",
            )
            for i, change in enumerate(twins.change[k])
        ]
        rows.append(PictureRow(name, tuple(pictures), series=k))
    return Gallery(
        tuple(rows),
        "What substructure changes: the noiseless image minus its smooth twin, in units of each "
        f"pixel's noise; red is brighter, blue fainter, full colour ±{limit:.1f} σ. S/N adds up "
        "all pixels: no method can do better, and none reaches it, because part of every change "
        "could also come from a slightly different smooth lens.",
        _lens_names(twins.change.shape[1]),
    )


def _lens_names(n_lenses: int) -> tuple[str, ...]:
    return tuple(f"lens {i + 1}" for i in range(n_lenses))
