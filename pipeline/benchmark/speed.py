"""How fast each code renders the same scenes: ``deeplense bench simulate``.

Every code runs in a process of its own, pinned to one core with one thread; for each scene they
take turns, twice, so that all see the machine in one state. The time of an image is processor time,
the best of several repeats, because other work on the machine only ever adds to it; compiling is
reported apart.
"""

import contextlib
import dataclasses
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn, Self

import numpy as np

from pipeline.benchmark import scenes as bench
from pipeline.benchmark.stages import Stages
from pipeline.benchmark.worker import Case, Measured, Request, image_path
from pipeline.core.errors import EngineError, MissingExtraError
from pipeline.core.logs import get_logger, progress
from pipeline.core.provenance import package_versions

#: The code that ratios refer to.
REFERENCE = "lenstronomy, DeepLenseSim's way"
_ONE_THREAD = {
    **dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    ),
    "NPROC": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
}
_QUICK_SECONDS, _SECONDS = 0.02, 0.3
_TURNS = 2

_logger = get_logger("bench")


@dataclass(frozen=True)
class Code:
    """One code: what prepares it, scenes in one call, and the package it needs, if optional."""

    prepare: str
    n_images: int
    package: str = ""


CODES: Mapping[str, Code] = {
    REFERENCE: Code("pipeline.benchmark.deeplensesim:prepare", 8),
    "engine lenstronomy": Code("pipeline.benchmark.ours:lenstronomy", 8),
    "engine autolens": Code("pipeline.benchmark.ours:autolens", 4),
    "engine jax": Code("pipeline.benchmark.ours:jax", 64),
    "caustics": Code("pipeline.benchmark.caustics:prepare", 16, "caustics"),
    "JAXtronomy": Code("pipeline.benchmark.jaxtronomy:prepare", 16, "jaxtronomy"),
}


@dataclass(frozen=True)
class Row:
    """One code on one scene.

    Attributes
    ----------
    scene : str
    size : int
        Pixels along a side.
    noisy : bool
    engine : str
    ms_per_image, ms_median : float
        Best and median of the repeats, processor time.
    ratio_to_lenstronomy : float
        Time of ``REFERENCE`` over this one's, same scene, size and noise.
    first_call_seconds : float
        Compiling and setting up, not part of ``ms_per_image``.
    deviation : float
        Largest difference of the noiseless image from ``REFERENCE``'s, over the peak.
    note : str
        Why there is no number.
    """

    scene: str
    size: int
    noisy: bool
    engine: str
    ms_per_image: float
    ms_median: float
    ratio_to_lenstronomy: float
    first_call_seconds: float
    deviation: float
    note: str


@dataclass(frozen=True)
class SpeedSummary:
    """Everything ``bench simulate`` measured, and on what."""

    rows: tuple[Row, ...]
    stages: tuple[Stages, ...]
    skipped: tuple[str, ...]
    machine: str
    versions: Mapping[str, str]
    quick: bool


def bench_simulate(*, quick: bool = False) -> SpeedSummary:
    """Measure every code on every scene, and where the time of our own goes.

    Parameters
    ----------
    quick : bool
        64 pixels without noise and the shortest repeats: does it run, not how fast.

    Raises
    ------
    EngineError
        If a code that must run dies.
    """
    sizes, noises = ((64,), (False,)) if quick else (tuple(bench.SIZES), (False, True))
    cases = tuple(Case(s, n, noisy) for noisy in noises for n in sizes for s in bench.SCENES)
    seconds = _QUICK_SECONDS if quick else _SECONDS
    skipped = [str(error) for error in map(_missing, CODES.values()) if error]
    codes = {name: code for name, code in CODES.items() if not _missing(code)}
    for line in skipped:
        _logger.warning("%s", line)
    measured: dict[str, list[Measured]] = {name: [] for name in codes}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers = {}
        for position, (name, code) in enumerate(codes.items()):
            images = folder / str(position)
            images.mkdir()
            n_images = min(code.n_images, 8) if quick else code.n_images
            request = Request(code.prepare, n_images, seconds, str(images))
            workers[name] = stack.enter_context(Worker(name, request))
        advance = stack.enter_context(progress("measuring", len(cases), "scene"))
        for case in cases:
            turns = [{name: w.measure(case) for name, w in workers.items()} for _ in range(_TURNS)]
            for name in codes:
                measured[name].append(_better([turn[name] for turn in turns]))
            advance(1, note=f"{case.scene}, {case.size} pixels")
        rows = _rows(measured, folder)
    stages = _run_stages(quick)
    return SpeedSummary(rows, stages, tuple(skipped), _machine(), package_versions(), quick)


def _missing(code: Code) -> MissingExtraError | None:
    if not code.package or find_spec(code.package) is not None:
        return None
    return MissingExtraError(
        f"{code.package} is not installed and was left out; the extra `bench` brings it: "
        "uv sync --extra bench"
    )


class Worker:
    """A process that measures one code, waiting between cases.

    Parameters
    ----------
    name : str
        Used in messages.
    request : Request or Mapping
    module : str
        What it runs.
    """

    def __init__(
        self,
        name: str,
        request: Request | Mapping[str, object],
        module: str = "pipeline.benchmark.worker",
    ) -> None:
        self._name = name
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **_ONE_THREAD, "PYTHONWARNINGS": "ignore"},
        )
        self._send(asdict(request) if isinstance(request, Request) else request)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]  # all three were asked for

    def measure(self, case: Case) -> Measured:
        """Times of one case.

        Raises
        ------
        EngineError
            If the code dies.
        """
        self._send(asdict(case))
        data = json.loads(self.line() or self._failed())
        return Measured(**{**data, "case": Case(**data["case"])})

    def line(self) -> str:
        """Next line of its stdout; empty at its end.

        Raises
        ------
        EngineError
            If it ended badly.
        """
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        if not text and self._process.wait() != 0:
            self._failed()
        return text

    def _send(self, data: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(data) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._process.wait()
            self._failed()

    def _failed(self) -> NoReturn:
        self._errors.seek(0)
        last = (self._errors.read().strip().splitlines() or ["no message"])[-1]
        code = self._process.returncode
        raise EngineError(f"bench: {self._name} stopped with exit code {code}: {last}")


def _better(turns: Sequence[Measured]) -> Measured:
    """The best of several turns; the first holds the time of the first call."""
    best = min(turns, key=lambda m: m.ms_best)
    return dataclasses.replace(best, first_call_seconds=turns[0].first_call_seconds)


def _run_stages(quick: bool) -> tuple[Stages, ...]:
    with Worker("profile", {"quick": quick}, "pipeline.benchmark.stages") as worker:
        return tuple(Stages(**json.loads(line)) for line in iter(worker.line, ""))


def _rows(measured: Mapping[str, Sequence[Measured]], folder: Path) -> tuple[Row, ...]:
    reference = {m.case: m.ms_best for m in measured[REFERENCE]}
    folders = {name: folder / str(k) for k, name in enumerate(measured)}
    return tuple(
        Row(
            scene=m.case.scene,
            size=m.case.size,
            noisy=m.case.noisy,
            engine=name,
            ms_per_image=round(m.ms_best, 5),
            ms_median=round(m.ms_median, 5),
            ratio_to_lenstronomy=round(reference[m.case] / m.ms_best, 2),
            first_call_seconds=round(m.first_call_seconds, 3),
            deviation=_deviation(folders[name], folders[REFERENCE], m.case),
            note=m.refusal,
        )
        for name, results in measured.items()
        for m in results
    )


def _deviation(folder: Path, reference: Path, case: Case) -> float:
    """Largest difference of the first images, over the peak of each; NaN where there are none."""
    found = image_path(folder, case)
    if not found.is_file():
        return math.nan
    expected = np.load(image_path(reference, case))
    images = np.load(found)
    n = min(len(images), len(expected))
    peak = expected[:n].max(axis=(1, 2), keepdims=True)
    return float(np.max(np.abs(images[:n] - expected[:n]) / peak))


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, one used"
