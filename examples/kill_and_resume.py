"""Kill a simulation at random instants, again and again, and compare what comes out at the end.

    python examples/kill_and_resume.py [--kills 20] [--workers 1 2] [--preset demo] [--images 600]

Each cycle starts ``deeplense simulate`` anew, waits for a random time and sends SIGKILL to the
command; its worker processes notice and leave, the next cycle does not wait for them. When all
kills are spent, the last call finishes. The hash and every byte of every file must equal those of a
dataset that was made in one go. Prints one line for each number of workers and exits with 1 if any
differs.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Cycles:
    """What the killing did."""

    kills: int = 0
    before_creation: int = 0
    finished_early: int = 0
    leftovers: int = 0


def main() -> int:
    """Run the comparison for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--shard-size", type=int, default=10)
    parser.add_argument("--pixels", type=int, default=24)
    parser.add_argument("--engine", default="lenstronomy", help="its start-up decides the pace")
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    given = parser.parse_args()
    settings = [
        f"shard_size={given.shard_size}", f"n_pix={given.pixels}", "supersample=1",
        f"engine={given.engine}",
    ]  # fmt: skip
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [
            sys.executable,
            "-m",
            "pipeline",
            "simulate",
            given.preset,
            "--json",
            "--no-audit",
        ]
        command += ["--images", str(given.images)]
        command += [word for setting in settings for word in ("--set", setting)]
        start = time.monotonic()
        whole = folder / "whole.zarr"
        expected = finish([*command, "--workers", "1", "--out", str(whole)])
        seconds = time.monotonic() - start
        print(f"in one go: {given.images} images in {seconds:.1f} s, sha256 {expected}")
        for workers in given.workers:
            out = folder / f"killed-{workers}.zarr"
            mine = [*command, "--workers", str(workers), "--out", str(out)]
            rng = random.Random(f"{given.seed}-{workers}")
            done = cycle(mine, out, given.kills, seconds, rng)
            found = finish(mine)
            same = tree(out) == tree(whole)
            failed |= found != expected or not same
            print(
                f"{workers} worker{'s' if workers > 1 else ''}: {done.kills} kills "
                f"({done.before_creation} before there was a dataset, {done.leftovers} left "
                f"unfinished files, {done.finished_early} too late): hash "
                f"{'equal' if found == expected else 'DIFFERENT'}, bytes "
                f"{'equal' if same else 'DIFFERENT'}"
            )
    return int(failed)


def cycle(
    command: list[str], out: Path, n_kills: int, seconds: float, rng: random.Random
) -> Cycles:
    """Start and kill the command; the instants aim at using up the work in ``n_kills`` pieces."""
    done = Cycles()
    while done.kills < n_kills:
        # Most instants lie after the start-up, some in it; the work is spread over all cycles.
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        digests = len(list(out.glob("shard_digest/c/*/0")))
        begun = time.monotonic()
        if rng.random() < 0.8:
            while process.poll() is None and time.monotonic() - begun < 120:
                if len(list(out.glob("shard_digest/c/*/0"))) > digests:
                    break
                time.sleep(0.002)
            time.sleep(rng.random() * seconds / n_kills / 4)
        else:
            time.sleep(rng.random() * seconds / 2)
        if process.poll() is not None:
            done.finished_early += 1
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done.kills += 1
        done.before_creation += not out.exists()
        done.leftovers += bool(list(out.rglob("*.partial")))
    return done


def finish(command: list[str]) -> str:
    """Run the command to its end; return the hash it answers."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return str(json.loads(done.stdout)["dataset_sha256"])


def tree(path: Path) -> dict[str, bytes]:
    """Every file below ``path`` with its bytes."""
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


if __name__ == "__main__":
    sys.exit(main())
