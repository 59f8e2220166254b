"""One code measured in one process, on one core and one thread: ``python -m`` this module.

Reads a request (JSON) from stdin and writes a result (JSON) for each case to stdout, a line each;
what the codes themselves print goes to stderr.
"""

import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.benchmark import scenes as bench
from pipeline.core.errors import EngineError

#: Images whose values are compared between codes.
N_COMPARED = 4


@dataclass(frozen=True)
class Case:
    """One number to measure."""

    scene: str
    size: int
    noisy: bool


@dataclass(frozen=True)
class Request:
    """What a worker is asked, first line of its stdin; cases follow, a line each.

    Attributes
    ----------
    prepare : str
        ``module:function``, which turns scenes into something that renders them.
    n_images : int
        Scenes in one call.
    seconds : float
        Repeat each case at least this long, and at least three times.
    images : str
        Folder for the first noiseless images of each case.
    """

    prepare: str
    n_images: int
    seconds: float
    images: str


@dataclass(frozen=True)
class Measured:
    """Times of one case; ``refusal`` says why there are none.

    Attributes
    ----------
    ms_best, ms_median : float, ms an image
        Processor time, of all threads together.
    first_call_seconds : float, s
        Wall time of the first call less a later one: compiling and setting up.
    """

    case: Case
    ms_best: float = float("nan")
    ms_median: float = float("nan")
    first_call_seconds: float = float("nan")
    refusal: str = ""


def image_path(folder: str | Path, case: Case) -> Path:
    """File of the first images of a case."""
    return Path(folder) / f"{case.scene.replace(' ', '_')}_{case.size}.npy"


def main() -> None:
    """Measure what stdin asks for."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[:1])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = Request(**json.loads(sys.stdin.readline()))
    module, _, function = request.prepare.partition(":")
    prepare = getattr(importlib.import_module(module), function)
    prepared: dict[Case, tuple[Callable[[], object], float]] = {}
    for line in sys.stdin:
        measured = _measure(prepare, Case(**json.loads(line)), request, prepared)
        answers.write(json.dumps(asdict(measured)) + "\n")
        answers.flush()


def _measure(
    prepare: Callable[..., Any],
    case: Case,
    request: Request,
    prepared: dict[Case, tuple[Callable[[], object], float]],
) -> Measured:
    try:
        if case not in prepared:
            prepared[case] = _first(prepare, case, request)
    except EngineError as error:
        return Measured(case, refusal=str(error))
    render, first = prepared[case]
    times: list[float] = []
    while len(times) < 3 or sum(times) < request.seconds:
        start = time.process_time()
        render()
        times.append(time.process_time() - start)
    to_ms = 1e3 / request.n_images
    best = min(times)
    return Measured(case, best * to_ms, statistics.median(times) * to_ms, max(0.0, first - best))


def _first(
    prepare: Callable[..., Any], case: Case, request: Request
) -> tuple[Callable[[], object], float]:
    """What renders a case, and how long its first images took."""
    scenes = bench.scenes(case.scene, request.n_images)
    grid, instrument = bench.grid(case.size), bench.instrument(case.size)
    start = time.perf_counter()
    render: Callable[[], Any] = prepare(scenes, grid, instrument, case.noisy)
    images = render()
    if not case.noisy:
        np.save(image_path(request.images, case), images[:N_COMPARED])
    return render, time.perf_counter() - start


if __name__ == "__main__":
    main()
