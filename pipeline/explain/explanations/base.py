"""The explanation family: which pixels of an image an answer of a network rests on.

A kind is a file with ``Config`` and ``heat(config, question) -> Tensor (B, H, W)``, not negative:
how much each pixel matters. Scaling and smoothing are the caller's (``maps.explain``). The map of
an image does not depend on the other images of the batch.
"""

from pipeline.core.registry import Family

EXPLANATIONS = Family("explanation", "pipeline.explain.explanations", ("Config", "heat"))
