"""Talk to the person at the terminal: log lines and progress on stderr, results elsewhere.

On a terminal progress is a bar with rate and time left; in pipes and under CI it is plain lines.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

ROOT = "deeplense"
#: Seconds between two plain progress lines where there is no terminal.
PLAIN_INTERVAL = 10.0


class Advance(Protocol):
    """Call with the number of finished items; ``note`` is shown behind the bar."""

    def __call__(self, n_done: int = 1, *, note: str = "") -> None:
        """Count ``n_done`` more items."""


def get_logger(name: str) -> logging.Logger:
    """Logger ``deeplense.NAME``."""
    return logging.getLogger(f"{ROOT}.{name}")


def configure(level: int = logging.INFO) -> None:
    """Send ``deeplense.*`` to stderr, one line a message. Called by the command line only."""
    logger = logging.getLogger(ROOT)
    logger.setLevel(level)
    logger.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]


def is_interactive() -> bool:
    """Whether stderr is a terminal that redraws (and no CI says otherwise)."""
    return sys.stderr.isatty() and not os.environ.get("CI")


@contextmanager
def progress(description: str, total: int, unit: str = "images") -> Iterator[Advance]:
    """Show progress over ``total`` items on stderr and yield the function that advances it.

    Silent unless the ``deeplense`` logger is at INFO or below, so libraries stay quiet.
    """
    if not logging.getLogger(ROOT).isEnabledFor(logging.INFO):
        yield _silent
    elif is_interactive():
        with _bar(description, total, unit) as advance:
            yield advance
    else:
        yield _plain(description, total, unit)


def _silent(n_done: int = 1, *, note: str = "") -> None:
    """Advance nothing."""


@contextmanager
def _bar(description: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{{task.fields[rate]}} {unit}/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    start, done = time.monotonic(), 0
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(description, total=total, rate="-", note="")

        def advance(n_done: int = 1, *, note: str = "") -> None:
            nonlocal done
            done += n_done
            rate = done / max(time.monotonic() - start, 1e-9)
            bars.update(task, advance=n_done, rate=f"{rate:.1f}", note=note)

        yield advance


def _plain(description: str, total: int, unit: str) -> Advance:
    logger = get_logger("progress")
    start = last = time.monotonic()
    done = 0

    def advance(n_done: int = 1, *, note: str = "") -> None:
        nonlocal done, last
        done += n_done
        now = time.monotonic()
        if done < total and now - last < PLAIN_INTERVAL:
            return
        last = now
        rate = done / max(now - start, 1e-9)
        left = (total - done) / rate if rate else 0.0
        logger.info(
            "%s: %d/%d %s, %.1f/s, %.0f s left%s",
            description, done, total, unit, rate, left, f" ({note})" if note else "",
        )  # fmt: skip

    return advance
