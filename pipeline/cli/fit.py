"""``deeplense fit``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.options import Json, Overrides
from pipeline.cli.output import Result


def fit(
    *inputs: Path,
    out: Annotated[Path | None, Parameter(help="Table: .ecsv, .fits or .csv.")] = None,
    page: Annotated[Path | None, Parameter(help="HTML page of triples to write.")] = None,
    config: Annotated[str, Parameter(help="Preset of sim_params/fit, or a YAML file.")] = "epl",
    instrument: Annotated[str | None, Parameter(help="Telescope and band of FITS files.")] = None,
    size: Annotated[int, Parameter(help="Pixels along the fitted field of FITS files.")] = 80,
    store: Annotated[
        bool, Parameter(negative="", help="Keep models and residuals in the dataset.")
    ] = False,
    set_: Overrides = (),
    json: Json = False,
) -> Result:
    """Fit a smooth lens to every image: parameters with errors, chi2, what the model leaves.

    Parameters
    ----------
    inputs
        One dataset, or FITS files, folders (searched recursively) and globs.
    """
    from pipeline.core.errors import ConfigError
    from pipeline.workflow.fit import run_fit

    if not inputs or (out is None and not store):
        raise ConfigError("expected images to fit, and --out for the table or --store")
    summary = run_fit(
        inputs, out, config=config, instrument=instrument, page=page, store=store, size=size,
        overrides=set_,
    )  # fmt: skip
    text = (
        f"{summary.out or summary.stored}: {summary.good} good, {summary.poor} poor, "
        f"{summary.failed} failed, median chi2 {summary.chi2_median:.3f}, "
        f"{summary.seconds:.1f} s ({summary.images_per_second:.1f} images/s)"
    )
    return Result(summary, text)
