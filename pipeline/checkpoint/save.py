"""Write a checkpoint: weights, novelty reference and card first, the specification last."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.numpy import save as save_arrays
from safetensors.torch import save as save_tensors
from torch import Tensor

from pipeline.checkpoint.card import model_card, read_dataset_description
from pipeline.checkpoint.network import plain_state
from pipeline.checkpoint.novelty import Novelty, reference_arrays
from pipeline.checkpoint.spec import (
    CARD_FILE,
    REFERENCE_FILE,
    WEIGHTS_FILE,
    CheckpointSpec,
    write_spec,
)
from pipeline.core.files import atomic_write
from pipeline.core.provenance import sha256_hex


def save_run(
    folder: Path,
    spec: CheckpointSpec,
    weights: Mapping[str, Tensor],
    novelty: Novelty,
) -> CheckpointSpec:
    """Write one checkpoint into a run folder, replacing an earlier one.

    A kill in between leaves hashes that do not match, which :func:`load_run` refuses; the next
    evaluation of the resumed run writes all of them again.

    Parameters
    ----------
    folder : Path
    spec : CheckpointSpec
        Its ``weights_sha256`` and ``reference_sha256`` are replaced by those of the files.
    weights : mapping of str to Tensor
    novelty : Novelty

    Returns
    -------
    CheckpointSpec
        As written.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    weight_bytes = save_tensors(plain_state(weights), metadata={"format": "pt"})
    reference_bytes = save_arrays(reference_arrays(novelty))
    spec = spec.with_changes(
        weights_sha256=sha256_hex(weight_bytes), reference_sha256=sha256_hex(reference_bytes)
    )
    atomic_write(folder / WEIGHTS_FILE, weight_bytes)
    atomic_write(folder / REFERENCE_FILE, reference_bytes)
    atomic_write(folder / CARD_FILE, model_card(spec, read_dataset_description(folder)))
    write_spec(folder, spec)
    return spec
