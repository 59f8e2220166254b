"""The command and its small data, as the command's own tests have them."""

from tests.cli.conftest import data, deeplense, preset, run_folder, training  # noqa: F401 - fixtures
