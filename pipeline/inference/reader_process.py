"""The reader process: takes items over one pipe, answers over another, one answer an item."""

import signal
import sys
import warnings
from importlib import import_module
from multiprocessing.connection import Connection

from pipeline.inference.read_item import read_item

#: First message of a reader: no file's time runs before it.
READY = "ready"
#: Memory of its own that a reader may take, bytes; a file that needs more is rejected.
MAX_MEMORY = 2 * 2**30


def main() -> None:
    """Answer until the parent closes its pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    warnings.simplefilter("ignore")
    _limit_memory()
    requests = Connection(int(sys.argv[1]), writable=False)
    answers = Connection(int(sys.argv[2]), readable=False)
    try:
        target, options = requests.recv()
        _load_libraries()
        answers.send(READY)
        while True:
            for item in requests.recv():
                answers.send(read_item(item, target, options))
    except (EOFError, BrokenPipeError):
        return


def _load_libraries() -> None:
    """Import what reading most files takes, which on a busy machine lasts longer than a file."""
    for name in ("astropy.io.fits", "astropy.wcs", "scipy.interpolate", "scipy.ndimage"):
        import_module(name)


def _limit_memory() -> None:
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = MAX_MEMORY if hard == resource.RLIM_INFINITY else min(MAX_MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
