"""The model card: what a checkpoint is for, what made it, how good it is and where it ends.

Sections follow Mitchell et al. (2019), "Model cards for model reporting".
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.checkpoint.spec import DATASET_FILE, CheckpointSpec, run_text
from pipeline.core.config import validate
from pipeline.core.yaml_source import parse_yaml
from pipeline.tasks.base import OTHER_DOMAIN, TargetTransform, trained_classes

if TYPE_CHECKING:
    from pipeline.dataset.config import DatasetConfig

Plain = Mapping[str, Any]  # Any: plain JSON or YAML data


def model_card(spec: CheckpointSpec, dataset: Plain, evaluation: Plain | None = None) -> str:
    """Markdown text of the card.

    Parameters
    ----------
    spec : CheckpointSpec
    dataset : mapping
        The resolved dataset configuration; empty if unknown.
    evaluation : mapping, optional
        What ``evaluation.json`` holds; without it the card says that there was no test yet.
    """
    lines = [f"# {spec.model.kind}: {spec.task.kind} of strong-lensing images", ""]
    lines += _use(spec)
    lines += _data(spec, dataset)
    lines += _input(spec)
    lines += _figures(spec, evaluation)
    lines += _limits(spec)
    lines += _origin(spec)
    return "\n".join(lines) + "\n"


def read_dataset_description(folder: Path) -> Plain:
    """Resolved dataset configuration of a run folder or exported network; empty if unknown."""
    text = run_text(folder, DATASET_FILE)
    return {} if text is None else parse_yaml(text, str(folder / DATASET_FILE))[0]


def read_dataset_config(folder: Path) -> "DatasetConfig | None":
    """Dataset configuration of a run folder or exported network; None if unknown.

    Raises
    ------
    ConfigError
        If what is described is not one.
    """
    from pipeline.dataset.config import DatasetConfig

    described = read_dataset_description(folder)
    if not described:
        return None
    return validate(described, DatasetConfig, name=str(folder / DATASET_FILE))


def _named(target: TargetTransform) -> str:
    """A target with its unit, as it is learnt."""
    per_unit = f"{target.name} / {target.unit}" if target.unit else target.name
    return per_unit if target.function == "identity" else f"{target.function}({per_unit})"


def _use(spec: CheckpointSpec) -> list[str]:
    answers = ", ".join(spec.class_names)
    what = f"tells apart the classes {answers}"
    if spec.targets:
        names = ", ".join(map(_named, spec.targets))
        estimates = f"estimates {names} with a standard deviation"
        both = hasattr(spec.task, "classification")  # a joint task
        what = f"{what} and {estimates}" if both else estimates
    inliers = trained_classes(spec.task)
    if inliers:
        what = f"tells how unlike {', '.join(inliers)} an image is, having seen nothing else"
    return [
        "## Intended use",
        "",
        f"Research on dark-matter substructure in galaxy-scale strong lenses: {what}. It is made "
        "to be studied and compared. It is no discovery tool: a probability below is conditional "
        "on the simulations it was trained on being a fair picture of the image.",
        "",
    ]


def _data(spec: CheckpointSpec, dataset: Plain) -> list[str]:
    lines = ["## Training data", ""]
    if dataset.get("description"):
        lines.append(f"{str(dataset['description']).strip()}")
        lines.append("")
    lines += [
        f"- images: {spec.n_train} to train{_once(spec)}, {spec.n_val} to validate and calibrate",
        f"- classes: {', '.join(spec.class_names)}",
        f"- dataset sha256: `{spec.dataset_sha256}`",
    ]
    if trained_classes(spec.task):
        lines.append(f"- of these only {', '.join(trained_classes(spec.task))} was seen")
    if OTHER_DOMAIN in spec.versions:
        lines.append(
            f"- adapted to images without labels, {spec.task.target}, "
            f"sha256 `{spec.versions[OTHER_DOMAIN]}`"
        )
    if dataset:
        lines.append(f"- every prior and instrument number: `{DATASET_FILE}` in this folder")
    return [*lines, ""]


def _once(spec: CheckpointSpec) -> str:
    return ", simulated on the fly and seen once each" if spec.simulated_on_the_fly else ""


def _input(spec: CheckpointSpec) -> list[str]:
    p = spec.preprocess
    how = (
        "each image minus the median of its border, over the noise of its border"
        if p.normalise == "noise"
        else "minus a fixed background, over a fixed noise"
    )
    unit = "any linear unit gives the same score" if p.is_unit_free else "electron/s"
    planes = Counter(p.smooth_fit.kinds if p.smooth_fit else ())
    named = ", ".join(f"{kind} ({n} channels)" if n > 1 else kind for kind, n in planes.items())
    fits = [f"- beside each image, of a smooth lens fitted to it: {named}"] * bool(planes)
    return [
        "## Input",
        "",
        f"- bands {', '.join(p.bands)}; {p.size}x{p.size} pixels of {p.pixel_scale:g} arcsec, "
        "lens in the middle",
        f"- normalisation: {how}",
        f"- stretch: {', '.join(p.stretch)}, softened at {p.softening:g} sigma; clipped at "
        f"{p.clip:g} standard deviations",
        f"- unit: {unit}",
        *fits,
        "",
    ]


def _figures(spec: CheckpointSpec, evaluation: Plain | None) -> list[str]:
    lines = ["## Figures", "", "| validation (used to choose the weights) | |", "| --- | --- |"]
    lines += [f"| {name} | {value:.4g} |" for name, value in sorted(spec.metrics.items())]
    lines.append("")
    if evaluation is None:
        lines += ["No test split has been evaluated yet (`deeplense evaluate`).", ""]
    else:
        where = "" if evaluation["same_dataset"] else " of another dataset"
        lines += [
            f"| {evaluation['split']} split, {evaluation['n']} images{where} | value | "
            "95 % interval |",
            "| --- | --- | --- |",
        ]
        lines += [
            f"| {name} | {_number(value)} | {_interval(evaluation['intervals'].get(name))} |"
            for name, value in evaluation["metrics"].items()
        ]
        lines.append("")
    words = ", ".join(f"{name} {value:.3f}" for name, value in sorted(spec.calibration.items()))
    lines += [f"Calibration, fitted on the validation split: {words}.", ""]
    return lines


def _limits(spec: CheckpointSpec) -> list[str]:
    return [
        "## Limits",
        "",
        "- Trained on simulations alone. It has seen no real image, and no lens outside the "
        "priors of its dataset; figures above hold for that dataset only.",
        "- Probabilities assume that the classes are as frequent as in training.",
        "- Pixel scale, PSF, depth and lens light that differ from training change the score in "
        "ways that were not measured. `novelty` tells how far an image is from the training "
        "images; it does not catch every such difference.",
        f"- One training run with seed {spec.seed}: the scatter between seeds is not in the "
        "intervals.",
        "",
    ]


def _origin(spec: CheckpointSpec) -> list[str]:
    numbers = sorted(spec.versions.items())
    versions = ", ".join(f"{name} {number}" for name, number in numbers if name != OTHER_DOMAIN)
    return [
        "## Origin",
        "",
        f"- {spec.n_parameters} parameters, weights of step {spec.step} (epoch {spec.epoch})",
        "- reproduce: `deeplense train config.yaml --data DATA.zarr --out RUN` with the "
        "`config.yaml` of this folder and a dataset of the hash above"
        + (", its fits stored (`deeplense fit`)" if spec.preprocess.smooth_fit else ""),
        f"- configuration sha256: `{spec.config_sha256}`",
        f"- weights sha256: `{spec.weights_sha256}`",
        f"- versions: {versions}",
    ]


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _interval(value: Any) -> str:  # Any: plain JSON data
    if not value or value[0] is None:
        return ""
    return f"{value[0]:.4f} to {value[1]:.4f}"
