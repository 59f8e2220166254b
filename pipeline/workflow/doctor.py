"""Is this machine ready? Versions, devices, optional extras, Prefect, and one small self-test."""

import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pipeline.core.cores import usable_cores
from pipeline.core.errors import DeepLenseError
from pipeline.core.provenance import package_versions

#: Optional package -> what it is for.
EXTRAS = {"pyarrow": "score tables as Parquet (extra 'parquet')"}
#: Images of the self-test.
N_IMAGES = 6


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class DoctorSummary:
    """All checks; ``ok`` unless one of them failed."""

    ok: bool
    checks: tuple[Check, ...]


def examine() -> DoctorSummary:
    """Look at everything a run needs; takes about ten seconds.

    Returns
    -------
    DoctorSummary
        A missing extra or Prefect server is reported and is no failure.
    """
    looks: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("devices", _devices),
        ("disk", _disk),
        ("extras", _extras),
        ("prefect server", _prefect_server),
        ("self-test", _self_test),
    )
    checks = []
    for name, look in looks:
        try:
            checks.append(look())
        except (DeepLenseError, OSError, ImportError) as error:
            checks.append(Check(name, False, f"{type(error).__name__}: {error}"))
    return DoctorSummary(all(check.ok for check in checks), tuple(checks))


def _python() -> Check:
    found = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", sys.version_info[:2] == (3, 12), f"{found}; needed is 3.12")


def _packages() -> Check:
    needed = ("numpy", "scipy", "astropy", "lenstronomy", "zarr", "torch", "vit-pytorch", "prefect")
    found = package_versions(("deeplense-pipeline", *needed, "autolens", "jax"))
    missing = [name for name in needed if name not in found]
    detail = ", ".join(f"{name} {number}" for name, number in found.items())
    return Check("packages", not missing, detail + "".join(f"; {m} is missing" for m in missing))


def _devices() -> Check:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    gpus = ", ".join(names) if names else "no GPU that torch can use"
    return Check("devices", True, f"{usable_cores()} CPU cores; {gpus}")


def _disk() -> Check:
    with tempfile.NamedTemporaryFile(dir=Path.cwd(), prefix=".deeplense-", suffix=".partial"):
        pass
    space = os.statvfs(Path.cwd())
    free = space.f_bavail * space.f_frsize / 1e9
    return Check("disk", free > 1.0, f"this folder takes files; {free:.0f} GB free")


def _extras() -> Check:
    words = [
        f"{name} {'is' if find_spec(name) else 'is not'} installed: {purpose}"
        for name, purpose in EXTRAS.items()
    ]
    return Check("extras", True, "; ".join(words))


def _prefect_server() -> Check:
    """Ask the configured server for its health; without one, flows cannot be deployed."""
    from urllib.error import URLError
    from urllib.request import urlopen

    url = os.environ.get("PREFECT_API_URL", "")
    if not url.startswith(("http://", "https://")):
        return Check("prefect server", True, "PREFECT_API_URL is not set; commands need no server")
    try:
        with urlopen(f"{url}/health", timeout=3.0) as answer:
            healthy = answer.status == 200
    except (URLError, TimeoutError) as error:
        return Check("prefect server", False, f"{url} does not answer: {error}")
    return Check("prefect server", healthy, f"{url} answers")


def _self_test() -> Check:
    """Simulate a few images twice, through the whole of the dataset layer, and compare them."""
    from pipeline.dataset.config import load_dataset_config
    from pipeline.dataset.simulate import simulate_dataset

    config = load_dataset_config("demo", (f"n_images={N_IMAGES}", "shard_size=3"))
    with tempfile.TemporaryDirectory() as folder:
        one = simulate_dataset(config, Path(folder) / "one.zarr", workers=1)
        two = simulate_dataset(config, Path(folder) / "two.zarr", workers=2)
    same = one.dataset_sha256 == two.dataset_sha256
    verdict = "the same bytes" if same else "different bytes"
    return Check("self-test", same, f"{N_IMAGES} images with 1 and with 2 workers: {verdict}")
