"""An image through the network: what it saw, what it says, or why there is no score."""

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.app.network import Network
from pipeline.core.errors import ScoringError
from pipeline.dataset.live import LiveImage
from pipeline.inference.catalogue import rejected_row, scored_rows
from pipeline.inference.images import RawImage, ReadOptions, Rejection, RejectReason
from pipeline.inference.photometry import Photometry
from pipeline.inference.prepare import prepare_image
from pipeline.inference.read_item import Outcome
from pipeline.inference.readers import ReaderPool
from pipeline.inference.search import find_images
from pipeline.inference.target import Target

#: Seconds an upload may take to be read.
TIMEOUT = 20.0


@dataclass(frozen=True)
class Answer:
    """What the page shows of one image.

    Attributes
    ----------
    row : mapping
        The row that a table of scores would have.
    seen : NDArray, shape (H, W), or None
        First channel that enters the network; None for a rejected image.
    saliency : NDArray, shape (H, W), in [0, 1], or None
    note : str
        What else to know, e.g. that the file holds further images.
    """

    row: Mapping[str, Any]  # Any: text, number, bool by column
    seen: NDArray[np.float32] | None = None
    saliency: NDArray[np.float64] | None = None
    note: str = ""


class Scorer:
    """Reads images in a process of their own and asks the network, one at a time.

    Parameters
    ----------
    target : Target
        What images are prepared for; known before the network is.
    network : Future of Network
    """

    def __init__(self, target: Target, network: "Future[Network]") -> None:
        self.target = target
        self._network = network
        self._pool = ReaderPool(1, target, ReadOptions(), timeout=TIMEOUT)
        self._reading, self._asking = threading.Lock(), threading.Lock()

    def __enter__(self) -> "Scorer":
        """Return the scorer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the reader."""
        self._pool.close()

    def score_file(self, path: Path) -> Answer:
        """Score the first image of a file; a bad file is an answer, never an error."""
        try:
            search = find_images([path], len(self.target.bands))
        except ScoringError as error:
            detail = str(error).removeprefix(f"{path}: ")
            return self._answer(Outcome(Rejection(RejectReason.NO_IMAGE, detail), None, None))
        with self._reading:
            (outcome,) = self._pool.read(search.files[:1])
        n_images = len(search.files)
        note = f"The file holds {n_images:,} images; this is the first." if n_images > 1 else ""
        return self._answer(outcome, note)

    def score_live(self, live: LiveImage) -> Answer:
        """Score a simulated image as if it had come in a file with a complete header."""
        first = live.config.instruments[0]
        raw = RawImage(
            data=live.image.astype(np.float64), hdu="simulated",
            pixel_scale=live.config.pixel_scale, unit="electron/s", band=first.band,
            photometry=Photometry(first.zero_point, "instrument"),
            psf_fwhm=getattr(first.psf, "fwhm", None),
        )  # fmt: skip
        return self._answer(Outcome(prepare_image(raw, self.target), raw.hdu, None))

    def _answer(self, outcome: Outcome, note: str = "") -> Answer:
        prepared = outcome.image
        if isinstance(prepared, Rejection):
            return Answer(rejected_row(outcome), note=note)
        network = self._network.result()
        images = prepared.image[None]
        with self._asking:
            verdict = network.predict(images)
            heat = network.saliency(images)
        (row,) = scored_rows([outcome], verdict, network.class_names, network.targets)
        seen = network.as_seen(images)[0, 0]
        return Answer(row, seen, None if heat is None else heat[0], note)
