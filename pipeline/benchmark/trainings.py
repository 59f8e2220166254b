"""Train many networks one after another, each in its own process, so that none ends them all."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.benchmark.memory import peak_memory_mb
from pipeline.checkpoint.yaml_text import yaml_text
from pipeline.core.errors import ConfigError, UnknownKindError
from pipeline.core.files import atomic_write
from pipeline.core.logs import get_logger
from pipeline.models.base import MODELS
from pipeline.training.config import TrainingConfig, load_training_config, training_presets

#: Training preset of a model that has none of its own name.
FALLBACK = "seed_cosine"
#: Boosted trees on plain statistics: in every comparison, where the model exists.
SHORTCUT = "shortcut"
#: Seconds between two looks at a training.
_LOOK_EVERY = 0.1

logger = get_logger("compare")


@dataclass(frozen=True)
class Training:
    """One network to be trained: its name in the table, its configuration, its run folder."""

    name: str
    config: TrainingConfig
    run: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a training; ``reason`` is empty if it went well.

    ``memory_mb`` is the largest resident memory of its process.
    """

    reason: str
    memory_mb: float | None


def plan_trainings(
    models: Sequence[str],
    out: Path,
    *,
    seeds: int,
    minutes: float | None,
    config: str | None,
    overrides: Sequence[str],
) -> list[Training]:
    """List what to train: every model with every seed.

    Parameters
    ----------
    models : sequence of str
        ``KIND`` or ``KIND/VARIANT``; ``all`` is every kind, ``all/VARIANT`` every kind as that
        variant where it has one. If any, ``shortcut`` is added.
    out : Path
        Folder of the comparison.
    seeds : int
        Seeds 0, 1, ...
    minutes : float, optional
        Budget of one training; else that of its preset.
    config : str, optional
        Training preset of all of them; by default that of the model's name.
    overrides : sequence of str
        ``"key.key=value"`` for all of them.

    Raises
    ------
    UnknownKindError, ConfigError
        If a model or variant is not known.
    """
    if seeds < 1:
        raise ConfigError(f"a comparison needs at least one seed, found {seeds}")
    names = list(dict.fromkeys(name for model in models for name in _named(model)))
    if names and SHORTCUT in MODELS.kinds() and SHORTCUT not in names:
        names.append(SHORTCUT)
    budget = [] if minutes is None else [f"max_minutes={minutes}"]
    planned = []
    for name in names:
        base = load_training_config(_preset(name, config), [*budget, *overrides])
        for seed in range(seeds):
            changed = base.with_changes(model=_block(name), seed=seed)
            folder = f"{name.replace('/', '-')}-seed{seed}"
            planned.append(Training(name, changed, out / "runs" / folder))
    return planned


def _named(model: str) -> list[str]:
    """What one word of the command line stands for."""
    kind, slash, variant = model.partition("/")
    if kind != "all":
        return [model]
    has_it = {
        kind: bool(slash) and variant in getattr(MODELS.load(kind), "VARIANTS", {})
        for kind in MODELS.kinds()
        if kind != SHORTCUT  # it joins every comparison as it is
    }
    if slash and not any(has_it.values()):
        raise UnknownKindError(f"no model has a variant {variant!r}")
    return [f"{kind}/{variant}" if named else kind for kind, named in has_it.items()]


def train_one(training: Training, data: Path | str, device: str) -> Outcome:
    """Train in a new process, or go on with what was interrupted; never raises for a failure."""
    note = training.run.with_suffix(".json")
    if note.is_file():
        done = json.loads(note.read_text(encoding="utf-8"))
        if done.get("config_sha256") == training.config.sha256 and not done["reason"]:
            return Outcome("", done["memory_mb"])
    source = training.run.with_suffix(".yaml")
    source.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(source, yaml_text(training.config))
    command = [sys.executable, "-m", "pipeline", "train", str(source), "--json"]
    command += ["--data", str(data), "--out", str(training.run), "--device", device]
    logger.info("training %s", training.run.name)
    outcome = _run(command, training.run.with_suffix(".log"))
    content = {**asdict(outcome), "config_sha256": training.config.sha256}
    atomic_write(note, json.dumps(content) + "\n")
    return outcome


def _run(command: list[str], log: Path) -> Outcome:
    """Run a command; its last line of talk is the reason if it fails."""
    with log.open("ab") as talk:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=talk)
        memory = None
        try:
            while child.poll() is None:
                memory = peak_memory_mb(child.pid) or memory  # it only grows, until the end
                time.sleep(_LOOK_EVERY)
        except BaseException:
            child.send_signal(signal.SIGTERM)  # the run saves nothing more; a later call goes on
            child.wait()
            raise
    memory = None if memory is None else round(memory, 1)
    if child.returncode == 0:
        return Outcome("", memory)
    if child.returncode < 0:
        return Outcome(_killed(-child.returncode, memory, log), memory)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return Outcome((lines or ["no reason given"])[-1].removeprefix("deeplense: "), memory)


def _killed(number: int, memory: float | None, log: Path) -> str:
    """Why a training ended by a signal; the system itself sends SIGKILL when memory runs out."""
    reason = f"killed by signal {number}"
    if number == signal.SIGKILL and memory is not None:
        reason += f" with {memory:.0f} MB in use; if memory ran out, lower batch_size"
    return f"{reason} (see {log.name})"


def _preset(name: str, config: str | None) -> str:
    if config is not None:
        return config
    kind = name.partition("/")[0]
    return kind if (training_presets() / f"{kind}.yaml").is_file() else FALLBACK


def _block(name: str) -> object:
    kind, _, variant = name.partition("/")
    if not variant:
        return MODELS.config(kind)
    variants = MODELS.load(kind).VARIANTS
    if variant not in variants:
        raise ConfigError(f"{kind!r} has no variant {variant!r}; known: {', '.join(variants)}")
    return variants[variant]
