"""The layers hold: imports go downwards, heavy packages stay where they work, files stay short."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RANKS = {
    "core": 0,
    "physics": 1,
    "statistics": 1,
    "engines": 2,
    "detectability": 2.5,
    "fit": 2.7,
    "dataset": 3,
    "models": 4,
    "tasks": 4,
    "checkpoint": 5,
    "inference": 6,
    "training": 6.5,  # reads the images of a second domain as scoring does
    "explain": 6.7,
    "tuning": 6.7,
    "report": 7,
    "export": 6.5,
    "benchmark": 7,
    "exchange": 7,
    "app": 7.5,
    "workflow": 8,
    "cli": 9,
    "flows": 10,
}
#: Heavy or replaceable packages and the only places that may import them.
HOMES = {
    "zarr": {"pipeline/dataset"},
    "prefect": {"flows"},
    "lightning_fabric": {"pipeline/training"},
    "lenstronomy": {"pipeline/engines", "pipeline/benchmark"},
    "cyclopts": {"pipeline/cli"},
    "gradio": {"pipeline/app"},
    "ruamel": {"pipeline/core"},
    "jinja2": {"pipeline/report"},
    "matplotlib": {"pipeline/report"},
    "vit_pytorch": {"pipeline/models"},
    "onnx": {"pipeline/export"},
    "onnxruntime": {"pipeline/checkpoint"},
    "safetensors": {"pipeline/checkpoint", "pipeline/training"},
    "optuna": {"pipeline/tuning"},
}
HEAVY = [
    "torch",
    "lenstronomy",
    "autolens",
    "e2cnn",
    "vit_pytorch",
    "zarr",
    "prefect",
    "scipy",
    "astropy",
    "matplotlib",
    "sklearn",
    "jax",
    "gradio",
    "onnx",
    "onnxruntime",
]
SOURCES = sorted([*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "flows").rglob("*.py")])
MAX_LINES = 400


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, inner imports too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def package(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "pipeline" and len(parts) > 2 else parts[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_to_lower_ranks_only(path: Path) -> None:
    here = package(path)
    if here == "pipeline":  # the top __init__ resolves names lazily; __main__ calls the command
        return
    for module in imports(path):
        parts = module.split(".")
        if parts[0] != "pipeline" or len(parts) < 2 or parts[1] == here:
            continue
        assert RANKS[parts[1]] < RANKS[here], f"{here} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_packages_are_imported_in_their_one_place(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    for module in imports(path):
        homes = HOMES.get(module.split(".")[0])
        assert homes is None or any(name.startswith(h) for h in homes), f"{name} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("module", ["pipeline", "pipeline.core.config", "pipeline.cli.main"])
def test_start_is_light(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_resolve() -> None:
    code = "import pipeline; [getattr(pipeline, n) for n in pipeline.__all__]"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
