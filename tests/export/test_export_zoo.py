"""Every model answers as before when it is exported; a minute or less each."""

from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table
from numpy.testing import assert_allclose

from pipeline.checkpoint.load import load_run
from pipeline.checkpoint.onnx_run import open_onnx
from pipeline.export._graph import Normalised
from pipeline.export.onnx import write_onnx
from pipeline.export.samples import extremes
from pipeline.inference.score import run_scoring
from pipeline.models.base import MODELS
from tests.checkpoint.untrained_run import PREPROCESS, lens_images, write_run

#: Refused untrained, as their features hardly vary and the distance behind novelty then magnifies
#: the last digits of float32 (levit, mobile_vit); or kept by the export's own limit of 1e-4, but up
#: to 5e-5 from the run, which is more than is asked for here (nest, twins_svt).
UNPROVEN = {"levit", "mobile_vit", "nest", "twins_svt"}
NETWORKS = [
    pytest.param(kind, marks=pytest.mark.xfail(strict=False) if kind in UNPROVEN else ())
    for kind in MODELS.kinds()
    if kind != "shortcut"
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_gives_the_same_table_from_its_file(kind, tmp_path, sky):
    run, file = tmp_path / "run", tmp_path / "m.onnx"
    run.mkdir()
    write_run(run, kind)
    found = write_onnx(load_run(run), file, lens_images(8, seed=5)).agreement
    assert found.same_label == 1.0 and found.values < 1e-5
    one, two = (_scores(source, sky, tmp_path) for source in (file, run))
    for name in ("p_no", "p_subhalo", "p_vortex"):
        assert_allclose(one[name], two[name], atol=1e-5, err_msg=name)
    # A rank among 100 validation images: two that lie equally far may change places.
    assert_allclose(one["novelty"], two["novelty"], atol=0.01 + 1e-9, err_msg="novelty")
    assert list(one["label"]) == list(two["label"])


@pytest.mark.slow
@pytest.mark.parametrize("head", ["gaussian", "binned", "quantile"])
def test_classes_and_a_posterior_of_every_shape_are_in_the_graph(head, tmp_path):
    write_run(tmp_path, task={"kind": "joint", "regression": {"head": head}})
    run, images = load_run(tmp_path), lens_images(6, seed=5)
    summary = write_onnx(run, tmp_path / "m.onnx", images)
    assert summary.outputs[4:] == (
        "class_probability", "target_mean", "target_std", "target_quantile",
    )  # fmt: skip
    told, expected = open_onnx(tmp_path / "m.onnx").tell(images), run.predict(images)
    assert_allclose(told["target_quantile"], expected.target_quantile, rtol=1e-5)
    assert_allclose(told["class_probability"], expected.class_probability, atol=1e-6)


@pytest.mark.parametrize("how", ["fixed", "stretches"])
def test_every_preprocessing_is_in_the_graph(how, tmp_path):
    changes = {
        "fixed": {"normalise": "fixed", "background": (0.3,), "sigma": (1.7,)},
        "stretches": {
            "stretch": ("linear", "sqrt", "log"),
            "offset": (0.4, 0.1, 0.2),
            "scale": (0.9, 0.5, 1.5),
            "clip": 5.0,
        },
    }[how]
    preprocess = PREPROCESS.with_changes(**changes)
    images = np.concatenate([lens_images(6, seed=5), extremes(lens_images(1))])
    graph = Normalised(preprocess)
    found = graph(torch.from_numpy(images)).numpy()
    assert_allclose(found, preprocess.apply(images), rtol=1e-6, atol=1e-6)


def _scores(source: Path, sky: Path, folder: Path) -> Table:
    out = folder / f"{source.suffix or 'run'}.ecsv"
    run_scoring(source, [sky], out, workers=0, batch_size=8)
    table = Table.read(out)
    return table[np.asarray(table["status"] == "scored")]
