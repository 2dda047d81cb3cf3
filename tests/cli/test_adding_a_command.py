"""A public function takes four files: its module, its result, and its name in two. A command takes two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.changed_copy import ChangedCopy, item_with

pytestmark = pytest.mark.behaviour

MODULE = '''
import asyncio

from stacpull.engine.mirror_status import status
from stacpull.reports import SizeReport


async def mirror_size(dest):
    """Return how large the mirror at `dest` is."""
    found = await asyncio.to_thread(status, dest)
    return SizeReport(found.assets_done, found.bytes_done)
'''
REPORT = '''\
class SizeReport(PublicValue, frozen=True):
    """How large a mirror is, in bytes."""

    files: int
    bytes: int


'''
COMMAND = '''
from stacpull.cli import parameters
from stacpull.cli.command import command


@command("size", parameters.dest(), *parameters.named("work", "json", "quiet"), examples=["size s2"])
def size(session, dest):
    """Print how large the mirror in DEST is."""
    from stacpull.engine.mirror_size import mirror_size

    report = session.run_cancelled(mirror_size(dest))
    return session.finish(report, [f"{report.files} files, {report.bytes} bytes"])
'''
ENTRY = '    "size": (f"{_CLI}size_command:size", "Print how large the mirror in DEST is."),\n'


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> ChangedCopy:
    copy = ChangedCopy(tmp_path_factory.mktemp("copy"))
    copy.add("engine/mirror_size.py", MODULE)
    copy.insert("reports.py", REPORT, before="class VerifyReport")
    copy.publish("mirror_size", "stacpull.engine.mirror_size")
    lines = {"engine/mirror_size.py": None, "reports.py": 7, "__init__.pyi": 1, "sync.py": 2}
    assert copy.changed == lines
    copy.add("cli/size_command.py", COMMAND)
    copy.insert("cli/main.py", ENTRY, before='    "verify": (')
    assert copy.changed == {**lines, "cli/size_command.py": None, "cli/main.py": 1}
    return copy


@pytest.fixture
def dest(copy: ChangedCopy, tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_text("12345")
    (tmp_path / "item.json").write_text(item_with({"a": {"href": "a.bin"}}))
    assert copy.run("mirror", tmp_path / "item.json", tmp_path / "m").returncode == 0
    return tmp_path / "m"


def test_the_command_is_listed_and_prints_the_report(copy: ChangedCopy, dest: Path) -> None:
    assert "Print how large the mirror in DEST is." in copy.output("--help")
    assert "stacpull size s2" in copy.output("size", "--help")
    assert copy.run("size", dest).stdout == "1 files, 5 bytes\n"
    assert json.loads(copy.run("size", dest, "--json").stdout) == {"files": 1, "bytes": 5}
    nowhere = copy.run("size", dest / "nowhere")
    assert (nowhere.returncode, nowhere.stderr.startswith("stacpull: ")) == (2, True)


def test_the_function_is_public_with_and_without_asyncio(copy: ChangedCopy, dest: Path) -> None:
    printed = copy.evaluated(
        "import asyncio, stacpull, stacpull.sync\n"
        f"print(asyncio.run(stacpull.mirror_size({str(dest)!r})).bytes)\n"
        f"print(stacpull.sync.mirror_size({str(dest)!r}).files)\n"
        "print('mirror_size' in stacpull.__all__, 'mirror_size' in dir(stacpull))"
    )
    assert printed == "5\n1\nTrue True\n"
