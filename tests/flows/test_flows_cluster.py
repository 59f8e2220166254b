"""The flow on a Dask and on a Ray cluster, one worker really killed: the hash of the local run."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.simulate import simulate_dataset

from .conftest import Prefect

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["n_images=96", "shard_size=6", "n_pix=24", "supersample=1", "engine=lenstronomy"]
RUN = """
import importlib, json, sys
sys.path.insert(0, "flows")
if __name__ == "__main__":
    name, given = sys.argv[1], json.loads(sys.argv[2])
    flow = getattr(importlib.import_module(name), name)
    print("\\nSUMMARY " + json.dumps(flow(**given), default=str))
"""
TRAINING = """
model: {kind: lens_hybrid, channels: [8, 16], blocks: [0, 0], depth: 1, heads: 2}
epochs: 20
batch_size: 16
loggers: []
"""
SPACE = "parameters: {seed: [1, 2, 3, 4]}\nsampler: grid\npruner: none\n"


@pytest.fixture(scope="module")
def local_sha256(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("local") / "d.zarr"
    return simulate_dataset(load_dataset_config("demo", SMALL), out, workers=1).dataset_sha256


@pytest.fixture
def environment(prefect: Prefect, tmp_path: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": prefect.url,  # else every worker starts a server of its own
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",  # else Ray writes a token into the home folder
        "OMP_NUM_THREADS": "1",
    }


#: What the first finished shard leaves.
DIGESTS = "shard_digest/c/*"


def run_flow(
    environment: dict[str, str],
    flow: str,
    given: dict[str, object],
    sign: str,
    kill: Callable[[], None],
) -> dict[str, object]:
    """Run a flow in its own process; kill a worker when the first ``sign`` is in its folder."""
    out = Path(str(given["out"]))
    log = out.with_suffix(".log")
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, flow, json.dumps(given)], env=environment, cwd=ROOT,
            stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 400
        while not list(out.glob(sign)):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        kill()
        assert process.wait(400) == 0, log.read_text()
    finally:
        with suppress(ProcessLookupError):  # it and the servers that it started
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    lines = [line for line in log.read_text().splitlines() if line.startswith("SUMMARY ")]
    found: dict[str, object] = json.loads(lines[-1].removeprefix("SUMMARY "))
    return found


def dataset_parameters(out: Path, runner: str, address: str) -> dict[str, object]:
    """Parameters of the flow ``simulate``."""
    return {"preset": "demo", "out": str(out), "set": SMALL, "runner": runner, "address": address}


@pytest.fixture
def dask_cluster(
    environment: dict[str, str], tmp_path: Path
) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Address of a scheduler, and two worker processes without nannies to restart them."""
    dask, where = [sys.executable, "-m", "dask"], tmp_path / "scheduler.json"
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> None:
        with (tmp_path / f"dask{len(started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [*dask, *arguments], env=environment, cwd=tmp_path, stdout=log, stderr=log
            )
        started.append(process)

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
              "--scheduler-file", str(where))  # fmt: skip
        for _ in range(2):
            start("worker", "--scheduler-file", str(where), "--nthreads", "1", "--no-nanny",
                  "--no-dashboard", "--host", "127.0.0.1")  # fmt: skip
        while not where.exists() or not where.read_text():
            assert started[0].poll() is None
            time.sleep(0.05)
        yield json.loads(where.read_text())["address"], started[1:]
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_dask_cluster_that_loses_a_worker_makes_the_same_dataset(
    environment: dict[str, str],
    dask_cluster: tuple[str, list[subprocess.Popen[bytes]]],
    tmp_path: Path,
    local_sha256: str,
) -> None:
    address, workers = dask_cluster
    given = dataset_parameters(tmp_path / "d.zarr", "dask", address)
    found = run_flow(environment, "simulate", given, DIGESTS, workers[0].kill)
    assert workers[0].wait() == -signal.SIGKILL
    assert found["complete"]
    assert found["dataset_sha256"] == local_sha256


def test_a_dask_cluster_that_loses_a_worker_finishes_the_study(
    environment: dict[str, str],
    dask_cluster: tuple[str, list[subprocess.Popen[bytes]]],
    tmp_path: Path,
) -> None:
    address, workers = dask_cluster
    data, config, space = (tmp_path / name for name in ("d.zarr", "config.yaml", "space.yaml"))
    simulate_dataset(load_dataset_config("demo", SMALL), data, workers=1)
    config.write_text(TRAINING)
    space.write_text(SPACE)
    given: dict[str, object] = {
        "config": str(config), "space": str(space), "data": str(data), "device": "cpu",
        "out": str(tmp_path / "study"), "runner": "dask", "address": address,
    }  # fmt: skip
    found = run_flow(environment, "tune", given, "trials/*/metrics.jsonl", workers[0].kill)
    assert workers[0].wait() == -signal.SIGKILL
    assert (found["trials"], found["complete"], found["running"]) == (4, 4, 0)
    with (tmp_path / "study" / "trials.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(row["seed"] for row in rows) == ["1", "2", "3", "4"]
    assert {row["epochs"] for row in rows} == {"20"}


@pytest.fixture
def ray_cluster(environment: dict[str, str], tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Address of a cluster of this machine, and a mark in the environment of its processes."""
    mark, ray = uuid.uuid4().hex, [sys.executable, "-m", "ray.scripts.scripts"]
    folder = Path("/tmp") / f"ray-{mark[:8]}"  # a socket's path may have 107 characters
    marked = {**environment, "DEEPLENSE_TEST_MARK": mark}
    port = str(20000 + int(mark[:4], 16) % 20000)
    done = subprocess.run(
        [*ray, "start", "--head", "--node-ip-address", "127.0.0.1", "--port", port, "--num-cpus",
         "2", "--include-dashboard", "false", "--temp-dir", str(folder),
         "--object-store-memory", "100000000", "--disable-usage-stats"],
        env=marked, capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        yield f"127.0.0.1:{port}", mark
    finally:
        for pid in marked_processes(mark):
            os.kill(pid, signal.SIGKILL)
        subprocess.run(["rm", "-rf", str(folder)], check=False)


def marked_processes(mark: str, word: bytes = b"") -> list[int]:
    """Processes whose environment holds the mark and whose command holds a word."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            environment = (process / "environ").read_bytes()
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if f"DEEPLENSE_TEST_MARK={mark}".encode() in environment and word in command:
            found.append(int(process.name))
    return found


def test_a_ray_cluster_that_loses_a_worker_makes_the_same_dataset(
    environment: dict[str, str], ray_cluster: tuple[str, str], tmp_path: Path, local_sha256: str
) -> None:
    address, mark = ray_cluster
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            busy = marked_processes(mark, b"ray::make shards")
            if busy:
                os.kill(busy[0], signal.SIGKILL)
                killed.append(busy[0])

    given = dataset_parameters(tmp_path / "d.zarr", "ray", address)
    found = run_flow(environment, "simulate", given, DIGESTS, kill)
    assert killed
    assert found["complete"]
    assert found["dataset_sha256"] == local_sha256
