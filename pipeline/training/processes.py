"""Train with several processes of this machine, or under ``torchrun`` on several machines.

Each reads every N-th image of a batch, so the batch of a step is the same whatever
the number of processes.
"""

import multiprocessing
import os
import queue
import socket
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.queues import Queue
from typing import Any

from pipeline.core import logs
from pipeline.core.errors import DeepLenseError, TrainingError

#: Seconds between two looks at whether a process has died without a word.
POLL = 0.5
#: Seconds that the others get to end by themselves.
GRACE = 10.0


@dataclass(frozen=True)
class Group:
    """Which of how many processes this is."""

    rank: int = 0
    size: int = 1


ALONE = Group()


def launched_group() -> Group:
    """Return the group that ``torchrun`` put this process into; alone without it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ALONE
    return Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def run_in_processes[Result](
    n_processes: int, function: Callable[..., Result], *arguments: object
) -> Result:
    """Call ``function(group, *arguments)`` in ``n_processes`` new processes.

    Returns
    -------
    Result
        Of the first process.

    Raises
    ------
    DeepLenseError
        What the first process to fail raised; the others are ended.
    TrainingError
        If a process dies without a word.
    """
    context = multiprocessing.get_context("spawn")
    answers: Queue[Any] = context.Queue()  # Any: (rank, whether it failed, result or exception)
    port = _free_port()
    members = [
        context.Process(
            target=_member,
            args=(Group(rank, n_processes), port, answers, function, arguments),
            daemon=True,
        )
        for rank in range(n_processes)
    ]
    for member in members:
        member.start()
    results: dict[int, Result] = {}
    try:
        while len(results) < n_processes:
            try:
                rank, failed, value = answers.get(timeout=POLL)
            except queue.Empty:
                dead = [m.exitcode for m in members if m.exitcode]
                if dead:
                    raise TrainingError(
                        f"a training process died (exit code {dead[0]}); the same command goes on"
                    ) from None
                continue
            if failed:
                raise value
            results[rank] = value
        return results[0]
    finally:
        for member in members:
            member.join(GRACE if len(results) == n_processes else 0.0)
            if member.is_alive():
                member.terminate()
                member.join()


def _member(
    group: Group,
    port: int,
    answers: "Queue[Any]",
    function: Callable[..., object],
    arguments: tuple[object, ...],
) -> None:
    os.environ.update(
        {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "RANK": str(group.rank),
            "LOCAL_RANK": str(group.rank),
            "WORLD_SIZE": str(group.size),
            "LOCAL_WORLD_SIZE": str(group.size),
            "TORCHELASTIC_RUN_ID": "deeplense",
        }
    )
    if group.rank == 0:
        logs.configure()
    try:
        answers.put((group.rank, False, function(group, *arguments)))
    except DeepLenseError as error:
        answers.put((group.rank, True, error))
    answers.close()
    answers.join_thread()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
