"""A config file with SOURCE and DEST is a complete job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.changed_copy import item_with

pytestmark = pytest.mark.behaviour

COMMAND = Path(sys.executable).with_name("stacpull")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def test_source_and_dest_stand_in_a_config_file(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_text("12345")
    (tmp_path / "item.json").write_text(item_with({"a": {"href": "a.bin"}}))
    (tmp_path / "nightly.toml").write_text('source = "item.json"\ndest = "m"\nchecksum = "none"\n')
    missing = run(tmp_path, "mirror", "item.json")
    assert (missing.returncode, "Missing argument 'DEST'" in missing.stderr) == (2, True)
    ran = run(tmp_path, "mirror", "--config", "nightly.toml", "--json")
    assert json.loads(ran.stdout.splitlines()[-1])["assets_done"] == 1
    assert (tmp_path / "m" / "catalog.json").is_file()
    assert run(tmp_path, "plan", "--config", "nightly.toml").stdout.count("are in m already") == 1
    assert run(tmp_path, "resume", "--config", "nightly.toml").returncode == 0
    assert run(tmp_path, "mirror", "item.json", "other", "--config", "nightly.toml").returncode == 0
    assert (tmp_path / "other" / "catalog.json").is_file()
