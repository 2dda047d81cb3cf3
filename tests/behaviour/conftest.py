"""Every test here belongs to the behaviour suite: it uses only what a user of stacpull can use."""

from pathlib import Path

import pytest

_HERE = f"{Path(__file__).parent}/"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this directory, so that `-m behaviour` runs the whole suite."""
    for item in items:
        if str(item.path).startswith(_HERE):
            item.add_marker(pytest.mark.behaviour)
