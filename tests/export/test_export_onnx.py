"""One file answers as the run does, without torch; a foreign file is refused unexecuted."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal

import pipeline
from pipeline.checkpoint.load import load_run
from pipeline.checkpoint.onnx_file import pack, read_onnx
from pipeline.cli import main as cli
from pipeline.core.errors import CheckpointError, ConfigError, ExportError
from pipeline.dataset.fitted import SmoothFit
from pipeline.export.agreement import compare
from pipeline.export.onnx import graph_of
from pipeline.export.samples import extremes
from pipeline.inference.score import run_scoring
from tests.checkpoint.untrained_run import CLASSES, lens_images, write_run

#: Largest difference of a number in the table: probabilities, entropy, novelty.
TABLE_ATOL = 1e-5
#: Scores in a process of its own and says whether torch was imported there.
SCORE = """
import sys
from pipeline.cli.main import run
code = run(sys.argv[1:])
print("torch" in sys.modules)
sys.exit(code)
"""


def assert_same_table(found: Path, expected: Path) -> None:
    one, two = Table.read(found), Table.read(expected)
    assert one.colnames == two.colnames
    for name in two.colnames:
        if two[name].dtype.kind == "f":
            assert_allclose(
                np.ma.filled(one[name], np.nan), np.ma.filled(two[name], np.nan),
                atol=TABLE_ATOL, rtol=1e-5, err_msg=name,
            )  # fmt: skip
        else:
            assert_array_equal(np.ma.filled(one[name]), np.ma.filled(two[name]), err_msg=name)


def test_export_agrees_on_lenses_and_on_what_no_telescope_records(exported):
    found = exported.summary.agreement
    assert (found.n_images, found.n_extremes) == (8, 6)
    assert found.agrees and found.same_label == 1.0
    assert found.values < 1e-5 and found.answer < 1e-5
    assert exported.summary.outputs == (
        "values",
        "description",
        "distance",
        "novelty",
        "class_probability",
    )


def test_scoring_the_file_imports_no_torch_and_gives_the_same_table(exported, sky, tmp_path):
    command = ["score", exported.onnx, sky, "--out", tmp_path / "onnx.ecsv", "--workers", "0"]
    done = subprocess.run(
        [sys.executable, "-c", SCORE, *map(str, command)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("False\n")
    run_scoring(exported.run, [sky], tmp_path / "run.ecsv", workers=0)
    assert_same_table(tmp_path / "onnx.ecsv", tmp_path / "run.ecsv")
    one, two = (Table.read(tmp_path / name).meta for name in ("onnx.ecsv", "run.ecsv"))
    assert one["symmetries"] == two["symmetries"] == 8
    assert one["checkpoint_sha256"] == two["checkpoint_sha256"]
    assert one["population"] == two["population"] and "fractions" in one["population"]
    assert one["onnx_sha256"] == [read_onnx(exported.onnx).sha256]


def test_public_load_run_takes_the_file(exported):
    run, images = pipeline.load_run(exported.onnx), lens_images(5, seed=3)
    expected = load_run(exported.run).predict(images)
    found = run.predict(images)
    assert run.class_names == CLASSES
    assert_allclose(found.class_probability, expected.class_probability, atol=1e-6)
    assert_allclose(found.novelty, expected.novelty, atol=1e-6)
    told = run.tell(images)
    assert_allclose(told["class_probability"], expected.class_probability, atol=1e-6)
    with pytest.raises(ConfigError, match="runs on the CPU"):
        pipeline.load_run(exported.onnx, device="cuda")
    with pytest.raises(CheckpointError, match=r"takes images of shape \(B, 1, 40, 40\)"):
        run.predict(np.zeros((1, 1, 39, 40), np.float32))


def test_file_names_its_classes_and_no_place_of_the_machine(exported):
    file = read_onnx(exported.onnx)
    assert json.loads(file.texts["class_names"]) == list(CLASSES)
    assert file.texts["checkpoint.json"] == (exported.run / "checkpoint.json").read_text()
    content = exported.onnx.read_bytes()
    for place in (str(exported.run), "site-packages", str(Path.home() / "")):
        assert place.encode() not in content


def test_another_run_disagrees_and_says_by_how_much(exported, tmp_path):
    write_run(tmp_path, seed=1)
    images = lens_images(4)
    found = compare(load_run(tmp_path), pipeline.load_run(exported.onnx), images, extremes(images))
    assert not found.agrees
    assert "raw outputs differ by" in found.problem


@pytest.fixture
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which nothing is ever given to ONNX Runtime."""
    import onnxruntime

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a foreign file reached the runtime")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_changed_network_is_refused_before_it_runs(exported, tmp_path, no_runtime, place):
    content = bytearray(exported.onnx.read_bytes())
    model = read_onnx(exported.onnx).model
    at = int(place * len(model))
    content[at] ^= 1
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"m\.onnx"):
        pipeline.load_run(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an exported network of deeplense"),
        (b"\x00" * 100, "not an exported network of deeplense"),
        (b"SIMPLE  =                    T", "not an exported network of deeplense"),
        (b"\xff" * 40, "not an exported network of deeplense"),
        (pack(b"\x08\x08", {}).replace(b"deeplense-onnx", b"deeplense-nonx"), "no 'deeplense"),
        (pack(b"\x08\x08", {}), "cannot be read"),
        (pack(b"\x08\x08", {}) + pack(b"\x08\x09", {}), "something follows its metadata"),
    ],
    ids=["empty", "zeros", "fits", "ones", "foreign", "no checkpoint", "two"],
)
def test_foreign_file_is_refused_before_it_runs(tmp_path, no_runtime, content, message):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        pipeline.load_run(tmp_path / "m.onnx")


def test_changed_checkpoint_in_the_file_is_refused(exported, tmp_path, no_runtime):
    file = read_onnx(exported.onnx)
    own = {name: text for name, text in file.texts.items() if not name.startswith("deeplense.")}
    edited = own["checkpoint.json"].replace('"vortex"', '"whirl"')
    (tmp_path / "m.onnx").write_bytes(pack(file.model, {**own, "checkpoint.json": edited}))
    with pytest.raises(CheckpointError, match="does not match its own sha256"):
        pipeline.load_run(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_bytes(pack(file.model, {**own, "val_distances": "%%"}))
    with pytest.raises(CheckpointError, match="its val_distances are damaged"):
        pipeline.load_run(tmp_path / "m.onnx")


def test_truncated_file_is_refused(exported, tmp_path, no_runtime):
    content = exported.onnx.read_bytes()
    for part in (0.2, 0.8, 0.999):
        (tmp_path / "m.onnx").write_bytes(content[: int(part * len(content))])
        with pytest.raises(CheckpointError, match=r"m\.onnx"):
            pipeline.load_run(tmp_path / "m.onnx")


def test_refusals_of_the_command_say_what_to_do(exported, tmp_path, capsys):
    def said(*arguments: object) -> tuple[int, str]:
        code = cli.run([str(a) for a in ("export", *arguments)])
        return code, capsys.readouterr().err

    code, text = said(exported.run, "--onnx", tmp_path / "m.pt")
    assert code == 2 and "an ONNX file is named NAME.onnx" in text
    write_run(tmp_path)
    code, text = said(tmp_path, "--onnx", tmp_path / "m.onnx")
    assert code == 2 and "--data DATA.zarr" in text
    code, text = said(tmp_path)
    assert code == 2 and "a run folder needs --onnx FILE" in text
    code, text = said(tmp_path / "data.zarr", "--onnx", tmp_path / "m.onnx")
    assert code == 1 and "no such run folder" in text
    assert not (tmp_path / "m.onnx").exists()


def test_planes_of_a_fit_are_refused(exported):
    from dataclasses import replace

    from pipeline.fit.config import FitConfig

    run = load_run(exported.run)
    fit = SmoothFit.model_construct(planes=("residual",), fit=FitConfig(), instruments=())
    preprocess = run.preprocess.model_copy(update={"smooth_fit": fit})
    fitted = replace(run, spec=run.spec.model_copy(update={"preprocess": preprocess}))
    with pytest.raises(ExportError, match="planes of a smooth-lens fit"):
        graph_of(fitted)


def test_shortcut_says_that_it_is_no_network(tmp_path):
    write_run(tmp_path, "shortcut")
    with pytest.raises(ExportError, match="trees"):
        graph_of(load_run(tmp_path))
