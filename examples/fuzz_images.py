"""Thousands of damaged image files through the reader: none may crash, hang or eat memory.

    python examples/fuzz_images.py --files 10000 [--seeds FOLDER ...] [--seed 0]

Good files (written here, and those in the folders given) are damaged: bytes flipped, pieces cut,
doubled or moved, header cards with wild values, tails cut off. Each damaged file goes through the
same readers as ``deeplense score``. Told: what became of them, the slowest file, the largest memory
of a reader, and any reader that died or was stopped, whose file is kept.
"""

import argparse
import gzip
import io
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from astropy.io import fits

from pipeline.inference.images import ReadOptions, Rejection, RejectReason
from pipeline.inference.readers import ReaderPool
from pipeline.inference.search import Found, find_images
from pipeline.inference.target import Target

TARGET = Target(("f814w",), 0.05, 64, is_unit_free=True)
#: Files made, read and deleted at a time.
ROUND = 500
#: Largest file that is damaged, bytes.
MAX_SEED = 2 * 2**20
WILD = ("0", "-1", "1", "2", "3", "999", "32768", "70000", "2147483648", "9223372036854775807",
        "-9223372036854775808", "1E308", "-1E-308", "NAN", "T", "F", "'text'", "''", "1.5",
        "(1,2)", "")  # fmt: skip


def good_files() -> list[bytes]:
    """Small files of every kind that the scorer reads."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] - 31.5
    ring = 10 * np.exp(-0.5 * ((np.hypot(x, y) - 18) / 2) ** 2) + rng.normal(size=(64, 64))
    image = ring.astype("f4")
    wcs = fits.Header({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CRVAL1": 150.0,
                       "CRVAL2": 2.0, "CRPIX1": 32.5, "CRPIX2": 32.5, "CD1_1": -1.4e-5,
                       "CD1_2": 1e-6, "CD2_1": 1e-6, "CD2_2": 1.4e-5, "A_ORDER": 2,
                       "B_ORDER": 2, "A_2_0": 1e-6, "B_0_2": 1e-6, "BUNIT": "electrons",
                       "PHOTFLAM": 7e-20, "PHOTPLAM": 8045.0, "EXPTIME": 2000.0})  # fmt: skip
    packed = (100 * np.abs(image)).astype("i4")
    kinds = ("RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1")
    lists = [
        [fits.PrimaryHDU(image, wcs)],
        [fits.PrimaryHDU((100 * image).astype("i2"))],
        [fits.PrimaryHDU((100 * image - 50).clip(0).astype("u2"), wcs)],
        [fits.PrimaryHDU(np.stack([image] * 3))],
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(image, wcs, name="SCI"),
            fits.ImageHDU(np.abs(image), name="ERR"),
            fits.ImageHDU((image > 99).astype("i4"), name="DQ"),
            fits.ImageHDU(image[16:47, 16:47], name="PSF"),
        ],
        *([fits.PrimaryHDU(), fits.CompImageHDU(packed, wcs, compression_type=k)] for k in kinds),
    ]
    contents = []
    for hdus in lists:
        buffer = io.BytesIO()
        fits.HDUList(hdus).writeto(buffer)
        contents.append(buffer.getvalue())
    contents.append(gzip.compress(contents[0]))
    for save in (lambda f: np.save(f, np.stack([image] * 3)), lambda f: np.savez(f, a=image),
                 lambda f: np.savez_compressed(f, a=image, b=image)):  # fmt: skip
        buffer = io.BytesIO()
        save(buffer)
        contents.append(buffer.getvalue())
    return contents


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """One of many kinds of damage, or several."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if not data:
            break
        at = int(rng.integers(len(data)))
        kind = int(rng.integers(7))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            n = int(rng.integers(1, 40))
            data[at : at + n] = rng.integers(0, 256, n, dtype=np.uint8).tobytes()
        elif kind == 2:
            del data[at : at + int(rng.integers(1, 4000))]
        elif kind == 3:
            data[at:at] = data[at : at + int(rng.integers(1, 4000))]
        elif kind == 4:
            del data[at:]
        else:
            _wild_card(data, rng)
    return bytes(data)


def _wild_card(data: bytearray, rng: np.random.Generator) -> None:
    """Give a header card another value, or another keyword's place."""
    n_cards = min(len(data) // 80, 120)
    if n_cards < 2:
        return
    at = 80 * int(rng.integers(n_cards))
    if rng.random() < 0.8:
        value = WILD[int(rng.integers(len(WILD)))]
        data[at + 8 : at + 80] = f"= {value:>20}".ljust(72).encode()
    else:
        other = 80 * int(rng.integers(n_cards))
        data[at : at + 80], data[other : other + 80] = (
            data[other : other + 80],
            data[at : at + 80],
        )


def suffix(content: bytes) -> str:
    """Suffix that a reader goes by."""
    if content.startswith(b"\x93NUMPY"):
        return ".npy"
    return ".npz" if content.startswith(b"PK") else ".fits"


def peak_memory(pool: ReaderPool) -> int:
    """Largest resident memory of the readers so far, bytes (Linux)."""
    peak = 0
    for pid in pool.pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        except OSError:
            continue
        peak = max(peak, *(1024 * int(line.split()[1]) for line in status.splitlines()
                           if line.startswith("VmHWM")), 0)  # fmt: skip
    return peak


def fuzz(n_files: int, seeds: list[bytes], seed: int, keep: Path, timeout: float) -> bool:
    """Run the campaign and print what came of it; whether nothing crashed or hung."""
    counts: Counter[str] = Counter()
    slowest, peak, bad = 0.0, 0, 0
    with (
        tempfile.TemporaryDirectory() as name,
        ReaderPool(1, TARGET, ReadOptions(), timeout=timeout) as pool,
    ):
        for start in range(0, n_files, ROUND):
            folder = Path(name) / str(start)
            folder.mkdir()
            for i in range(start, min(start + ROUND, n_files)):
                rng = np.random.default_rng((seed, i))
                content = seeds[int(rng.integers(len(seeds)))]
                path = folder / f"{i:06d}{suffix(content)}"
                path.write_bytes(damage(content, rng))
            items: list[Found] = list(find_images([folder]).files)
            before = time.monotonic()
            for item, outcome in zip(items, pool.read(items), strict=True):
                now = time.monotonic()
                slowest, before = max(slowest, now - before), now
                image = outcome.image
                word = str(image.reason) if isinstance(image, Rejection) else "scored"
                counts[word] += 1
                if word in (RejectReason.CRASHED, RejectReason.TIMED_OUT):
                    bad += 1
                    keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(item.path, keep)
            peak = max(peak, peak_memory(pool))
            shutil.rmtree(folder)
            print(f"{min(start + ROUND, n_files)} files, peak {peak / 2**20:.0f} MiB", flush=True)
    print(dict(counts.most_common()))
    print(f"{bad} crashed or hung; slowest file {slowest:.1f} s; peak {peak / 2**20:.0f} MiB")
    return bad == 0


def _seeds(folders: list[Path]) -> list[bytes]:
    found = good_files()
    for item in find_images(folders).files if folders else ():
        if item.problem is None and item.path.is_file() and item.path.stat().st_size <= MAX_SEED:
            found.append(item.path.read_bytes())
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seeds", type=Path, nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    is_good = fuzz(given.files, _seeds(given.seeds), given.seed, given.keep, given.timeout)
    sys.exit(0 if is_good else 1)
