"""Draw the figures of the README with the tool itself.

    python examples/readme_figures.py deeplense-demo/run deeplense-demo/data.zarr

``docs/demo_classes.png`` is ``deeplense preview demo``. ``docs/explained.png`` shows, for lenses of
the test split, what substructure changed and where a network looked.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

from pipeline.core.files import atomic_path
from pipeline.explain.run import Explanations, explain_run
from pipeline.report.preview import write_preview

DOCS = Path(__file__).resolve().parents[1] / "docs"
METHODS = ("integrated_gradients", "gradient", "attention")
N_LENSES = 5


def main() -> None:
    """Parse the command line and draw both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="trained on the dataset")
    parser.add_argument("data", type=Path)
    parser.add_argument("--docs", type=Path, default=DOCS)
    args = parser.parse_args()
    write_preview("demo", args.docs / "demo_classes.png")
    found = explain_run(args.run, args.data, methods=METHODS, n_images=30, device="cpu")
    draw(found, args.docs / "explained.png")


def draw(found: Explanations, path: Path) -> None:
    """A column a lens: image, d' per pixel, and a map by every method; the target outlined."""
    assert found.where is not None
    # Turns of the classes, so that each is seen.
    by_class = [
        [k for k, i in enumerate(found.located) if found.class_of[i] == name]
        for name in dict.fromkeys(found.class_of[i] for i in found.located)
    ]
    chosen = [k for turn in zip(*by_class, strict=False) for k in turn][:N_LENSES]
    rows = ("image", "d′ per pixel", *(name.replace("_", "\n") for name in found.maps))
    figure, axes = plt.subplots(
        len(rows), len(chosen), figsize=(1.6 * len(chosen) + 1, 1.6 * len(rows)),
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for column, k in zip(axes.T, chosen, strict=True):
        i = int(found.located[k])
        image = found.images[i]
        level = 0.05 * np.quantile(image, 0.997)
        pictures = (np.arcsinh(image / level), found.where.observer[k])
        for axis, picture in zip(
            column, (*pictures, *(m[i] for m in found.maps.values())), strict=True
        ):
            axis.imshow(
                picture, origin="lower", cmap="gray" if picture is pictures[0] else "inferno"
            )
            axis.contour(found.where.change[k], levels=[0.5], colors="cyan", linewidths=0.6)
            axis.set(xticks=[], yticks=[])
        column[0].set_title(found.class_of[i], fontsize=9)
    for axis, name in zip(axes[:, 0], rows, strict=True):
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
