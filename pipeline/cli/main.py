"""The ``deeplense`` command: a table of lazy commands and the one place that handles errors.

Nothing heavy is imported here or by a command's module; a command imports what it needs when it
runs. Results go to stdout, everything else to stderr.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from inspect import BoundArguments
from types import FrameType
from typing import IO, Any, NamedTuple, NoReturn

from cyclopts import App, CycloptsError

from pipeline.cli.output import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, Result
from pipeline.core import logs
from pipeline.core.cores import wait_without_spinning
from pipeline.core.errors import ConfigError, DeepLenseError
from pipeline.core.plugins import use_plugins


class Command(NamedTuple):
    """One line of ``deeplense --help`` and the example under ``deeplense NAME --help``."""

    name: str
    function: str
    summary: str
    examples: str


COMMANDS: tuple[Command, ...] = (
    Command(
        "demo",
        "pipeline.cli.demo:demo",
        "Everything in ten minutes: simulate, train, evaluate, score, and a report to look at.",
        "deeplense demo\ndeeplense demo --out DIR --open",
    ),
    Command(
        "presets",
        "pipeline.cli.presets:presets",
        "List the dataset presets, or print one with the unit of every number.",
        "deeplense presets\ndeeplense presets demo\ndeeplense presets demo > mine.yaml",
    ),
    Command(
        "simulate",
        "pipeline.cli.simulate:simulate",
        "Make a dataset from a preset or a YAML file, or complete an interrupted one.",
        "deeplense simulate demo --out data.zarr --images 3000\n"
        "deeplense simulate mine.yaml --out mine.zarr --seed 7 --set n_pix=96 --workers 4",
    ),
    Command(
        "preview",
        "pipeline.cli.preview:preview",
        "Draw a contact sheet of a preset in seconds: every class, and what it changes.",
        "deeplense preview demo\ndeeplense preview mine.yaml --out mine.png --n 8",
    ),
    Command(
        "inspect",
        "pipeline.cli.inspect:inspect",
        "Show what is in a dataset: counts, parameters, pictures, duplicates, origin.",
        "deeplense inspect data.zarr --out data.html\n"
        "deeplense inspect data.zarr --no-pixels --json",
    ),
    Command(
        "import",
        "pipeline.cli.import_images:import_images",
        "Make a dataset of images that exist: .npy folders, stacks, archives, FITS.",
        "deeplense import Model_II/ --out model_ii.zarr --pixel-scale 0.05\n"
        "deeplense import cutouts/ --labels cutouts.csv --out cutouts.zarr",
    ),
    Command(
        "merge",
        "pipeline.cli.merge:merge",
        "Make one dataset of several; no image lies in two splits.",
        "deeplense merge a.zarr b.zarr --out both.zarr\n"
        "deeplense merge a.zarr b.zarr --out both.zarr --resplit --fractions 0.8 0.1 0.1",
    ),
    Command(
        "split",
        "pipeline.cli.split:split",
        "Divide a dataset by split, by class, or in fractions.",
        "deeplense split data.zarr --out parts\n"
        "deeplense split data.zarr --out parts --by fraction --fraction 0.1 --fraction 0.9",
    ),
    Command(
        "export",
        "pipeline.cli.export:export",
        "Write a run as ONNX, or a dataset as .npy, HDF5, or FITS as a survey delivers it.",
        "deeplense export runs/mine --onnx mine.onnx\n"
        "deeplense export data.zarr --format fits --out cutouts --split test\n"
        "deeplense export data.zarr --format npy --out folders --pairs axion_mass\n"
        "deeplense export data.zarr --format hdf5 --out data.h5",
    ),
    Command(
        "audit",
        "pipeline.cli.audit:audit",
        "Check a dataset: digests, structure, a second engine, and what leaks the class.",
        "deeplense audit data.zarr\ndeeplense audit data.zarr --out audit.html --json",
    ),
    Command(
        "train",
        "pipeline.cli.train:train",
        "Train a network on a dataset, or go on with an interrupted run.",
        "deeplense train demo --data data.zarr --out runs/first\n"
        "deeplense train demo --data data.zarr --out runs/cvt --model cvt --device cuda\n"
        "deeplense train lens_hybrid --data contrast_hst --out runs/fly",
    ),
    Command(
        "tune",
        "pipeline.cli.tune:tune",
        "Search for good settings: many trainings, each learning from those before.",
        "deeplense tune demo --data data.zarr --out studies/first --trials 20\n"
        "deeplense tune lens_hybrid --space mine.yaml --data data.zarr --out studies/mine "
        "--workers 2\n"
        "deeplense tune demo --data data.zarr --out studies/first --export-sweep sweep.yaml",
    ),
    Command(
        "evaluate",
        "pipeline.cli.evaluate:evaluate",
        "Measure a trained network: accuracy, AUC with 95 % intervals, calibration.",
        "deeplense evaluate runs/first --data data.zarr",
    ),
    Command(
        "compare",
        "pipeline.cli.compare:compare",
        "Train or load many networks, and compare them on the same images in one table.",
        "deeplense compare runs/first runs/cvt --data data.zarr\n"
        "deeplense compare --models all --preset demo --images 3000 --minutes 2\n"
        "deeplense compare --models lens_hybrid --models cvt --data data.zarr --seeds 3",
    ),
    Command(
        "fit",
        "pipeline.cli.fit:fit",
        "Fit smooth lenses to a dataset or to FITS files: parameters, chi2, residuals.",
        "deeplense fit data.zarr --out fits.ecsv --page triples.html\n"
        "deeplense fit images/ --instrument hst_acs_f814w --config observed --out fits.ecsv",
    ),
    Command(
        "score",
        "pipeline.cli.score:score",
        "Score FITS files with a trained network: a row for each, scored or rejected.",
        "deeplense score runs/first images/ --out scores.ecsv\n"
        "deeplense score runs/first a.fits b.fits --out scores.csv --strict",
    ),
    Command(
        "explain",
        "pipeline.cli.explain:explain",
        "Show which pixels an answer rests on, and how often they are the substructure's.",
        "deeplense explain runs/first --data data.zarr --out explained.html\n"
        "deeplense explain runs/first --data data.zarr --method occlusion --method gradient",
    ),
    Command(
        "report",
        "pipeline.cli.report:report",
        "Write one self-contained HTML file about a run or a table of scores.",
        "deeplense report runs/first --data data.zarr\n"
        "deeplense report scores.ecsv --images images/ --out scores.html",
    ),
    Command(
        "app",
        "pipeline.cli.app:app",
        "Serve a page: drop an image and see its scores, simulate a lens with sliders.",
        "deeplense app runs/first\ndeeplense app runs/first --port 8000 --no-open",
    ),
    Command(
        "models",
        "pipeline.cli.models:models",
        "List the networks with their sizes, or show one with its configuration.",
        "deeplense models\ndeeplense models lens_hybrid",
    ),
    Command(
        "bench",
        "pipeline.cli.bench:bench",
        "Measure how fast images are made, and how well the engines agree.",
        "deeplense bench simulate\ndeeplense bench simulate --quick --json\n"
        "deeplense bench engines\ndeeplense bench dataset\ndeeplense bench train",
    ),
    Command(
        "doctor",
        "pipeline.cli.doctor:doctor",
        "Check versions, devices, extras and the Prefect server; run a short self-test.",
        "deeplense doctor\ndeeplense doctor --json",
    ),
)


class Terminated(KeyboardInterrupt):
    """SIGTERM, so that a terminated run cleans up like an interrupted one."""


def main() -> NoReturn:
    """Run the command in ``sys.argv`` and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Parameters
    ----------
    arguments : sequence of str
        What follows ``deeplense``. ``--debug`` may stand anywhere before a bare ``--``.

    Returns
    -------
    int
        0 done, 1 failed, 2 bad usage or configuration, 3 finished but inputs were rejected under
        ``--strict``, 130 interrupted.
    """
    tokens, debug = _take_debug(arguments)
    try:
        tokens = _take_plugins(tokens)
        return _run(tokens, debug)
    except CycloptsError as error:
        return _explain(f"{error} See: {_help_command(tokens)}", EXIT_USAGE, debug)
    except ConfigError as error:
        return _explain(str(error), EXIT_USAGE, debug)
    except DeepLenseError as error:
        return _explain(str(error), EXIT_FAILED, debug)
    except KeyboardInterrupt as error:
        how = "terminated" if isinstance(error, Terminated) else "interrupted"
        again = "what is finished is kept; the same command continues from there"
        return _explain(f"{how}: {again}", EXIT_INTERRUPTED, debug)
    except BrokenPipeError:
        _forget_stdout()
        return EXIT_FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _explain(f"{where}{error.strerror or error}", EXIT_FAILED, debug)
    except MemoryError:
        return _explain(
            "not enough memory; try smaller images or fewer workers", EXIT_FAILED, debug
        )
    except Exception as error:  # noqa: BLE001 - the one top-level handler
        line = " ".join(f"{type(error).__name__}: {error}".split())
        hint = "" if debug else " --debug shows the traceback."
        return _explain(
            f"this is a bug in deeplense, please report it: {line}.{hint}", EXIT_FAILED, debug
        )


def build_app() -> App:
    """Return the table of commands as a cyclopts application; imports no command."""
    app = App(
        name="deeplense",
        help=(
            "Strong-lensing simulations with dark-matter substructure, networks trained on them, "
            "and scores for FITS images."
        ),
        help_format="plaintext",
        help_epilogue=(
            "Start here: deeplense demo\n"
            "Every command explains itself: deeplense COMMAND --help\n"
            "With --debug, errors show their traceback; with --plugins DIR, kinds of your own are "
            "found in DIR/models, DIR/tasks and so on."
        ),
        version=lambda: version("deeplense-pipeline"),
    )
    for position, command in enumerate(COMMANDS):
        examples = "\n".join(f"  {line}" for line in command.examples.splitlines())
        app.command(
            command.function,
            name=command.name,
            help=command.summary,
            sort_key=position,
            help_epilogue=f"Examples:\n{examples}",
        )
    return app


def _run(tokens: list[str], debug: bool) -> int:
    function, bound, _ = build_app().parse_args(tokens, exit_on_error=False, print_error=False)
    if not function.__module__.startswith("pipeline.cli"):  # --help and --version
        function(*bound.args, **bound.kwargs)
        sys.stdout.flush()
        return EXIT_DONE
    logs.configure(10 if debug else 20)
    wait_without_spinning()
    with _results_only() as stream, _terminable():
        result = _call(function, bound)
        stream.write(result.as_json() if bound.arguments.get("json") else result.as_text())
        stream.flush()
    return result.exit_code


def _call(function: Callable[..., Any], bound: BoundArguments) -> Result:
    result = function(*bound.args, **bound.kwargs)
    assert isinstance(result, Result), f"{function.__name__} must return a Result"
    return result


@contextmanager
def _results_only() -> Iterator[IO[str]]:
    """Yield the real stdout; whatever else writes to stdout meanwhile goes to stderr.

    This holds for file descriptor 1, so for C libraries and child processes too.
    """
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(saved, "w", encoding="utf-8", closefd=False) as stream:
            yield stream
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def _take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags, rest = list(arguments[:end]), list(arguments[end:])
    return [a for a in flags if a != "--debug"] + rest, "--debug" in flags


def _take_plugins(tokens: Sequence[str]) -> list[str]:
    """Take every ``--plugins DIR`` out of the arguments and search these folders for kinds."""
    rest: list[str] = []
    left = iter(tokens)
    for token in left:
        if token == "--":
            return [*rest, token, *left]
        flag, equals, folder = token.partition("=")
        if flag != "--plugins":
            rest.append(token)
            continue
        folder = folder if equals else next(left, "")
        if not folder:
            raise ConfigError("--plugins: expected a folder")
        use_plugins(folder)
    return rest


def _explain(text: str, code: int, debug: bool) -> int:
    if debug and code != EXIT_INTERRUPTED:
        import traceback

        traceback.print_exc()
    sys.stderr.write(f"deeplense: {text.strip()}\n")
    return code


def _help_command(tokens: Sequence[str]) -> str:
    known = tokens[0] if tokens and tokens[0] in {c.name for c in COMMANDS} else ""
    return " ".join(filter(None, ("deeplense", known, "--help")))


def _forget_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM raise, so that locks, temporary files and workers are cleaned up."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
