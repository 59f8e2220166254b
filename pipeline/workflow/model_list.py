"""Every model there is, with what one wants to know before choosing."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from pipeline.core.config import StrictModel
from pipeline.core.files import atomic_write
from pipeline.models.base import MODELS, build_model, image_sizes
from pipeline.tasks.base import TASKS

#: Image side at which parameters are counted: that of the demo preset.
IMAGE_SIZE = 64
#: What becomes of other sizes, by a model's rule.
_FIT = {"exact": "refused", "pad": "padded", "resample": "resampled"}


@dataclass(frozen=True)
class ModelLine:
    """One model; ``parameters`` and ``image_sizes`` are those of its default configuration.

    ``other_sizes`` says what becomes of images that are not; ``variants`` are its named
    configurations with their number of trained parameters, for one channel of 64x64 pixels.
    """

    name: str
    summary: str
    tasks: tuple[str, ...]
    parameters: int
    image_sizes: str
    other_sizes: str
    variants: dict[str, int]


def list_models(name: str | None = None) -> tuple[ModelLine, ...]:
    """Describe one model, or all of them, sorted by name.

    Raises
    ------
    UnknownKindError
        Naming the models there are.
    """
    return tuple(_describe(kind) for kind in ([name] if name is not None else MODELS.kinds()))


def model_yaml(name: str) -> str:
    """Return the default configuration of a model as it stands in a training configuration."""
    from pipeline.report.describe import resolved_yaml

    block = resolved_yaml(MODELS.load(name).Config())
    return "model:\n" + "".join(f"  {line}\n" for line in block.splitlines())


def models_page(lines: Sequence[ModelLine]) -> str:
    """Return the models as a page of Markdown: ``docs/models.md``."""
    head = (
        "# Models\n\n"
        "Written by `deeplense models --out docs/models.md`. Parameters are those of the backbone "
        "for one channel of 64x64 pixels; the first variant is the default. `--model NAME:VARIANT` "
        "takes a variant on the command line, `model: {kind: NAME, variant: VARIANT, ...}` in "
        "YAML, where single settings may follow. Every model serves every task.\n\n"
        "| model | what it is | image sizes | other sizes | variants (parameters) |\n"
        "| --- | --- | --- | --- | --- |\n"
    )
    rows = []
    for m in lines:
        variants = ", ".join(f"{name} ({n:,})" for name, n in m.variants.items())
        rows.append(
            f"| `{m.name}` | {m.summary} | {m.image_sizes} | {m.other_sizes} | {variants} |\n"
        )
    return head + "".join(rows)


def write_models_page(lines: Sequence[ModelLine], out: Path) -> None:
    """Write :func:`models_page` to a file."""
    atomic_write(out, models_page(lines))


def count_parameters(config: StrictModel) -> int:
    """Count what training changes, by building the network."""
    sizes = image_sizes(config)
    exact = config.with_changes(fit="exact") if "fit" in type(config).model_fields else config
    side = sizes.next_from(IMAGE_SIZE) or sizes.examples(1)[0]
    backbone = build_model(exact, 1, side)
    return sum(p.numel() for p in backbone.parameters() if p.requires_grad)


@cache
def counted_parameters() -> dict[str, dict[str, int]]:
    """Counts by kind and variant, as ``examples/count_parameters.py`` wrote them."""
    text = resources.files("pipeline.models").joinpath("parameters.json").read_text("utf-8")
    table: dict[str, dict[str, int]] = json.loads(text)
    return table


def _describe(kind: str) -> ModelLine:
    module = MODELS.load(kind)
    default = module.Config()
    counts = counted_parameters().get(kind)
    if counts is None or MODELS.is_plugin(kind):
        named = getattr(module, "VARIANTS", None) or {"default": default}
        counts = {name: count_parameters(config) for name, config in named.items()}
    return ModelLine(
        name=kind,
        summary=MODELS.summary(kind),
        tasks=TASKS.kinds(),
        parameters=next(iter(counts.values())),
        image_sizes=str(image_sizes(default)),
        other_sizes=_FIT[getattr(default, "fit", "exact")],
        variants=counts,
    )
