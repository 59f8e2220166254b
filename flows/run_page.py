"""What a flow run's page shows: log lines, progress, tables, pictures; and what is retried."""

import errno
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import Task
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger

from pipeline.core.logs import ROOT

CHECKOUT = Path(__file__).resolve().parents[1]
#: Seconds between two updates of a progress artifact.
UPDATE_SECONDS = 2.0
#: Faults of disks and networks that may pass; a full disk or a missing right does not.
TRANSIENT = {
    errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ESTALE, errno.ETIMEDOUT,
    errno.ECONNRESET, errno.ENETUNREACH, errno.EHOSTUNREACH,
}  # fmt: skip


def in_checkout(path: Path) -> Path:
    """Resolve a relative path against the checkout, wherever the worker was started."""
    return path if path.is_absolute() else CHECKOUT / path


def config_source(text: str) -> str:
    """A preset's name as it is, a YAML file's path resolved against the checkout."""
    is_file = Path(text).suffix in (".yaml", ".yml")
    return str(in_checkout(Path(text))) if is_file else text


def is_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a failure came from a disk or a network that may be well again in a while."""
    error: BaseException | None = state.result(raise_on_failure=False)
    while isinstance(error, BaseException):
        if isinstance(error, OSError) and error.errno in TRANSIENT:
            return True
        error = error.__cause__
    return False


@contextmanager
def talk(key: str, description: str) -> Iterator[None]:
    """Send the pipeline's log lines to the run's log and its progress to an artifact.

    Parameters
    ----------
    key : str
        Key of the progress artifact; lower case and dashes.
    description : str
    """
    logger = logging.getLogger(ROOT)
    handler = _RunHandler(key, description)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
        handler.show(100.0)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _RunHandler(logging.Handler):
    """Forward records; a progress record carries (description, done, total, ...) as arguments."""

    def __init__(self, key: str, description: str) -> None:
        super().__init__(logging.INFO)
        self._log = get_run_logger()
        artifact = create_progress_artifact(0.0, key=key, description=description)
        self._artifact = cast(UUID, artifact)  # a coroutine only inside an event loop
        self._shown = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        self._log.log(record.levelno, record.getMessage())
        if record.name != f"{ROOT}.progress" or not isinstance(record.args, tuple):
            return
        done, total = record.args[1:3]
        if isinstance(done, int) and isinstance(total, int) and total > 0:
            if time.monotonic() - self._shown >= UPDATE_SECONDS:
                self.show(100.0 * done / total)

    def show(self, percent: float) -> None:
        """Update the progress artifact."""
        self._shown = time.monotonic()
        update_progress_artifact(self._artifact, progress=min(percent, 100.0))


def show_numbers(key: str, title: str, numbers: Mapping[str, object]) -> None:
    """Show names and values as a table."""
    rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in numbers.items())
    create_markdown_artifact(f"# {title}\n\n| | |\n| --- | --- |\n{rows}\n", key=key)


def show_picture(key: str, address: str, description: str) -> None:
    """Show a picture given as a data address."""
    create_image_artifact(address, key=key, description=description)


def show_files(key: str, files: Mapping[str, Path]) -> None:
    """List files of the worker's machine with links to them."""
    lines = "\n".join(f"- {name}: [`{path}`]({path.as_uri()})" for name, path in files.items())
    create_markdown_artifact(f"# Files on the worker's machine\n\n{lines}\n", key=key)


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
