"""What the README and the documents say is there: commands, files, the two set-up lines."""

import re
import shlex
from pathlib import Path

import pytest

from pipeline.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
KNOWN = {command.name for command in COMMANDS}


def shell_lines(path: Path) -> list[str]:
    """Lines of the ``bash`` blocks of a document."""
    blocks = re.findall(r"^```bash\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_two_lines_start_from_a_bare_python() -> None:
    lines = [line for line in shell_lines(ROOT / "README.md") if line.startswith("pip install")]
    assert lines == [
        "pip install uv && uv run deeplense demo",
        "pip install uv && uv run pytest",
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_every_printed_command_exists(path: Path) -> None:
    for line in shell_lines(path):
        words = shlex.split(line, comments=True)
        if "deeplense" in words:
            assert words[words.index("deeplense") + 1] in KNOWN, line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)\)", path.read_text("utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_no_document_names_a_path_of_the_machine_that_wrote_it() -> None:
    for path in DOCUMENTS:
        assert not re.search(r"(?<![\w.~/-])/(work|root|home)/", path.read_text("utf-8")), path
