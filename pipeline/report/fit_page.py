"""A page about fits: image, model, residual and response of each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.fit.result import Fits, Status
from pipeline.fit.store import FitStore
from pipeline.report.page import (
    Gallery,
    Page,
    Picture,
    PictureRow,
    Section,
    Table,
    Tile,
    write_page,
)
from pipeline.report.pictures import difference_picture, grey_picture, stretch_limits

type ImageOf = Callable[[int], NDArray[Any]]

#: Most images of each status on a page; the rest is counted.
MAX_ROWS = 40
#: Residual and response at the ends of the colours, sigma.
RESIDUAL_LIMIT, RESPONSE_LIMIT = 5.0, 10.0
_SHOWN = ("theta_E", "slope", "e1", "e2", "gamma1", "gamma2")
_LEADS = {
    Status.GOOD: "The smooth model describes these down to the noise, as far as chi2 can tell.",
    Status.POOR: "A model was found that does not describe the image, or hardly: look before use.",
    Status.FAILED: "There is no model of these.",
}


def write_fit_page(names: tuple[str, ...], image_of: ImageOf, store: FitStore, out: Path) -> Path:
    """Write the page of a store's fits.

    Parameters
    ----------
    names : tuple of str
        Of the images, in their order.
    image_of : callable
        Image (C, H, W) of a number.
    store : FitStore
        Complete.
    out : Path

    Returns
    -------
    Path
    """
    fits = store.all_fits(pixels=False)
    sections = [
        section
        for status in (Status.POOR, Status.GOOD, Status.FAILED)
        if (section := _section(status, names, image_of, store, fits)) is not None
    ]
    chi2 = fits.chi2[np.isfinite(fits.chi2)]
    tiles = (
        Tile("Images", str(len(fits))),
        Tile("Good", str(fits.count(Status.GOOD)), "described down to the noise"),
        Tile("Poor", str(fits.count(Status.POOR)), "with a reason each"),
        Tile("Failed", str(fits.count(Status.FAILED))),
        Tile("Median chi2", f"{np.median(chi2):.3f}" if len(chi2) else "-", "reduced"),
    )
    identity = store.identity
    provenance = {"fit configuration": str(identity["fit_sha256"])} | {
        str(key): str(value) for key, value in identity["images"].items()
    }
    page = Page(
        title="Smooth-lens fits",
        subtitle="Image, model, and what the model leaves in units of the noise",
        tiles=tiles,
        sections=tuple(sections),
        provenance=provenance,
    )
    return write_page(page, out)


def _section(
    status: Status, names: tuple[str, ...], image_of: ImageOf, store: FitStore, fits: Fits
) -> Section | None:
    chosen = [k for k, s in enumerate(fits.status) if s == status]
    if not chosen:
        return None
    shown, hidden = chosen[:MAX_ROWS], len(chosen) - MAX_ROWS
    more = f"; {hidden} more are in the table" if hidden > 0 else ""
    title = f"{status.capitalize()} fits"
    if status is Status.FAILED:
        rows = tuple((names[k], fits.reason[k]) for k in shown)
        table = Table(header=("image", "reason"), rows=rows, caption=f"{len(chosen)} images{more}")
        return Section(title, _LEADS[status], (table,))
    pictured = tuple(_row(k, names[k], image_of(k), store, fits) for k in shown)
    columns = ("image", "model", "residual", "response")[: len(pictured[0].pictures)]
    caption = (
        f"{len(chosen)} images{more}; residuals from -{RESIDUAL_LIMIT:g} (blue) to "
        f"+{RESIDUAL_LIMIT:g} sigma (red)"
    )
    if "response" in columns:
        caption += f", responses to a small mass at each place to +-{RESPONSE_LIMIT:g} sigma"
    gallery = Gallery(rows=pictured, caption=caption, columns=columns)
    return Section(title, _LEADS[status], (gallery,))


def _row(k: int, name: str, bands: NDArray[Any], store: FitStore, fits: Fits) -> PictureRow:
    shard, row = divmod(k, store.shard_size)
    model = store.pixels(shard, "model")[row, 0].astype(np.float64)
    residual = store.pixels(shard, "residual")[row, 0].astype(np.float64)
    image = np.asarray(bands[0], np.float64)
    black, white = stretch_limits(image[None])
    values = ", ".join(
        f"{p} {fits.values[k, fits.names.index(p)]:.3g}" for p in _SHOWN if p in fits.names
    )
    note = f"chi2 {fits.chi2[k]:.3f}" + (f"; {fits.reason[k]}" if fits.reason[k] else "")
    return PictureRow(
        name=name,
        pictures=(
            Picture(grey_picture(image, black, white), f"image of {name}"),
            Picture(grey_picture(model, black, white), f"model of {name}", values),
            Picture(difference_picture(residual, RESIDUAL_LIMIT), f"residual of {name}", note),
            *_response_picture(k, name, store.pixels(shard, "response")[row], fits),
        ),
    )


def _response_picture(
    k: int, name: str, maps: NDArray[np.float16], fits: Fits
) -> tuple[Picture, ...]:
    """The map with the most significant mass; none if there are no maps."""
    if not len(maps):
        return ()
    best = maps[maps.max(axis=(1, 2)).argmax()].astype(np.float64)
    sigma, x, y = fits.perturber[k]
    note = f"a small mass at ({x:.2f}, {y:.2f}) arcsec: {sigma:.1f} sigma"
    picture = difference_picture(best, RESPONSE_LIMIT)
    return (Picture(picture, f"response of {name}", note if np.isfinite(sigma) else ""),)
