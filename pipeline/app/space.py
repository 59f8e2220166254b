"""A Hugging Face Space of a run: the page, the network as ONNX, and what they need, in one folder.

The folder is complete: it holds this package's own code, so a Space needs neither this checkout
nor PyTorch. Put it into a Space's repository, or run ``python app.py`` in it.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.checkpoint.onnx_file import is_onnx, read_onnx
from pipeline.checkpoint.spec import CARD_FILE, read_spec, run_text
from pipeline.core.errors import MissingExtraError, OutputError
from pipeline.core.files import atomic_folder, require_writable_parent
from pipeline.core.provenance import package_versions
from pipeline.core.resources import sim_params

NETWORK_FILE, APP_FILE, REQUIREMENTS_FILE = "model.onnx", "app.py", "requirements.txt"
#: What the page imports on the way from an upload or a slider to an answer; each is pinned to the
#: version that is installed here. Gradio stands in the card, where a Space looks for it, too.
REQUIRED = (
    "astropy",
    "fsspec",
    "gradio",
    "jax",
    "lenstronomy",
    "matplotlib",
    "numpy",
    "onnxruntime",
    "pydantic",
    "rich",
    "ruamel-yaml",
    "scipy",
)
#: A Space expects its page at this address; ``HOST`` and ``PORT`` say otherwise elsewhere.
_APP = '''"""The page of a network trained with deeplense-pipeline; a Space starts this file."""

import os
from pathlib import Path

from pipeline.app.serve import serve
from pipeline.core.logs import configure

if __name__ == "__main__":
    configure()
    network = Path(__file__).with_name("{network}")
    host, port = os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", "7860"))
    serve(network, host=host, port=port)
'''
_CARD = """---
title: DeepLense {name}
emoji: 🔭
colorFrom: blue
colorTo: indigo
sdk: gradio
sdk_version: {gradio}
python_version: "3.12"
app_file: {app}
license: mit
short_description: Dark-matter substructure in strong gravitational lenses
---

Drop an image of a strong lens, or simulate one, and see what a network says about dark-matter
substructure in it. Run it elsewhere with `pip install -r {requirements}` and `python {app}`.

"""


@dataclass(frozen=True)
class SpaceSummary:
    """What was written."""

    out: str
    megabytes: float
    files: tuple[str, ...]

    @property
    def text(self) -> str:
        """A sentence for a person."""
        return (
            f"{self.out}: {self.megabytes:.1f} MB, {', '.join(self.files)}\n"
            f"try it: pip install -r {self.out}/{REQUIREMENTS_FILE} and "
            f"HOST=127.0.0.1 python {self.out}/{APP_FILE}"
        )


def write_space(run: Path, out: Path) -> SpaceSummary:
    """Write a folder that is a complete Space: page, network, code, requirements and card.

    Parameters
    ----------
    run : Path
        Run folder, which is exported to ONNX first, or what ``deeplense export --onnx`` wrote.
    out : Path
        Folder to write, whole or not at all; must not be there or be empty.

    Raises
    ------
    CheckpointError, ExportError
        If there is no such network, or it has no ONNX form.
    MissingExtraError
        If Gradio or ONNX Runtime is not installed, whose versions are written.
    OutputError
        If the folder is there and not empty, or cannot be written.
    """
    require_writable_parent(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"--export-space {out}: is there already; name a new folder")
    spec = read_spec(run)
    versions = package_versions(REQUIRED)
    missing = [name for name in REQUIRED if name not in versions]
    if missing:
        raise MissingExtraError(
            f"a Space needs {', '.join(missing)}: pip install 'deeplense-pipeline[app,onnx]'"
        )
    name = f"{spec.model.kind} {spec.task.kind}".replace("_", " ")
    with atomic_folder(out) as folder:
        _write_network(run, folder / NETWORK_FILE)
        _copy_code(folder)
        pins = [f"{name}=={versions[name]}" for name in REQUIRED]
        (folder / REQUIREMENTS_FILE).write_text("\n".join(pins) + "\n", "utf-8")
        (folder / APP_FILE).write_text(_APP.format(network=NETWORK_FILE), "utf-8")
        card = _CARD.format(
            name=name, gradio=versions["gradio"], app=APP_FILE, requirements=REQUIREMENTS_FILE
        )
        (folder / "README.md").write_text(card + (run_text(run, CARD_FILE) or ""), "utf-8")
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return SpaceSummary(
        str(out), round(size / 1e6, 1), tuple(sorted(p.name for p in out.iterdir()))
    )


def _write_network(run: Path, path: Path) -> None:
    if is_onnx(run):
        read_onnx(run)  # refuses a changed one
        shutil.copyfile(run, path)
        return
    from pipeline.export.onnx import export_onnx

    export_onnx(run, path)


def _copy_code(folder: Path) -> None:
    """Lay this package and its configurations down as they lie in a checkout."""
    package = Path(__file__).resolve().parents[1]
    unwanted = shutil.ignore_patterns("__pycache__", "*.pyc", "sim_params")
    shutil.copytree(package, folder / package.name, ignore=unwanted)
    without_networks = shutil.ignore_patterns("networks")
    shutil.copytree(sim_params(), folder / "sim_params", ignore=without_networks)
