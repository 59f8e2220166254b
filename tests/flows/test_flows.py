"""The flows as Prefect loads them: names, parameters, deployments, and what is retried."""

import errno
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.core.errors import ConfigError, OutputError

from .conftest import Prefect

ROOT = Path(__file__).resolve().parents[2]
DEPLOYMENTS = YAML(typ="safe").load((ROOT / "prefect.yaml").read_text())["deployments"]


def _flow(entrypoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(ROOT)
    return load_flow_from_entrypoint(entrypoint)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["entrypoint"])
def test_deployment_names_a_flow_and_parameters_it_takes(
    deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = _flow(deployment["entrypoint"], monkeypatch)
    assert deployment["name"] == "local"
    assert flow.name == Path(deployment["entrypoint"].partition(":")[0]).stem.replace("_", "-")
    assert flow.validate_parameters(deployment["parameters"])
    assert not flow.persist_result


def test_all_flows_are_deployed() -> None:
    names = {Path(d["entrypoint"].partition(":")[0]).stem for d in DEPLOYMENTS}
    assert names == {"simulate", "train", "tune", "score", "simulate_and_train"}


#: Where a cluster is; the command itself never leaves its machine.
ONLY_OF_FLOWS = {"runner", "address", "shards_per_task", "partitions"}


@pytest.mark.parametrize("name", ["simulate", "train", "tune", "score"])
def test_parameters_have_the_names_of_the_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import import_module

    flow = _flow(f"flows/{name}.py:{name}", monkeypatch)
    command = getattr(import_module(f"pipeline.cli.{name}"), name)
    flags = {flag.rstrip("_") for flag in inspect.signature(command).parameters}
    assert set(flow.parameters.properties) - ONLY_OF_FLOWS <= flags


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"images": -5}, "greater than 0"),
        ({"images": "many"}, "integer"),
        ({"pixels": 3}, "pixels"),
    ],
)
def test_wrong_parameters_are_refused(
    parameters: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.exceptions import ParameterTypeError, SignatureMismatchError

    flow = _flow("flows/simulate.py:simulate", monkeypatch)
    with pytest.raises((ParameterTypeError, SignatureMismatchError, TypeError), match=message):
        flow.validate_parameters(parameters)


def _chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EIO, "I/O error"), True),
        (_chained(OutputError("a.zarr: cannot be written"), OSError(errno.ESTALE, "stale")), True),
        (_chained(OutputError("a.zarr: disk full"), OSError(errno.ENOSPC, "full")), False),
        (ConfigError("a.yaml:1: bad"), False),
        (KeyError("bug"), False),
    ],
)
def test_only_passing_faults_of_disks_and_networks_are_retried(
    error: Exception, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.states import Failed

    monkeypatch.syspath_prepend(ROOT / "flows")
    from run_page import is_transient

    assert is_transient(None, None, Failed(data=error)) is expected


def test_relative_paths_are_in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "flows")
    monkeypatch.chdir("/")
    from run_page import config_source, in_checkout

    assert in_checkout(Path("runs/x")) == ROOT / "runs/x"
    assert in_checkout(Path("/data/x")) == Path("/data/x")
    assert config_source("demo") == "demo"
    assert config_source("mine.yaml") == str(ROOT / "mine.yaml")


def test_readme_prints_every_command_from_zero_to_a_run(commands: Any) -> None:
    assert commands.run[:3] == ["prefect", "deployment", "run"]
    assert "simulate-and-train/local" in commands.run
    assert "--watch" in commands.run
    assert {"PREFECT_HOME", "PREFECT_API_URL"} <= commands.environment.keys()
    assert len(commands.prepare) == 2


@pytest.mark.parametrize(
    ("module", "function", "flow"),
    [("shard_tasks", "_cluster_flow", "shards"), ("tune", "_trial_flow", "trials")],
)
def test_workers_of_a_cluster_need_no_checkout(
    module: str, function: str, flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import import_module

    import cloudpickle
    from prefect.task_runners import ThreadPoolTaskRunner

    monkeypatch.syspath_prepend(ROOT / "flows")
    made = getattr(import_module(module), function)(ThreadPoolTaskRunner())
    sent = cloudpickle.dumps(made)
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).name)"
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stdout.strip() == flow.encode()


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["local", "dask", "ray"])
def test_partitions_on_any_runner_give_the_table_of_one_run(
    runner: str, prefect: Prefect, tmp_path: Path
) -> None:
    """In a process of its own, as a worker runs it: the flow's module is no installed one."""
    code = (
        "import sys; sys.path.insert(0, 'flows')\n"
        "from pathlib import Path\n"
        "from pipeline.benchmark.score import _write_files, write_run\n"
        "from pipeline.inference.score import run_scoring\n"
        "from prefect.flows import load_flow_from_entrypoint\n"
        "if __name__ == '__main__':\n"
        f"    root = Path({str(tmp_path)!r})\n"
        "    run, sky = write_run(root / 'run'), root / 'sky'\n"
        "    _write_files(sky, 30)\n"
        "    flow = load_flow_from_entrypoint('flows/score.py:score')\n"
        f"    flow(run, [sky], root / 'parts.csv', partitions=3, runner={runner!r})\n"
        "    run_scoring(run, [sky], root / 'whole.csv', workers=0)\n"
        "    same = (root / 'parts.csv').read_bytes() == (root / 'whole.csv').read_bytes()\n"
        "    sys.exit(0 if same else 7)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": prefect.url,  # else every worker starts a server of its own
        "PREFECT_LOGGING_LEVEL": "WARNING", "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, script], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
