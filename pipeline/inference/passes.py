"""Passes of networks beside each other: two cores with a pass each are faster than both on one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from pipeline.core.cores import usable_cores

if TYPE_CHECKING:
    from pipeline.inference.ensemble import Ensemble


def passes_at_once(ensemble: "Ensemble", n_images: int) -> int:
    """Passes to run beside each other for a job of ``n_images``.

    1 where a pass uses the whole machine anyway: on a GPU, through ONNX Runtime's own threads, and
    where smooth lenses are fitted first. Depends on the whole job, not on what a resumed one has
    left: how many threads share a pass can change the last digit of a score.
    """
    if not all(run.leaves_cores for run in ensemble.runs):
        return 1
    return max(1, min(usable_cores(), -(-n_images // ensemble.n_images)))


def side_by_side[Group, Rows](
    function: Callable[[Group], Rows], groups: Iterable[Group], n_threads: int
) -> Iterator[tuple[Group, Rows]]:
    """Groups and what ``function`` makes of them, in order; torch's threads are shared out.

    ``groups`` is advanced in the caller's thread, at most one group further than threads can take.
    """
    if n_threads == 1:
        for group in groups:
            yield group, function(group)
        return
    import torch

    n_before = torch.get_num_threads()
    share = max(1, n_before // n_threads)
    pending: deque[tuple[Group, Future[Rows]]] = deque()
    try:
        with ThreadPoolExecutor(n_threads, "pass", torch.set_num_threads, (share,)) as pool:
            for group in groups:
                pending.append((group, pool.submit(function, group)))
                if len(pending) > n_threads + 1:
                    first, rows = pending.popleft()
                    yield first, rows.result()
            for first, rows in pending:
                yield first, rows.result()
    finally:
        torch.set_num_threads(n_before)
