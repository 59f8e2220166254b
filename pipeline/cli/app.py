"""``deeplense app``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.options import Device, Json, RunPath
from pipeline.cli.output import Result


def app(
    run: RunPath,
    /,
    *,
    port: Annotated[
        int | None, Parameter(help="Port to listen at; the first free one from 7860 by default.")
    ] = None,
    host: Annotated[
        str, Parameter(help="Address to listen at; the default serves this machine alone.")
    ] = "127.0.0.1",
    preset: Annotated[
        str | None, Parameter(help="Dataset preset or file to simulate, not the training data.")
    ] = None,
    open_: Annotated[
        bool, Parameter(name="--open", negative="--no-open", help="Open the page in a browser.")
    ] = True,
    export_space: Annotated[
        Path | None,
        Parameter(help="Write a Hugging Face Space (page, ONNX model, card) here, serve nothing."),
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> Result:
    """Serve a page where an image is dropped and scored, and a lens is simulated with sliders.

    Parameters
    ----------
    run
        Run folder that `deeplense train` wrote, or file that `deeplense export --onnx` wrote.
    """
    if export_space is not None:
        from pipeline.app.space import write_space

        written = write_space(run, export_space)
        return Result(written, written.text)
    from pipeline.app.serve import serve

    served = serve(run, port=port, host=host, preset=preset, device=device, open_browser=open_)
    return Result(served, f"{served.url} was there for {served.seconds:.0f} s")
