"""Batched and compiled: one XLA function per shape of scene, on CPU or GPU; the fast engine."""

from typing import Literal

from pydantic import Field

from pipeline.core.config import StrictModel
from pipeline.engines.base import Engine


class Config(StrictModel):
    """The JAX engine.

    ``batch_size`` scenes are compiled into one call; the last batch is padded, so an image does
    not depend on its neighbours.
    """

    kind: Literal["jax"] = "jax"
    precision: Literal["float32", "float64"] = "float32"
    batch_size: int = Field(default=16, ge=1)


def build(config: Config) -> Engine:
    """Return the engine; imports JAX."""
    from pipeline.engines._jax import JaxEngine  # heavy

    return JaxEngine(config.precision, config.batch_size)
