from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Ran

from stacpull_replicas.demo_command import tree

EXPORTED = (
    "MLHUB_API_KEY",
    "AWS_ENDPOINT_URL_S3",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
)


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty directory, and restore the environment that the demo changes."""
    for name in (*EXPORTED, "AWS_ACCESS_KEY_ID", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.setenv(name, "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
