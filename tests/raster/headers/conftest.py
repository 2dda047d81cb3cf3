"""The fixtures of command line tests, shared with `tests/cli`."""

from __future__ import annotations

from tests.cli.conftest import no_variables_of_the_tests, stacpull_command

__all__ = ["no_variables_of_the_tests", "stacpull_command"]
