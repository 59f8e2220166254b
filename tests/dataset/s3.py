"""A real S3 server process for the tests, behind a gate process that can be killed and restarted.

The server (moto) keeps its objects in memory, so killing it would also wipe its disk. What is
killed is the gate, a process that forwards its port: to a client the server is then gone, and it
comes back with its data when a new gate listens on the same port.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

GATE = """
import socket, sys, threading
own, behind = int(sys.argv[1]), int(sys.argv[2])
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", own))
listener.listen(64)
def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    finally:
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
while True:
    client, _ = listener.accept()
    server = socket.create_connection(("127.0.0.1", behind))
    for pair in ((client, server), (server, client)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")


@dataclass
class S3:
    """The server, its gate and the environment that leads a client there."""

    server: subprocess.Popen[bytes]
    behind: int
    port: int
    gate: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def open_gate(self) -> None:
        """Let clients through."""
        command = [sys.executable, "-c", GATE, str(self.port), str(self.behind)]
        self.gate = subprocess.Popen(command)
        wait_for_port(self.port, self.gate)

    def kill_gate(self) -> None:
        """Take the server away from its clients, in the middle of whatever they do."""
        assert self.gate is not None
        self.gate.send_signal(signal.SIGKILL)
        self.gate.wait()
        self.gate = None

    def stop(self) -> None:
        """End both processes."""
        if self.gate is not None:
            self.kill_gate()
        self.server.kill()
        self.server.wait()


def start_s3() -> S3:
    """Start a server and its gate on free ports of this machine."""
    behind = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(behind)]
    quiet = {**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": "1000"}
    server = subprocess.Popen(
        command, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    s3 = S3(server, behind, free_port())
    try:
        wait_for_port(behind, server)
        s3.open_gate()
    except BaseException:
        s3.stop()
        raise
    return s3
