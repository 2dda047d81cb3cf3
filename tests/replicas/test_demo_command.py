from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from tests.ran import Ran

from stacpull_replicas.demo_command import tree


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Change to an empty directory, and restore the environment that the demo changes."""
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict(os.environ):
        yield tmp_path


def test_the_demo_continues_in_an_existing_directory(stacpull_command, somewhere):
    assert stacpull_command("demo", "there", "-q") == Ran(0, "", "")
    ran = stacpull_command("demo", "there", "--json")
    report = json.loads(ran.out.splitlines()[-1])
    assert (ran.code, report["assets_skipped"], report["assets_failed"]) == (0, 65, 0)
    assert [path.name for path in somewhere.iterdir()] == ["there"]


def test_the_printed_tree_is_short_and_omits_the_state_directory(tmp_path: Path) -> None:
    for name in ("b/1", "b/2", "b/3", "b/4", "a/1", ".stacpull/ledger", "z"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x" * 1234)
    assert list(tree(tmp_path))[1:] == [
        "  a/",
        "    1  1,234 B",
        "  b/",
        "    1  1,234 B",
        "    2  1,234 B",
        "    ... and 2 more",
        "  z  1,234 B",
    ]
