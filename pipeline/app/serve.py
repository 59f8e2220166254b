"""Serve the page on this machine until it is interrupted."""

import os
import socket
import tempfile
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.app.answer import Scorer
from pipeline.app.network import Network, open_network
from pipeline.app.page import Page, build_page
from pipeline.checkpoint.card import read_dataset_config
from pipeline.checkpoint.spec import read_spec
from pipeline.core.errors import ConfigError, DeepLenseError, MissingExtraError
from pipeline.core.logs import get_logger
from pipeline.dataset.config import load_dataset_config
from pipeline.dataset.live import LiveSimulator
from pipeline.inference.images import MAX_BYTES
from pipeline.inference.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradio import Blocks

#: What is simulated for a network that was trained on images of unknown making.
FALLBACK = "contrast_hst"
_logger = get_logger("app")


@dataclass(frozen=True)
class Served:
    """What was served, and for how long; ``started`` is the seconds until the page was there."""

    url: str
    started: float
    seconds: float


def serve(
    run: Path,
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
    preset: str | None = None,
    device: str = "cpu",
    open_browser: bool = False,
    stop: threading.Event | None = None,
) -> Served:
    """Serve the page of a run folder until Ctrl-C, SIGTERM, or ``stop`` is set.

    Parameters
    ----------
    run : Path
    port : int, optional
        By default the first free one from 7860.
    host : str
        Address to listen at; the default is reached from this machine only.
    preset : str, optional
        Dataset preset or YAML file to simulate; by default what the network was trained on.
    device : str
    open_browser : bool
    stop : threading.Event, optional

    Raises
    ------
    CheckpointError, ConfigError, MissingExtraError
    """
    start = time.perf_counter()
    if find_spec("gradio") is None:
        raise MissingExtraError(
            "the app needs Gradio: pip install 'deeplense-pipeline[app]', or uv sync --extra app"
        )
    spec = read_spec(run)
    if port is not None:
        _require_free(host, port)
    simulator, note = _simulator(run, preset)
    network: Future[Network] = Future()
    title = f"{run.resolve().name}: {spec.model.kind}, {spec.task.kind}"
    started = 0.0
    with _private_folder(), Scorer(Target.of_folder(run, spec.preprocess), network) as scorer:
        blocks = build_page(Page(scorer, network, simulator), title, simulator, note)
        try:
            url = _launch(blocks, host, port, open_browser)
            started = time.perf_counter() - start
            _logger.info("%s after %.1f s; Ctrl-C ends it", url, started)
            network.set_result(open_network(run, device))
            _warm_up(simulator)
            _logger.info("ready after %.1f s", time.perf_counter() - start)
            (stop or threading.Event()).wait()
        except KeyboardInterrupt:
            _logger.info("closing")
        finally:
            network.cancel()
            blocks.close(verbose=False)
    return Served(url, round(started, 2), round(time.perf_counter() - start, 1))


def _simulator(run: Path, preset: str | None) -> tuple[LiveSimulator, str]:
    """Simulator of what a network was trained on, or of a preset, and a sentence about it."""
    if preset is not None:
        note = f"Sliders start from {preset}; ranges are its priors."
        return LiveSimulator(load_dataset_config(preset)), note
    config = read_dataset_config(run)
    if config is not None:
        note = "Sliders start from the training data; ranges are its priors."
        return LiveSimulator(config), note
    note = (
        f"This network was trained on images of unknown making. Sliders start from the preset "
        f"{FALLBACK}, which may be unlike them."
    )
    return LiveSimulator(load_dataset_config(FALLBACK)), note


def _require_free(host: str, port: int) -> None:
    """Refuse a port that cannot be listened at, before anything is loaded."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--port {port}: cannot listen at {host}:{port}: {error}; leave it out for a free one"
        ) from error


def _launch(blocks: "Blocks", host: str, port: int | None, open_browser: bool) -> str:
    """Start the server and return its address."""
    import gradio as gr

    system = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    theme = gr.themes.Default(  # its own fonts would come from the network
        primary_hue="blue", neutral_hue="slate", text_size="sm", spacing_size="sm",
        radius_size="md", font=system,
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )  # fmt: skip
    try:
        _, url, _ = blocks.launch(
            server_name=host, server_port=port, inbrowser=open_browser, prevent_thread_lock=True,
            quiet=True, share=False, ssr_mode=False, pwa=False, run_history=False,
            footer_links=[], max_file_size=MAX_BYTES, theme=theme,
            css_paths=[Path(__file__).with_name("page.css")],
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(f"--host {host}: cannot listen there: {error}") from error
    return str(url)


def _warm_up(simulator: LiveSimulator) -> None:
    try:
        simulator.warm_up()
    except DeepLenseError as error:  # the page says it too, where the sliders are
        _logger.warning("the sliders' first lens cannot be simulated: %s", error)


@contextmanager
def _private_folder() -> "Iterator[None]":
    """Keep uploads in a folder that goes with the server, and Gradio off the network."""
    with tempfile.TemporaryDirectory(prefix="deeplense-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["HF_HUB_OFFLINE"] = "1"
        yield
