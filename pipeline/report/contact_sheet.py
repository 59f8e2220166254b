"""One PNG with images of every class, for places that take a single picture."""

from pathlib import Path

import numpy as np

from pipeline.dataset.store import open_dataset
from pipeline.report.pictures import grey_picture, stretch_limits

#: Images of each class.
N_COLUMNS = 8
#: Dark pixels between two images.
GAP = 2
#: Each pixel of an image becomes a square of this many.
ZOOM = 2


def contact_sheet(path: str | Path) -> str:
    """Draw the first training images of every class, one row a class, under one stretch.

    Parameters
    ----------
    path : str or Path
        A complete dataset.

    Returns
    -------
    str
        ``data:image/png;base64,...``
    """
    dataset = open_dataset(path)
    train = dataset.indices("train")
    rows = [
        dataset.read_images(train[dataset.labels[train] == k][:N_COLUMNS])[:, 0]
        for k in range(len(dataset.class_names))
    ]
    black, white = stretch_limits(np.concatenate(rows))
    height, width = dataset.image_shape[1] + GAP, dataset.image_shape[2] + GAP
    sheet = np.full((len(rows) * height - GAP, N_COLUMNS * width - GAP), black)
    for k, images in enumerate(reversed(rows)):  # row 0 of a picture is at the bottom
        for j, image in enumerate(images):
            sheet[k * height : (k + 1) * height - GAP, j * width : (j + 1) * width - GAP] = image
    return grey_picture(np.kron(sheet, np.ones((ZOOM, ZOOM))), black, white)
