"""The processor cores this process may use, and how threads wait for work on them."""

import os


def usable_cores() -> int:
    """Cores this process may run on: its affinity where the system knows one, else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def wait_without_spinning() -> None:
    """Let the threads of OpenMP and OpenBLAS sleep while they wait, here and in child processes.

    Threads that spin starve each other on a busy machine: OpenBLAS's do so for 2^26 clock cycles
    after every product of matrices. Takes effect in libraries that are not loaded yet; whoever set
    ``OMP_WAIT_POLICY`` or ``OPENBLAS_THREAD_TIMEOUT`` is obeyed.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # 2^4 cycles, its smallest
