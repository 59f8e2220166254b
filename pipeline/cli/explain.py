"""``deeplense explain``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.options import Device, Json, RunPath
from pipeline.cli.output import Result, table


def explain(
    run: RunPath,
    /,
    *,
    data: Annotated[Path, Parameter(help="Dataset with the images to explain.")],
    method: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            help="attention, grad_cam, gradient, integrated_gradients, occlusion or "
            "smooth_gradient; may be repeated; by default all that apply.",
        ),
    ] = (),
    out: Annotated[Path | None, Parameter(help="HTML page to write.")] = None,
    split: Annotated[str, Parameter(help="test, val or train.")] = "test",
    images: Annotated[int, Parameter(help="The first so many images of the split.")] = 200,
    min_d: Annotated[
        float, Parameter(help="Least d' of the substructure in images that are scored.")
    ] = 3.0,
    device: Device = "auto",
    json: Json = False,
) -> Result:
    """Show which pixels an answer rests on, and how often they are those of the substructure.

    Parameters
    ----------
    run
        Run folder that `deeplense train` wrote.
    """
    from pipeline.workflow.explain import explain as step

    found = step(
        run, data, out=out, methods=method, split=split, images=images, min_d_prime=min_d,
        device=device,
    )  # fmt: skip
    from pipeline.report.explain_page import HEADER, score_rows

    parts = [f"{found.run}: {found.images} {found.split} images of {found.data}"]
    parts += [f"{name} left out: {why}" for name, why in found.refused.items()]
    for name in dict.fromkeys(row.class_name for row in found.pointing):
        n = next(row.n for row in found.pointing if row.class_name == name)
        parts.append(f"{name}, {n} images:\n{table(HEADER, score_rows(found.pointing, name))}")
    parts += [f"no pointing score: {found.unscored}"] if found.unscored else []
    parts += [found.out] if found.out else []
    return Result(found, "\n\n".join(parts))
