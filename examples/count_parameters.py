"""Count the parameters of every shipped model: writes ``pipeline/models/parameters.json``.

``deeplense models`` reads that table, so that a listing does not build two dozen networks. Run it
after a model or a variant has changed; a test compares the table with the networks.
"""

import json
from pathlib import Path

from pipeline.core.files import atomic_write
from pipeline.models.base import MODELS
from pipeline.workflow.model_list import count_parameters

if __name__ == "__main__":
    table = {
        kind: {name: count_parameters(c) for name, c in MODELS.load(kind).VARIANTS.items()}
        for kind in MODELS.kinds()
        if not MODELS.is_plugin(kind)
    }
    out = Path(__file__).resolve().parents[1] / "pipeline" / "models" / "parameters.json"
    atomic_write(out, json.dumps(table, indent=2) + "\n")
    print(f"{out}: {len(table)} models")
