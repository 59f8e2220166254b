"""The frame every command runs in: light start, help, exit codes, one handler, clean stdout."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline.cli import main as cli
from pipeline.cli.output import Result, table
from pipeline.core.errors import ConfigError, DatasetError

HEAVY = (
    "torch", "lenstronomy", "autolens", "jax", "e2cnn", "vit_pytorch", "zarr", "prefect", "scipy",
    "astropy", "matplotlib", "sklearn", "gradio", "lightning_fabric", "pandas",
)  # fmt: skip


def deeplense(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("arguments", [["--help"], *([c.name, "--help"] for c in cli.COMMANDS)])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from pipeline.cli.main import run\n"
        f"code = run({arguments!r})\n"
        "roots = {name.partition('.')[0] for name in sys.modules}\n"
        f"print(code, sorted(roots & set({HEAVY!r})), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "0 []"


def test_help_lists_every_command_with_its_summary() -> None:
    done = deeplense("--help", env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0
    for command in cli.COMMANDS:
        assert command.name in done.stdout
        assert command.summary in done.stdout


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda c: c.name)
def test_help_of_a_command_shows_its_examples(command: cli.Command) -> None:
    done = deeplense(command.name, "--help", env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0
    assert command.examples.startswith(f"deeplense {command.name}")
    for line in command.examples.splitlines():
        assert line in done.stdout


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda c: c.name)
def test_examples_parse(command: cli.Command) -> None:
    import shlex

    for line in command.examples.splitlines():
        if line.startswith("deeplense "):
            tokens = shlex.split(line.partition(" > ")[0])[1:]
            function, _, _ = cli.build_app().parse_args(
                tokens, exit_on_error=False, print_error=False
            )
            assert function.__module__.startswith("pipeline.cli.")


def test_unknown_command_names_the_nearest_and_exits_2() -> None:
    done = deeplense("simulat")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "simulat" in done.stderr
    assert "Traceback" not in done.stderr


def test_version_is_on_stdout() -> None:
    assert deeplense("--version").stdout.strip() == cli.version("deeplense-pipeline")


def _fails_with(error: BaseException) -> Result:
    raise error


CASES = [
    (ConfigError("a.yaml:3: seed: bad"), 2, "deeplense: a.yaml:3: seed: bad\n"),
    (DatasetError("a.zarr: broken"), 1, "deeplense: a.zarr: broken\n"),
    (KeyboardInterrupt(), 130, "deeplense: interrupted: what is finished is kept; "),
    (cli.Terminated(), 130, "deeplense: terminated: what is finished is kept; "),
    (OSError(28, "No space left on device", "a.zarr"), 1, "deeplense: a.zarr: No space left"),
    (MemoryError(), 1, "deeplense: not enough memory"),
    (KeyError("x"), 1, "deeplense: this is a bug in deeplense, please report it: KeyError: 'x'."),
]


@pytest.mark.parametrize(("error", "code", "message"), CASES, ids=lambda v: type(v).__name__)
def test_error_becomes_a_paragraph_and_an_exit_code(
    error: BaseException,
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli, "_run", lambda tokens, debug: _fails_with(error))
    assert cli.run(["presets"]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_debug_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(tokens: list[str], debug: bool) -> NoReturn:
        assert tokens == ["presets", "--", "--debug"]
        raise ConfigError("wrong")

    monkeypatch.setattr(cli, "_run", run)
    assert cli.run(["presets", "--debug", "--", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("deeplense: wrong\n")


def test_stdout_holds_the_result_and_nothing_a_library_says(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(
        "import os, subprocess, sys\n"
        "from pipeline.cli.output import Result\n"
        "def noisy(*, json: bool = False) -> Result:\n"
        "    print('chatter')\n"
        "    os.write(1, b'from C\\n')\n"
        "    subprocess.run([sys.executable, '-c', 'print(\"child\")'], check=True)\n"
        "    return Result({'x': float('nan'), 'y': [1, 2]}, 'the answer')\n"
    )
    script = (
        "import sys\n"
        "import noisy\n"
        "from pipeline.cli import main\n"
        "noisy.noisy.__module__ = 'pipeline.cli.noisy'\n"
        "main.COMMANDS = (main.Command('noisy', 'noisy:noisy', 'Talk.', 'deeplense noisy'),)\n"
        "sys.exit(main.run(sys.argv[1:]))\n"
    )
    for flags, expected in ((["--json"], None), ([], "the answer\n")):
        done = subprocess.run(
            [sys.executable, "-c", script, "noisy", *flags],
            capture_output=True, text=True, cwd=tmp_path, check=True,
            env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(cli.__file__).parents[2]}"},
        )  # fmt: skip
        if expected is None:
            assert json.loads(done.stdout) == {"x": None, "y": [1, 2]}
            assert done.stdout.count("\n") == 1
        else:
            assert done.stdout == expected
        for word in ("chatter", "from C", "child"):
            assert word in done.stderr


def test_table_aligns_and_cuts_nothing() -> None:
    assert table(("a", "b"), [("long" * 40, "x"), ("y", "z")]).splitlines()[2] == (
        "y" + " " * 161 + "z"
    )
