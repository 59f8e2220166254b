"""A Space is complete: it answers with nothing installed but what its requirements name."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.app.space import write_space
from pipeline.checkpoint.any_run import load_run
from pipeline.core.errors import CheckpointError, OutputError
from pipeline.core.yaml_source import parse_yaml
from pipeline.inference.score import score_table

from .browser import CHROMIUM, Browser
from .conftest import wait_for
from .test_app_page import percentages, put

#: Loaded by Python itself before the page: whatever is not required is not there.
WITHOUT = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {names!r}:
            return self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


@pytest.fixture(scope="module")
def space(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gradio", reason="the extra 'app' is not installed")
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    out = tmp_path_factory.mktemp("space") / "space"
    write_space(run, out)
    return out


def required(names: list[str]) -> set[str]:
    """Distributions that an installer would bring for these requirements."""
    found: set[str] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        extras = wanted.extras or {""}
        key = f"{name}[{','.join(sorted(extras))}]"
        if key in found:
            continue
        found |= {key, name}
        for line in distribution(name).requires or ():
            inner = Requirement(line)
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(inner)
    return found


@pytest.fixture(scope="module")
def page(space: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    here = required((space / "requirements.txt").read_text().split())
    absent = {
        module
        for module, owners in packages_distributions().items()
        if not here.intersection(canonicalize_name(owner) for owner in owners)
    }
    absent.discard("pipeline")  # the space has its own
    assert {"torch", "prefect", "autolens"} <= absent
    startup = tmp_path_factory.mktemp("without")
    (startup / "sitecustomize.py").write_text(WITHOUT.format(names=absent))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    env = {**os.environ, "HOST": "127.0.0.1", "PORT": str(port), "PYTHONPATH": str(startup)}
    with subprocess.Popen(
        [sys.executable, str(space / "app.py")], stderr=subprocess.PIPE, text=True, env=env,
        cwd=startup,
    ) as process:  # fmt: skip
        try:
            wait_for(process, "ready after")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def window(page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH")
    browser = Browser(tmp_path_factory.mktemp("window"))
    browser.open(page)
    browser.wait("!!document.querySelector('#upload input[type=file]')")
    yield browser
    browser.close()


def test_its_page_answers_as_the_run_does(window: Browser, run: Path, lens: Path) -> None:
    said = percentages(put(window, lens))
    (row,) = score_table(load_run(run), [lens])
    assert len(said) == 3
    for name, percent in said.items():
        assert percent == pytest.approx(100 * row[f"p_{name}"], abs=0.11)


def test_an_exported_network_explains_its_answer_too(window: Browser, lens: Path) -> None:
    put(window, lens)
    pictures = "document.querySelectorAll('#score-pictures img')"
    assert window.js(f"{pictures}.length") == 2
    assert all(window.js(f"{pictures}[{k}].naturalWidth") > 0 for k in range(2))


def test_its_sliders_start_from_the_training_data(window: Browser) -> None:
    window.click("[role=tab]", "Simulate a lens")
    window.wait("!!document.querySelector('#live-detectability dd')")
    window.wait("!!document.querySelector('#live-text .dl-answer')")
    assert "the training data" in window.text()


def test_its_card_says_what_a_space_must_know(space: Path) -> None:
    text = (space / "README.md").read_text()
    _, front, card = text.split("---\n", 2)
    told, _ = parse_yaml(front, "README.md")
    pins = dict(line.split("==") for line in (space / "requirements.txt").read_text().split())
    assert told["sdk"] == "gradio" and told["sdk_version"] == pins["gradio"]
    assert (space / told["app_file"]).is_file()
    assert len(told["short_description"]) <= 60  # as long as a Space takes
    assert re.search(r"^## Intended use", card, re.MULTILINE)
    assert not list(space.rglob("__pycache__"))


def test_it_is_written_whole_or_not_at_all_and_over_nothing(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(OutputError, match="is there already"):
        write_space(run, tmp_path / "mine")
    with pytest.raises(CheckpointError):
        write_space(tmp_path / "mine", tmp_path / "space")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
