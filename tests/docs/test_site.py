"""The documentation is one site: no page is lost, no link is dead, nothing is a warning."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def test_every_page_has_one_title_and_the_index_takes_them_all() -> None:
    index = (DOCS / "index.md").read_text("utf-8")
    tree = re.search(r"```\{toctree\}.*?```", index, re.DOTALL)
    assert tree is not None
    listed = tree[0].splitlines()
    assert ":glob:" in listed and "*" in listed
    for name in [line for line in listed if re.fullmatch(r"[a-z-]+", line)]:
        assert (DOCS / f"{name}.md").is_file(), name
    for page in DOCS.glob("*.md"):
        code_free = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.S | re.M)
        assert len(re.findall(r"^# ", code_free, re.M)) == 1, page.name


def test_the_documents_of_the_checkout_are_there() -> None:
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert version is not None and f"\nversion: {version[1]}\n" in citation
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "CONTRIBUTING.md").read_text("utf-8")):
        assert (ROOT / target).exists(), target


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    out = tmp_path_factory.mktemp("site")
    options = ("-W", "--keep-going", "-n", "-q")
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_it_builds_without_a_warning_and_without_a_dead_link(site: Path) -> None:
    pages = {path: path.read_text("utf-8") for path in site.rglob("*.html")}
    ids = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
    assert len(pages) >= len(list(DOCS.glob("*.md")))
    dead = []
    for path, text in pages.items():
        for href in re.findall(r'\bhref="([^"]+)"', text):
            target, _, fragment = unquote(href).partition("#")
            if re.match(r"[a-z]+:", href):
                continue
            file = (path.parent / target.partition("?")[0]).resolve() if target else path
            is_there = file.is_file() and (not fragment or fragment in ids.get(file, {fragment}))
            dead += [] if is_there else [f"{path.relative_to(site)}: {href}"]
    assert not dead


@pytest.mark.slow
def test_public_functions_and_notebooks_are_on_it(site: Path) -> None:
    api = (site / "api.html").read_text("utf-8")
    for name in ("open_dataset", "simulate", "load_run", "explain", "evaluate"):
        assert re.search(rf'id="pipeline\.[a-z_.]+\.{name}"', api), name
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert (site / "notebooks" / f"{notebook.stem}.html").is_file()
