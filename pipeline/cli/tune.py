"""``deeplense tune``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from pipeline.cli.options import Device, Json, Overrides
from pipeline.cli.output import EXIT_DONE, EXIT_FAILED, Result
from pipeline.cli.train import evaluation_of

if TYPE_CHECKING:
    from pipeline.workflow.tune import TuneSummary


def tune(
    config: str = "demo",
    /,
    *,
    data: Annotated[
        Path, Parameter(help="Dataset to train on, or a preset to simulate meanwhile.")
    ],
    out: Annotated[Path, Parameter(help="Folder of the study to write, or to go on with.")],
    space: Annotated[
        str, Parameter(help="Search space: a preset of sim_params/tuning, or a YAML file.")
    ] = "recipe",
    trials: Annotated[int | None, Parameter(help="Trials of the whole study.")] = None,
    sampler: Annotated[
        Literal["tpe", "gp", "grid", "random"] | None,
        Parameter(help="What chooses the next trial: tpe and gp learn from those before."),
    ] = None,
    pruner: Annotated[
        Literal["median", "halving", "hyperband", "none"] | None,
        Parameter(help="What ends trials that fall behind."),
    ] = None,
    seed: Annotated[int | None, Parameter(help="Seed of the sampler.")] = None,
    workers: Annotated[int, Parameter(help="Processes that run trials at once.")] = 1,
    export_sweep: Annotated[
        Path | None,
        Parameter(help="Write the search as a Weights & Biases sweep file; train nothing."),
    ] = None,
    set_: Overrides = (),
    device: Device = "auto",
    json: Json = False,
) -> Result:
    """Search for a good training configuration, or go on with a search.

    Parameters
    ----------
    config
        Name of a training preset, or a YAML file, that every trial starts from.
    """
    from pipeline.workflow import tune as steps

    search = steps.Search(
        config, space, data, out, overrides=set_, device=device,
        changes=steps.space_changes(trials, sampler, pruner, seed),
    )  # fmt: skip
    if export_sweep is not None:
        path = steps.export_sweep(search, export_sweep)
        text = f"{path}\nnext: wandb sweep {path}, then wandb agent with the name that it prints"
        return Result({"sweep": path}, text)
    found = steps.tune(search, workers)
    return Result(found, _text(found, data), EXIT_DONE if found.best_config else EXIT_FAILED)


def _text(found: "TuneSummary", data: Path) -> str:
    counts = f"{found.trials} of {found.wanted} trials: {found.complete} complete"
    for name in ("pruned", "failed", "running"):
        if n := getattr(found, name):
            counts += f", {n} {name}"
    if found.best_config is None or found.best_run is None:
        return f"{found.out}: {counts}; none gave a result (see {found.page})"
    values = "\n".join(f"  {key}: {value}" for key, value in (found.best_parameters or {}).items())
    return (
        f"{found.out}: {counts}, {found.seconds:.0f} s\n"
        f"best validation {found.metric} {found.best_value:.4f}, trial {found.best_trial}\n"
        f"{values}\n"
        f"page: {found.page}\n"
        f"next: {evaluation_of(found.best_run, data)}\n"
        f"      deeplense train {found.best_config} --data {data} --out runs/best --seed 1"
    )
