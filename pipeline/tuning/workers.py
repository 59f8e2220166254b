"""Several processes of this machine on one study."""

import multiprocessing
import threading
from collections.abc import Sequence
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from pipeline.core import logs
from pipeline.core.cores import usable_cores
from pipeline.core.errors import DeepLenseError
from pipeline.dataset.workers import die_with_parent

logger = logs.get_logger("tune")

#: Exit code of a worker that has said what was wrong.
SAID = 3
#: Seconds that a worker gets to end by itself when the command is interrupted.
GRACE = 5.0


def run_in_workers(
    workers: int,
    source: tuple[str, str, Sequence[str], Sequence[str]],
    data: Path | str,
    out: Path,
    device: str,
) -> int:
    """Run the trials of a study in new processes until none is left to begin.

    A worker that dies leaves its trial to the others.

    Parameters
    ----------
    workers : int
    source : tuple
        What ``load_recipe`` takes.
    data, out, device
        As ``run_trials`` and ``Study`` take them.

    Returns
    -------
    int
        Workers that died without a word.

    Raises
    ------
    DeepLenseError
        What a worker raised, once the others have ended.
    """
    context = multiprocessing.get_context("spawn")
    faults: Queue[Any] = context.Queue()  # Any: a DeepLenseError
    arguments = (source, data, out, device, workers, faults)
    members = [context.Process(target=_work, args=arguments) for _ in range(workers)]
    for member in members:
        member.start()
    try:
        for member in members:
            member.join()
    except BaseException:
        for member in members:
            member.terminate()
        for member in members:
            member.join(GRACE)
            member.kill()
        raise
    if any(member.exitcode == SAID for member in members):
        raise faults.get(timeout=GRACE)
    dead = [member.exitcode for member in members if member.exitcode]
    if dead:
        logger.warning("%d of %d workers died (exit code %d)", len(dead), workers, dead[0])
    return len(dead)


def _work(
    source: tuple[str, str, Sequence[str], Sequence[str]],
    data: Path | str,
    out: Path,
    device: str,
    workers: int,
    faults: "Queue[Any]",
) -> None:
    threading.Thread(target=die_with_parent, daemon=True).start()
    logs.configure()
    import torch

    torch.set_num_threads(max(1, usable_cores() // workers))
    from pipeline.tuning.space import load_recipe
    from pipeline.tuning.worker import open_study, run_trials

    try:
        run_trials(open_study(load_recipe(*source), data, out), data, device)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except DeepLenseError as error:
        faults.put(error)
        faults.close()
        faults.join_thread()
        raise SystemExit(SAID) from None
