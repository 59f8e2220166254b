"""Settings of JAX for this package: compiled functions on disk, wide vectors, a shared GPU.

Only what the user has not set already is set.
"""

import hashlib
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import jax

from pipeline.core.logs import get_logger

#: Moves the cache; by default it lies in the user's cache folder.
CACHE_VARIABLE = "DEEPLENSE_CACHE"
#: Compiled functions are small (100 kB); this many bytes are thousands of them.
_MAX_BYTES = 1 << 30
#: Functions that compile faster than this are not worth a file, seconds.
_MIN_SECONDS = 0.1
#: Age beyond which an entry without its companion was left by a process that died, seconds.
_TORN_AGE = 60.0
_VECTOR_FLAG = "xla_cpu_prefer_vector_width"

#: For functions that several threads run at once. XLA's Fourier transforms wait for threads of its
#: pool, and as many of them as the pool has threads wait for ever; so each keeps to its own thread.
ONE_THREAD: dict[str, str | bool] = {"xla_cpu_multi_thread_eigen": False}

_logger = get_logger("engine")


def configure() -> None:
    """Keep compiled functions on disk and let torch share the GPU; harmless if neither is possible.

    Processors with AVX-512 are told to use it, which XLA by default does not (1.6 times faster
    here). JAX reads all this when it starts, so this must run before the first array.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    flags = os.environ.get("XLA_FLAGS", "")
    if _VECTOR_FLAG not in flags and "avx512f" in _processor().split():
        os.environ["XLA_FLAGS"] = f"{flags} --{_VECTOR_FLAG}=512".strip()
    if jax.config.jax_compilation_cache_dir is not None:
        return
    folder = cache_folder() / "xla" / f"jax-{jax.__version__}-{_machine()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
    except OSError as error:
        _logger.debug("no cache of compiled functions: %s", error)
        return
    if not os.access(folder, os.W_OK):
        _logger.debug("no cache of compiled functions: %s is read-only", folder)
        return
    update: Callable[[str, object], None] = jax.config.update  # jax gives it no types
    update("jax_compilation_cache_dir", str(folder))
    update("jax_compilation_cache_max_size", _MAX_BYTES)
    update("jax_persistent_cache_min_compile_time_secs", _MIN_SECONDS)


def cache_folder() -> Path:
    """Folder for what can always be made again; ``DEEPLENSE_CACHE`` moves it."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "deeplense"


def _machine() -> str:
    """Short name of this kind of processor: what XLA compiles for one may not run on another."""
    return hashlib.sha256(_processor().encode()).hexdigest()[:12]


def _processor() -> str:
    """Model and instruction sets of the processor, as the kernel tells them."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return platform.machine()
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    known = {line for line in lines if line.startswith(("flags", "model", "Features"))}
    return " ".join([platform.machine(), *sorted(known)])


def _sweep(folder: Path) -> None:
    """Remove entries that a killed process left half written: they have no ``-atime`` companion."""
    for entry in folder.glob("*-cache"):
        companion = entry.with_name(f"{entry.name.removesuffix('-cache')}-atime")
        if not companion.exists() and time.time() - entry.stat().st_mtime > _TORN_AGE:
            entry.unlink(missing_ok=True)
