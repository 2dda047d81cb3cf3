"""A run that was killed within a commit of the ledger: every command works at once."""

import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from tests.acceptance.command import COMMAND, environment, run
from tests.items import feature

STRACE = shutil.which("strace")
WITHIN_A_COMMIT = """
import os, signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = DELETE")
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN")
db.execute("UPDATE runs SET state = 'failed', reason = hex(zeroblob(100000))")
db.execute("DELETE FROM items")
db.execute("UPDATE meta SET value = hex(zeroblob(100000))")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def item(tmp_path: Path) -> Path:
    (tmp_path / "a.tif").write_bytes(b"data")
    item = feature("i", {"a": "a.tif"})
    (tmp_path / "item.json").write_bytes(orjson.dumps(item))
    return tmp_path / "item.json"


@pytest.mark.parametrize("command", ["status", "verify", "resume", "export"])
def test_a_hot_journal_is_rolled_back_by_the_first_command(item: Path, tmp_path: Path, command: str) -> None:
    dest = tmp_path / "m"
    assert run(["mirror", str(item), str(dest)], environment()).code == 0
    ledger = dest / ".stacpull/ledger.sqlite"
    subprocess.run([sys.executable, "-c", WITHIN_A_COMMIT, str(ledger)], check=False)
    assert ledger.with_name("ledger.sqlite-journal").stat().st_size > 0
    more = [str(tmp_path / "o.csv"), "-f", "csv"] if command == "export" else []
    ran = run([command, str(dest), *more], environment())
    assert ran.code == 0, ran.err
    assert run(["status", str(dest), "--json"], environment()).report["state"] == "complete"


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_a_kill_within_the_first_transaction_is_not_a_lack_of_permission(item: Path, tmp_path: Path) -> None:
    struck = tmp_path / "struck"
    strike = ["-f", "-o", "/dev/null", "-e", "trace=fdatasync"]
    strike += ["-e", "inject=fdatasync:signal=SIGKILL:when=4"]
    mirror = [str(COMMAND), "mirror", str(item), str(struck)]
    subprocess.run([str(STRACE), *strike, *mirror], check=False, capture_output=True, env=environment())
    for command in ("status", "failures", "verify", "resume", "retry"):
        dest = shutil.copytree(struck, tmp_path / command)
        ran = run([command, str(dest)], environment())
        assert (ran.code, "has no mirror yet" in ran.err) == (2, True), (command, ran.err)
        assert run(["mirror", str(item), str(dest)], environment()).code == 0, command
