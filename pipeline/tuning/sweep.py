"""A Weights & Biases sweep over the same search space, each of its runs a ``deeplense train``.

https://docs.wandb.ai/guides/sweeps/sweep-config-keys: ``wandb sweep FILE``, then ``wandb agent ID``
on as many machines as there are.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.files import atomic_write
from pipeline.core.provenance import canonical_json
from pipeline.core.yaml_source import parse_scalar
from pipeline.tuning.space import Choice, Integer, LogUniform, Parameter, SearchSpace

#: Our sampler -> the method of a sweep; both Bayesian ones are its one.
_METHODS = {"tpe": "bayes", "gp": "bayes", "grid": "grid", "random": "random"}
#: Gives every ``key=value`` of the agent its ``--set``, and each run a folder of its own.
_SCRIPT = 'for pair; do set -- "$@" --set "$pair"; shift; done; exec {command} "$@"'

#: Values of an integer on a logarithmic scale, which sweeps have not got.
LOG_INTEGERS = 24


def write_sweep(
    path: Path,
    space: SearchSpace,
    *,
    metric: str,
    higher_is_better: bool,
    config: str,
    data: str,
    out: Path,
    overrides: Sequence[str] = (),
    device: str = "auto",
) -> Path:
    """Write a sweep file.

    Parameters
    ----------
    path : Path
    space : SearchSpace
    metric : str
        Validation metric.
    higher_is_better : bool
    config, data, overrides, device
        As ``deeplense train`` takes them.
    out : Path
        Folder of the runs.
    """
    changes = " ".join(f"--set {shlex.quote(text)}" for text in overrides)
    command = (
        f"deeplense train {shlex.quote(config)} --data {shlex.quote(data)} --out "
        f'{shlex.quote(str(out))}/"$WANDB_RUN_ID" --logger wandb --device {shlex.quote(device)}'
        + (f" {changes}" if changes else "")
    )
    content: dict[str, Any] = {
        "program": "deeplense",
        "project": "deeplense",
        "description": space.description,
        "method": _METHODS[space.sampler],
        "metric": {
            "name": f"val_{metric}",
            "goal": "maximize" if higher_is_better else "minimize",
        },
        "run_cap": space.n_trials,
        "parameters": {
            key: _parameter(parameter, space.sampler) for key, parameter in space.items().items()
        },
        "command": [
            "${env}", "WANDB_MODE=online", "sh", "-c", _SCRIPT.format(command=command), "deeplense",
            "${args_no_hyphens}",
        ],
    }  # fmt: skip
    if space.pruner in ("halving", "hyperband"):
        content["early_terminate"] = {"type": "hyperband", "min_iter": 1, "eta": 3}
    atomic_write(path, "".join(f"{key}: {_text(value)}\n" for key, value in content.items()))
    return path


def _parameter(parameter: Parameter, sampler: str) -> Mapping[str, Any]:
    if isinstance(parameter, Choice):
        return {"values": [_word(value) for value in parameter.values]}
    if sampler == "grid":
        return {"values": list(parameter.grid())}
    if isinstance(parameter, Integer):
        if parameter.log:
            ratio, n = parameter.high / parameter.low, LOG_INTEGERS - 1
            steps = (round(parameter.low * ratio ** (k / n)) for k in range(n + 1))
            return {"values": sorted(set(steps))}
        if parameter.step != 1:
            return {"values": list(parameter.grid())}
        return {"distribution": "int_uniform", "min": parameter.low, "max": parameter.high}
    kind = "log_uniform_values" if isinstance(parameter, LogUniform) else "uniform"
    return {"distribution": kind, "min": parameter.low, "max": parameter.high}


def _word(value: Any) -> Any:  # Any: what YAML can say
    """Value of a choice such that the agent's ``key=value`` means the same to ``--set``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and parse_scalar(value, "choice") == value:
        return value
    return canonical_json(value)


def _text(value: Any) -> str:  # Any: plain data
    """YAML 1.1, which Weights & Biases reads: a number with an exponent needs its point."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)}: {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, float):
        text = repr(value)
        return text if "." in text else text.replace("e", ".0e")
    return json.dumps(value, ensure_ascii=False)
