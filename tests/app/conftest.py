"""One page, served by the real command, and one browser for all tests of the app."""

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from astropy.io import fits

from pipeline.checkpoint.yaml_text import yaml_text
from pipeline.dataset.config import load_dataset_config

from ..checkpoint.untrained_run import lens_images, write_run
from .browser import CHROMIUM, Browser

#: A lens of the network's pixels, cheap to compile.
DATASET = "extends: demo\nn_pix: 40\nsupersample: 1\nengine: {kind: jax}\n"


class Served(NamedTuple):
    """A page that is being served."""

    url: str
    run: Path
    process: "subprocess.Popen[str]"
    uploads: Path  # where temporary files go
    outside: socket.socket  # where every request to another machine would arrive


def wait_for(process: "subprocess.Popen[str]", pattern: str) -> str:
    """What matches in the messages of a process; those that follow are read and forgotten."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if found := re.search(pattern, line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return found[0]
    pytest.fail(f"the page never came: {said}")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that says what its training data were made from."""
    folder = tmp_path_factory.mktemp("app") / "run"
    write_run(folder, task="joint")
    described = folder.with_suffix(".yaml")
    described.write_text(DATASET)
    (folder / "dataset.yaml").write_text(yaml_text(load_dataset_config(described)))
    return folder


@pytest.fixture(scope="package")
def lens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good image: a FITS file of the network's pixels."""
    path = tmp_path_factory.mktemp("lens") / "lens.fits"
    header = fits.Header({"PIXSCALE": 0.05})
    fits.PrimaryHDU(lens_images(1, 5)[0, 0], header).writeto(path)
    return path


@pytest.fixture(scope="package")
def served(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pytest.importorskip("gradio", reason="the extra 'app' is not installed")
    outside = socket.create_server(("127.0.0.1", 0))
    outside.settimeout(0.0)
    uploads = tmp_path_factory.mktemp("uploads")
    proxy = f"http://127.0.0.1:{outside.getsockname()[1]}"
    proxies = {name: proxy for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}
    command = [sys.executable, "-m", "pipeline", "app", str(run), "--no-open", "--device", "cpu"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, **proxies, "NO_PROXY": "127.0.0.1,localhost", "TMPDIR": str(uploads)},
    )  # fmt: skip
    url = wait_for(process, r"http://127\.0\.0\.1:\d+")
    yield Served(url, run, process, uploads, outside)
    process.kill()
    process.communicate()
    outside.close()


@pytest.fixture(scope="package")
def browser(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH")
    one = Browser(tmp_path_factory.mktemp("browser"))
    one.open(served.url)
    one.wait("!!document.querySelector('#upload input[type=file]')")
    yield one
    one.close()
