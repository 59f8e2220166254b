"""What made an artefact: canonical JSON, SHA-256 and the versions of the packages involved."""

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

#: Packages whose release can change a stored number, or the meaning of a stored file.
RECORDED_PACKAGES = (
    "deeplense-pipeline",
    "numpy",
    "scipy",
    "astropy",
    "lenstronomy",
    "jax",
    "autolens",
    "zarr",
    "torch",
    "onnxruntime",
    "vit-pytorch",
)


def canonical_json(value: Any) -> str:  # Any: whatever JSON can hold
    """Serialise ``value`` so that equal values give equal text: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def sha256_hex(data: bytes | str) -> str:
    """SHA-256 of bytes, or of text in UTF-8, as 64 hexadecimal digits."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def package_versions(names: tuple[str, ...] = RECORDED_PACKAGES) -> dict[str, str]:
    """Versions of the installed packages among ``names``, read without importing them."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
