"""Largest resident memory of a process."""

import os
from pathlib import Path


def peak_memory_mb(pid: int | None = None) -> float | None:
    """Largest resident memory so far, MB of 1024^2 bytes; None where the system does not tell.

    Of this process, or of another that still runs. Not from getrusage: on Linux that remembers the
    process which started the one that is asked about.
    """
    try:
        lines = Path(f"/proc/{pid or os.getpid()}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    kilobytes = [float(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kilobytes[0] / 1024 if kilobytes else None
