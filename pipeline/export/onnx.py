"""A run as one ONNX file: written only if it answers as the run does."""

import contextlib
import json
import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.checkpoint.onnx_file import is_onnx, pack, unpack
from pipeline.checkpoint.onnx_run import INPUT, KNOWN, encoded, run_of
from pipeline.checkpoint.spec import run_texts
from pipeline.core.errors import ConfigError, ExportError, MissingExtraError
from pipeline.core.files import atomic_write, require_writable_parent
from pipeline.export.agreement import Agreement, compare
from pipeline.export.samples import Images, extremes, real_images

if TYPE_CHECKING:
    from pipeline.checkpoint.load import Run

#: ONNX's version of its operators; ONNX Runtime has known it since 1.17.
OPSET = 20


@dataclass(frozen=True)
class ExportSummary:
    """What was written, and how well it agrees with the run."""

    out: str
    megabytes: float
    seconds: float
    outputs: tuple[str, ...]
    images: str
    agreement: Agreement

    @property
    def text(self) -> str:
        """A sentence or two for a person."""
        found = self.agreement
        return (
            f"{self.out}: {self.megabytes:.2f} MB, {', '.join(self.outputs)}\n"
            f"agrees with the run on {found.n_images} {self.images} and {found.n_extremes} "
            f"extremes: largest difference {found.worst:.1e}, {found.same_label:.0%} same answers; "
            f"{self.seconds:.1f} s"
        )


def export_onnx(run: Path, out: Path, *, data: Path | None = None) -> ExportSummary:
    """Write a run as an ONNX file with preprocessing, calibration and class names inside.

    Parameters
    ----------
    run : Path
        Run folder that ``deeplense train`` wrote.
    out : Path
        File to write, ending in ``.onnx``; whole or absent.
    data : Path, optional
        Dataset whose test images the file has to agree on; by default test images are simulated
        from the description in the run folder.

    Raises
    ------
    CheckpointError
        If the run cannot be loaded.
    ConfigError
        If the name has another ending, or there are no images to compare on.
    ExportError
        If the network cannot be exported, or the export does not answer as the run does; then
        nothing is written.
    MissingExtraError
        If ONNX is not installed.
    """
    if not is_onnx(out):
        raise ConfigError(f"{out}: an ONNX file is named NAME.onnx")
    require_writable_parent(out)
    _require_packages()
    from pipeline.checkpoint.load import load_run

    loaded = load_run(run)
    _require_plain_preprocess(loaded)
    images, origin = real_images(loaded, data)
    return write_onnx(loaded, out, images, origin)


def write_onnx(run: "Run", out: Path, images: Images, origin: str = "images") -> ExportSummary:
    """Write a loaded run as an ONNX file that agrees with it on images (B, C, H, W), or nothing.

    Raises
    ------
    ExportError
    """
    start = time.perf_counter()
    content = pack(graph_of(run), _metadata(run))
    exported = run_of(unpack(out, content))
    if exported.n_batch is not None:
        raise ExportError(
            f"{run.path}: model {run.spec.model.kind!r} fixes the number of images in a pass to "
            f"{exported.n_batch}; its code may ask for 'len(image)' instead of 'image.shape[0]'"
        )
    agreement = compare(run, exported, images, extremes(images))
    if not agreement.agrees:
        raise ExportError(f"{run.path}: not exported: {agreement.problem}")
    atomic_write(out, content)
    return ExportSummary(
        out=str(out),
        megabytes=round(len(content) / 1e6, 3),
        seconds=round(time.perf_counter() - start, 1),
        outputs=exported.outputs_of_graph,
        images=origin,
        agreement=agreement,
    )


def graph_of(run: "Run") -> bytes:
    """The ONNX model of a loaded run, serialised.

    Raises
    ------
    ExportError
        If the preprocessing fits lenses, or a layer has no counterpart in ONNX.
    """
    import torch

    from pipeline.export._graph import Graph

    _require_plain_preprocess(run)
    preprocess, graph = run.preprocess, Graph(run)
    shape = (len(preprocess.bands), preprocess.size, preprocess.size)
    example = torch.from_numpy(_noise((3, *shape)))
    with _quiet():
        try:
            program = torch.onnx.export(
                graph, (example,), dynamo=True, opset_version=OPSET, verbose=False,
                input_names=[INPUT], output_names=list(graph.outputs),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as error:
            kind = run.spec.model.kind
            raise ExportError(
                f"{run.path}: model {kind!r} has no counterpart in ONNX: {_first_cause(error)}"
            ) from error
    assert program is not None
    serialised: bytes = _plain(program.model_proto).SerializeToString(deterministic=True)
    return serialised


def _plain(model: Any) -> Any:  # Any: a ModelProto; onnx carries no types
    """The model without what the exporter notes beside it: sources, shapes, names of classes."""
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    for graph in (model.graph, *model.functions):
        for field in ("metadata_props", "doc_string", "value_info"):
            graph.ClearField(field)
        for node in graph.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    return model


def _require_plain_preprocess(run: "Run") -> None:
    if run.preprocess.smooth_fit is not None:
        raise ExportError(
            f"{run.path}: its network sees planes of a smooth-lens fit (preprocess.smooth_fit), "
            "which no ONNX file can compute; train without them to export, or score with the run"
        )


def _metadata(run: "Run") -> Mapping[str, str]:
    return {
        **run_texts(run.path),
        KNOWN: encoded(run.novelty.val_distances),
        "class_names": json.dumps(run.class_names, ensure_ascii=False),
    }


def _noise(shape: tuple[int, ...]) -> NDArray[np.float32]:
    rng = np.random.Generator(np.random.Philox(0))
    return rng.standard_normal(shape).astype(np.float32)


def _first_cause(error: BaseException) -> str:
    """The innermost reason, in one line."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error).strip().partition("\n")[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's talk; what matters becomes an exception."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _require_packages() -> None:
    from importlib.util import find_spec

    for name in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(name) is None:
            raise MissingExtraError(
                f"an export needs the package {name}: install deeplense-pipeline[onnx]"
            )
