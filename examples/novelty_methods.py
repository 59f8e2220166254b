"""Which measure of novelty finds images that are no lenses: python examples/novelty_methods.py.

    python examples/novelty_methods.py RUN DATA.zarr

Every method is fitted on the training images, its threshold set on the validation images so that
one in a hundred lies beyond; told are the false flags among test images and the share of junk that
is flagged, by kind of junk. Junk is made in units of the test images' own noise and brightness.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.neighbors import NearestNeighbors

from pipeline.checkpoint.load import Run, load_run
from pipeline.checkpoint.novelty import fit_novelty, image_statistics
from pipeline.dataset.store import Dataset, open_dataset
from pipeline.statistics.distance import fit_reference

N_TRAIN, N_JUNK, BATCH = 2000, 200, 64
FALSE_FLAGS = 0.01
Images = NDArray[np.float32]


def junk(like: Images, rng: np.random.Generator) -> dict[str, Images]:
    """Images (N_JUNK, 1, H, W) that are no lenses, as bright and noisy as ``like``."""
    size = like.shape[-1]
    noise = np.median(np.abs(like[:, :, 0] - np.median(like[:, :, 0]))) * 1.4826
    peak = float(np.median(like.max(axis=(1, 2, 3))))
    y, x = np.mgrid[:size, :size] - (size - 1) / 2

    def spot(cx: float, cy: float, sx: float, sy: float, angle: float) -> NDArray[np.float64]:
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = -(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle)
        return np.exp(-0.5 * ((u / sx) ** 2 + (v / sy) ** 2))

    def stars() -> NDArray[np.float64]:
        n = rng.integers(1, 12)
        return sum(
            peak * rng.uniform(0.2, 3) * spot(*rng.uniform(-size / 2, size / 2, 2), 1.2, 1.2, 0)
            for _ in range(n)
        )

    def star() -> NDArray[np.float64]:
        return peak * rng.uniform(0.5, 5) * spot(*rng.normal(0, 1, 2), 1.2, 1.2, 0)

    def streak() -> NDArray[np.float64]:
        length, width = rng.uniform(8, 25), rng.uniform(1.2, 2.5)
        return peak * rng.uniform(0.5, 2) * spot(*rng.normal(0, 1, 2), length, width,
                                                 rng.uniform(0, np.pi))  # fmt: skip

    def galaxy() -> NDArray[np.float64]:
        q, scale = rng.uniform(0.5, 1), rng.uniform(2, 6)
        angle = rng.uniform(0, np.pi)
        u, v = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
        return peak * rng.uniform(0.5, 3) * np.exp(-((np.hypot(u, v / q) / scale) ** 0.6))

    def checkerboard() -> NDArray[np.float64]:
        cell = rng.integers(1, 9)
        return peak * ((np.indices((size, size)) // cell).sum(axis=0) % 2)

    def blank() -> NDArray[np.float64]:
        return noise * rng.uniform(0, 2) * (x * np.cos(rng.uniform(0, 6)) / size)

    makers = {"noise": lambda: 0 * x, "blank": blank, "star": star, "stars": stars,
              "edge-on": streak, "galaxy": galaxy, "checkerboard": checkerboard}  # fmt: skip
    return {
        name: np.stack(
            [make() + rng.normal(0, noise, (size, size)) for _ in range(N_JUNK)]
        ).astype(np.float32)[:, None]
        for name, make in makers.items()
    }  # fmt: skip


class Described:
    """Logits, features and image statistics of images."""

    def __init__(self, run: Run, images: Images) -> None:
        parts = []
        for start in range(0, len(images), BATCH):
            prepared = torch.from_numpy(run.prepare(images[start : start + BATCH]))
            with torch.inference_mode():
                features = run.network.backbone(prepared)
                logits = run.network.head(features)
            parts.append(
                [t.double().numpy() for t in (logits, features, image_statistics(prepared))]
            )
        self.logits, self.features, self.statistics = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )

    @property
    def both(self) -> NDArray[np.float64]:
        """Features and statistics side by side."""
        return np.concatenate([self.features, self.statistics], axis=1)


def methods(train: Described, val: Described) -> dict[str, object]:
    """Name -> function from :class:`Described` to a score that grows with strangeness."""
    larger = fit_novelty(train.both, val.both, train.features.shape[1])
    found: dict[str, object] = {
        "Mahalanobis, the larger": lambda d: larger.distance(d.both),
        "max logit": lambda d: -d.logits.max(axis=1),
        "energy": lambda d: -logsumexp(d.logits, axis=1),
    }
    for name in ("features", "statistics", "both"):
        values = getattr(train, name)
        reference = fit_reference(values)
        found[f"Mahalanobis, {name}"] = lambda d, r=reference, n=name: r.distance(getattr(d, n))

        def white(d: Described, r: object = reference, n: str = name) -> NDArray[np.float64]:
            return ((getattr(d, n) - r.mean) / r.std) @ r.factor

        near = NearestNeighbors(n_neighbors=10).fit(white(train))
        found[f"10th neighbour, {name}"] = lambda d, w=white, nn=near: nn.kneighbors(w(d))[0][:, -1]
    return found


def measure(run: Run, data: Dataset) -> list[tuple[str, float, dict[str, float]]]:
    """Method, false flags on the test split, and flagged share of each kind of junk."""

    def split(name: str, n: int) -> Images:
        index = data.indices(name)[:n]
        return np.asarray(data.read_images(slice(int(index[0]), int(index[-1]) + 1)))[
            index - index[0]
        ]

    train, val, test = (Described(run, split(name, N_TRAIN)) for name in ("train", "val", "test"))
    strange = {
        name: Described(run, images)
        for name, images in junk(split("test", 200), np.random.default_rng(0)).items()
    }
    rows = []
    for name, score in methods(train, val).items():
        threshold = np.quantile(score(val), 1 - FALSE_FLAGS)
        flagged = {kind: float(np.mean(score(d) > threshold)) for kind, d in strange.items()}
        rows.append((name, float(np.mean(score(test) > threshold)), flagged))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    rows = measure(load_run(arguments.run), open_dataset(arguments.data))
    kinds = list(rows[0][2])
    print("| method | false | " + " | ".join(kinds) + " |")
    print("| --- " * (len(kinds) + 2) + "|")
    for name, false, flagged in rows:
        print(f"| {name} | {false:.1%} | " + " | ".join(f"{flagged[k]:.0%}" for k in kinds) + " |")


if __name__ == "__main__":
    main()
