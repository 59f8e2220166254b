"""The whole chain once, small: 24-pixel images, a mini network, one epoch."""

from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.workflow.chain import ChainFolder, ChainSummary, run_chain

PRESET = """\
extends: demo
n_images: 90
shard_size: 30
n_pix: 24
supersample: 1
"""
TRAINING = """\
description: a test
model: {kind: lens_hybrid, channels: [8, 16, 16], blocks: [0, 1, 0], depth: 1, heads: 2}
epochs: 1
batch_size: 16
"""


class Chain(NamedTuple):
    """A finished chain, what it returned, and the configurations it was made from."""

    folder: ChainFolder
    summary: ChainSummary
    preset: Path
    training: Path

    def again(self) -> ChainSummary:
        """Call it once more."""
        return run_chain(
            self.folder.root, preset=str(self.preset), config=str(self.training),
            workers=1, device="cpu",
        )  # fmt: skip


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    folder = tmp_path_factory.mktemp("chain")
    preset, training = folder / "preset.yaml", folder / "training.yaml"
    preset.write_text(PRESET)
    training.write_text(TRAINING)
    out = folder / "out"
    summary = run_chain(out, preset=str(preset), config=str(training), workers=1, device="cpu")
    return Chain(ChainFolder(out), summary, preset, training)
