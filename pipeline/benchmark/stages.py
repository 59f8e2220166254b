"""Where the time of ``deeplense simulate`` goes: draw, pack, render, expose, write.

Run as a module it measures the JAX engine on one core and writes a line of JSON for each preset.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.dataset.config import DatasetConfig, load_dataset_config
from pipeline.dataset.generate import make_shard, record, simulation_spec
from pipeline.dataset.layout import COUNT, OFFSET
from pipeline.dataset.writer import ShardStore
from pipeline.engines.base import ENGINES, Engine
from pipeline.physics.scene import Scene, draw_scene

#: Presets that are measured: the quick one, DeepLenseSim's, and a realistic one.
PRESETS = ("demo", "legacy_model_ii", "contrast_hst", "physical_hst")
_REPEATS = 3
_N_SHARD = 480


@dataclass(frozen=True)
class Stages:
    """Processor time of each stage of one preset, ms an image, noise and writing included.

    Attributes
    ----------
    preset : str
    draw, pack, render, expose, write : float, ms
        ``render`` is the compiled function; the rest runs in Python and numpy.
    total : float, ms
        Their sum.
    images_per_second : float
        On one core.
    """

    preset: str
    draw: float
    pack: float
    render: float
    expose: float
    write: float
    total: float
    images_per_second: float


def measure(preset: str, n_images: int) -> Stages:
    """Measure one preset with the JAX engine.

    Parameters
    ----------
    preset : str
    n_images : int
    """
    from pipeline.engines._jax_pack import Signature, pack, signature  # heavy

    changes = (f"n_images={n_images}", f"shard_size={n_images}", "engine.kind=jax")
    config: DatasetConfig = load_dataset_config(preset, changes)
    module = ENGINES.load("jax")
    engine = module.build(module.Config())
    scenes = [draw_scene(config.scenes, config.seed, i) for i in range(n_images)]
    images = engine.render(scenes, config.grid, config.instruments)

    def packed() -> None:
        groups: dict[Signature, list[Scene]] = {}
        for scene in scenes:
            groups.setdefault(signature(scene, config.grid), []).append(scene)
        size = module.Config().batch_size
        for shape, members in groups.items():
            for first in range(0, len(members), size):
                part = members[first : first + size]
                pack(part, shape, config.instruments, np.dtype(np.float32))

    times = {
        "draw": _best(lambda: [draw_scene(config.scenes, config.seed, s.index) for s in scenes]),
        "pack": _best(packed),
        "expose": _best(lambda: record(config, images, scenes)),
        "write": _write(preset, engine, n_images),
    }
    whole = _best(lambda: engine.render(scenes, config.grid, config.instruments))
    times["render"] = max(0.0, whole - times["pack"])
    scaled = {name: round(1e3 * value / n_images, 4) for name, value in times.items()}
    total = sum(scaled.values())
    return Stages(
        preset=preset, total=round(total, 4), images_per_second=round(1e3 / total, 1), **scaled
    )


def main() -> None:
    """Measure every preset there is, on one core."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    quick = json.loads(sys.stdin.readline())["quick"]
    for preset in PRESETS[:1] if quick else PRESETS:
        answers.write(json.dumps(asdict(measure(preset, 6 if quick else 48))) + "\n")
        answers.flush()


def _write(preset: str, engine: Engine, n_images: int) -> float:
    """Seconds to write ``n_images``, from a whole shard: a shard has costs of its own."""
    changes = (f"n_images={_N_SHARD}", f"shard_size={_N_SHARD}", "engine.kind=jax")
    config = load_dataset_config(preset, changes)
    with tempfile.TemporaryDirectory() as folder:
        store = ShardStore.prepare(Path(folder) / "bench.zarr", simulation_spec(config))
        arrays = [a for a in store.spec.arrays if a.name != OFFSET]  # the store fills it in
        plain, ragged = [a for a in arrays if not a.ragged], [a for a in arrays if a.ragged]
        few = make_shard(config, engine, slice(0, n_images), lambda n=1, *, note="": None)
        many = {a.name: np.resize(few[a.name], a.shape(_N_SHARD)) for a in plain}
        n_rows = int(many[COUNT].sum())
        many |= {a.name: np.resize(few[a.name], a.shape(n_rows)) for a in ragged}
        return _best(lambda: store.write(0, many)) * n_images / _N_SHARD


def _best(call: Callable[[], object]) -> float:
    times = []
    for _ in range(_REPEATS):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
