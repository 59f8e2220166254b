"""Every model there is, with what one wants to know before choosing."""

from dataclasses import dataclass

from pipeline.core.config import StrictModel
from pipeline.models.base import MODELS, build_model, image_sizes
from pipeline.tasks.base import TASKS

#: Image side at which parameters are counted, if the model takes it: that of the demo preset.
IMAGE_SIZE = 64


@dataclass(frozen=True)
class ModelLine:
    """One model; ``parameters`` and ``image_sizes`` are those of its default configuration.

    ``variants`` are its named configurations with their number of parameters.
    """

    name: str
    summary: str
    tasks: tuple[str, ...]
    parameters: int
    image_sizes: str
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


def _describe(kind: str) -> ModelLine:
    module = MODELS.load(kind)
    return ModelLine(
        name=kind,
        summary=MODELS.summary(kind),
        tasks=TASKS.kinds(),
        parameters=_n_parameters(module.Config()),
        image_sizes=str(image_sizes(module.Config())),
        variants={name: _n_parameters(config) for name, config in module.VARIANTS.items()},
    )


def _n_parameters(config: StrictModel) -> int:
    """Count weights without making them: a tensor on the meta device has only a shape."""
    import torch

    sizes = image_sizes(config)
    side = IMAGE_SIZE if IMAGE_SIZE in sizes else sizes.examples(1)[0]
    with torch.device("meta"):
        backbone = build_model(config, 1, side)
    return sum(p.numel() for p in backbone.parameters())
