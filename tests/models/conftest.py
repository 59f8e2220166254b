"""The command and its small data, as the command's own tests have them."""

from tests.cli.conftest import data, deeplense, preset  # noqa: F401 - fixtures
