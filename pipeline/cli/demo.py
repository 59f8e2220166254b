"""``deeplense demo``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.options import Device, Json, Workers
from pipeline.cli.output import Result


def demo(
    *,
    out: Annotated[Path, Parameter(help="Folder of all that is made.")] = Path("deeplense-demo"),
    open_: Annotated[
        bool, Parameter(name="--open", negative="", help="Open the report in a browser.")
    ] = False,
    images: Annotated[int | None, Parameter(help="Number of simulated images.")] = None,
    epochs: Annotated[int | None, Parameter(help="Passes over the training images.")] = None,
    workers: Workers = None,
    device: Device = "auto",
    json: Json = False,
) -> Result:
    """Simulate, train, evaluate, score FITS files and write a report; no arguments needed."""
    import webbrowser

    from pipeline.workflow.chain import run_chain

    summary = run_chain(out, images=images, epochs=epochs, workers=workers, device=device)
    if open_:
        webbrowser.open(summary.report.resolve().as_uri())
    return Result(summary, summary.text)
