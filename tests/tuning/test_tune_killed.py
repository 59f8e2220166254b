"""A study whose process is really killed, then two workers at once: nothing lost, nothing twice."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.training.journal import read_rows
from pipeline.training.state import read_state

pytestmark = pytest.mark.slow

TRIALS, EPOCHS = 5, 20
#: What Optuna's journal calls the birth of a trial, and its end.
CREATED, STATE = 4, 6


@pytest.fixture
def start(command, environment):
    """Start ``deeplense ARGUMENTS`` in a process group that ends with the test."""
    started = []

    def begin(log: Path, *arguments: object) -> subprocess.Popen[bytes]:
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*command, *map(str, arguments)], env=environment, stdout=subprocess.PIPE,
                stderr=stream, start_new_session=True,
            )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_rows(run: Path, n: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a run has finished ``n`` epochs; the state of all but the last is saved then."""
    deadline = time.monotonic() + 600
    while len(read_rows(run)) < n:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.005)


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def events(study: Path) -> list[dict]:
    return [json.loads(line) for line in (study / "study.journal").read_text().splitlines()]


def run_of(study: Path, number: int) -> Path:
    return study / "trials" / f"{number:04d}"


def assert_whole(study: Path, found: dict) -> None:
    """Every trial was begun once and finished once, and every epoch was trained once."""
    assert (found["complete"], found["running"], found["trials"]) == (TRIALS, 0, TRIALS)
    log = events(study)
    assert sum(event["op_code"] == CREATED for event in log) == TRIALS
    ends = Counter(event["trial_id"] for event in log if event["op_code"] == STATE)
    assert ends == Counter(range(TRIALS))
    assert sorted(p.name for p in (study / "trials").iterdir()) == [
        run_of(study, k).name for k in range(TRIALS)
    ]
    for k in range(TRIALS):
        assert [row["epoch"] for row in read_rows(run_of(study, k))] == [*range(1, EPOCHS + 1)]


@pytest.mark.parametrize("how", ["--workers 2", "the command twice"])
def test_killed_study_is_finished_by_two_workers_at_once(how, data, make_files, start, tmp_path):
    config, space = make_files(tmp_path)
    study, log = tmp_path / "s", tmp_path / "log"
    call = ["tune", config, "--space", space, "--data", data, "--out", study, "--device", "cpu"]
    call += ["--trials", TRIALS, "--set", f"epochs={EPOCHS}", "--json"]

    first = start(log, *call)
    wait_for_rows(run_of(study, 1), 3, first, log)
    kill(first)
    killed = run_of(study, 1)
    before = read_state(killed)["position"]
    assert 2 <= before["epoch"] < EPOCHS, "killed in the middle of its second trial"
    assert sum(event["op_code"] == CREATED for event in events(study)) == 2

    if how == "--workers 2":
        workers = [start(log, *call, "--workers", 2)]
    else:
        logs = [tmp_path / "log1", tmp_path / "log2"]
        workers = [start(path, *call) for path in logs]
    answers = [worker.communicate(timeout=900)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(workers), log.read_text()
    last = max((json.loads(answer) for answer in answers), key=lambda a: a["complete"])
    assert_whole(study, last)
    assert (study / "study.html").is_file() and (study / "best.yaml").is_file()

    # The trial that was killed went on: it has the bits of a training that nobody disturbed (on as
    # many threads: sums over two are other sums).
    unbroken = tmp_path / "unbroken"
    again = ["train", killed / "config.yaml", "--data", data, "--out", unbroken, "--device", "cpu"]
    plain = start(log, *again)
    plain.communicate(timeout=900)
    assert plain.returncode == 0, log.read_text()
    one, two = read_state(killed), read_state(unbroken)
    assert one["position"]["step"] == two["position"]["step"]
    assert (killed / "weights.safetensors").read_bytes() == (
        unbroken / "weights.safetensors"
    ).read_bytes()


def test_worker_that_is_killed_leaves_its_trial_to_the_other(data, make_files, start, tmp_path):
    config, space = make_files(tmp_path)
    study = tmp_path / "s"
    call = ["tune", config, "--space", space, "--data", data, "--out", study, "--device", "cpu"]
    call += ["--trials", TRIALS, "--set", f"epochs={EPOCHS}", "--json"]
    logs = [tmp_path / "log1", tmp_path / "log2"]
    first, second = (start(path, *call) for path in logs)
    for process, path in ((first, logs[0]), (second, logs[1])):
        while b"trial " not in path.read_bytes():  # not yet at work
            assert process.poll() is None, path.read_text()
            time.sleep(0.01)
    kill(first)
    answer = json.loads(second.communicate(timeout=900)[0])
    assert second.returncode == 0, logs[1].read_text()
    assert_whole(study, answer)


def test_worker_of_a_command_that_is_killed_leaves_its_trial_to_the_other(
    data, make_files, start, tmp_path
):
    config, space = make_files(tmp_path)
    study, log = tmp_path / "s", tmp_path / "log"
    call = ["tune", config, "--space", space, "--data", data, "--out", study, "--device", "cpu"]
    call += ["--trials", TRIALS, "--set", f"epochs={EPOCHS}", "--workers", 2, "--json"]
    process = start(log, *call)
    wait_for_rows(run_of(study, 1), 1, process, log)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    answer = json.loads(process.communicate(timeout=900)[0])
    assert process.returncode == 0, log.read_text()
    assert "1 of 2 workers died" in log.read_text()
    assert_whole(study, answer)


def workers_of(parent: int) -> list[int]:
    """Processes that a command has spawned to work."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    return [pid for pid, line in commands.items() if b"spawn_main" in line]
