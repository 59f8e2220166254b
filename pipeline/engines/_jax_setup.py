"""Settings of JAX for this package: compiled functions kept on disk, GPU memory shared with torch.

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

_logger = get_logger("engine")


def configure() -> None:
    """Keep compiled functions on disk and let torch share the GPU; harmless if neither is possible.

    JAX reads both when it compiles, so this must run before the first compilation.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
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
    flags = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        flags += "".join(sorted({line for line in lines if line.startswith(("flags", "model"))}))
    return hashlib.sha256(flags.encode()).hexdigest()[:12]


def _sweep(folder: Path) -> None:
    """Remove entries that a killed process left half written: they have no ``-atime`` companion."""
    for entry in folder.glob("*-cache"):
        companion = entry.with_name(f"{entry.name.removesuffix('-cache')}-atime")
        if not companion.exists() and time.time() - entry.stat().st_mtime > _TORN_AGE:
            entry.unlink(missing_ok=True)
