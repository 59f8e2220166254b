"""A real Prefect server and worker, started and fed by the commands that README.md prints."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECTION = "## Prefect"


@dataclass(frozen=True)
class Commands:
    """What README.md tells a reader to type, by what it does."""

    environment: dict[str, str]
    server: list[str]
    prepare: list[list[str]]
    worker: list[str]
    run: list[str]


@dataclass(frozen=True)
class Prefect:
    """A running server with a worker and all deployments."""

    environment: Mapping[str, str]
    commands: Commands
    url: str

    def call(self, command: list[str], timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run one command against the server, in the checkout."""
        return subprocess.run(
            command, env=dict(self.environment), cwd=ROOT, timeout=timeout,
            capture_output=True, text=True, check=False,
        )  # fmt: skip


def readme_commands(text: str) -> Commands:
    """Read the Prefect section's shell blocks; every line in them is a command."""
    section = text.partition(f"\n{SECTION}")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    lines = [line.removeprefix("uv run ") for line in lines if line and not line.startswith("#")]
    environment = {}
    for line in lines:
        if line.startswith("export "):
            environment.update(word.split("=", 1) for word in shlex.split(line)[1:])

    def those(words: str) -> list[list[str]]:
        return [shlex.split(line, comments=True) for line in lines if words in line]

    return Commands(
        environment,
        server=those("prefect server start")[0],
        prepare=those("work-pool create") + those("deploy --all"),
        worker=those("prefect worker start")[0],
        run=those("prefect deployment run")[0],
    )


@pytest.fixture(scope="session")
def commands() -> Commands:
    return readme_commands((ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def prefect(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    folder = tmp_path_factory.mktemp("prefect")
    port = _free_port()
    printed = commands.environment["PREFECT_API_URL"]
    old_port = printed.rpartition(":")[2].partition("/")[0]
    url = printed.replace(old_port, str(port))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        **commands.environment,
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": url,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    server = [word.replace(old_port, str(port)) for word in commands.server]
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.append(_start(server, environment, folder / "server.log"))
        _wait_until_healthy(url, started[0], folder / "server.log")
        running = Prefect(environment, commands, url)
        for command in commands.prepare:
            done = running.call(command)
            assert done.returncode == 0, done.stdout + done.stderr
        started.append(_start(commands.worker, environment, folder / "worker.log"))
        yield running
    finally:
        for process in reversed(started):
            _stop(process)


def _start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        return subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip


def _wait_until_healthy(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180.0
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2.0):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
    pytest.fail(f"the Prefect server did not come up:\n{log.read_text(errors='replace')[-3000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything it started: politely, then for good."""
    for number, patience in ((signal.SIGINT, 15.0), (signal.SIGKILL, 15.0)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
