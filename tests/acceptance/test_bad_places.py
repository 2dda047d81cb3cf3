"""Bad places of this machine: each ends with the right exit code and a sentence, or does not matter."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.command import COMMAND, environment, run, unprivileged, wait_until
from tests.acceptance.static_tree import write_tree
from tests.items import feature

import stacpull
from stacpull import DestinationError, UsageError, sync

LONG = "n" * 256
MEMORY = Path("/dev/shm")  # noqa: S108 - a file system, in which each test has a directory of its own
ITEM = feature("a")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    whole = tmp_path_factory.mktemp("whole")
    source = str(write_tree(whole / "tree", 1, 1))
    assert run(["mirror", source, str(whole / "m"), "--all-collections"], environment()).code == 0
    return whole


@pytest.fixture
def source(whole: Path) -> str:
    return str(whole / "tree/catalog.json")


@pytest.fixture
def dest(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole / "m", tmp_path / "m")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["mirror", "items.json", "{dest}"], 2, "SOURCE is a relative path, but the current directory was"),
        (["mirror", "{source}", "here", "--all-collections"], 5, "here cannot be written"),
        (["export", "{dest}", "items.parquet"], 5, "items.parquet cannot be written"),
        (["report", "{dest}"], 5, "report.html cannot be written"),
        (["verify", "{dest}"], 0, ""),
    ],
)
def test_a_current_directory_that_was_removed_is_named(source, dest, tmp_path, arguments, code, message):
    (tmp_path / "gone").mkdir()
    command = [str(COMMAND), *(one.format(source=source, dest=dest) for one in arguments)]
    shell = ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *command]
    ran = subprocess.run(
        shell, cwd=tmp_path / "gone", env=environment(), capture_output=True, text=True, check=False
    )
    assert ran.returncode == code, ran.stderr
    assert message in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["export", "{dest}", f"{LONG}.parquet"], 5),
        (["export", "{dest}", LONG, "-f", "webdataset"], 5),
        (["report", "{dest}", "-o", LONG], 5),
        (["headers", "{source}", "--all-collections", "-o", f"{LONG}.csv"], 5),
        (["trace", "c", "--bbox", "0,0,1,1", "--datetime", "2020", "-o", LONG], 5),
        (["mirror", "{source}", LONG, "--all-collections"], 5),
        (["mirror", "{source}", LONG, "--all-collections", "--credentials", "planetary-computer"], 5),
        (["mirror", "{source}", "m", "--ca-bundle", LONG], 2),
        (["mirror", "{source}", "m", "--dask", LONG], 2),
        (["mirror", "{source}", "s3://bucket/m", "--work", LONG], 5),
    ],
)
def test_an_argument_with_a_name_that_is_too_long_is_named(source, dest, tmp_path, arguments, code):
    ran = run([one.format(source=source, dest=dest) for one in arguments], environment(), tmp_path)
    if sys.version_info >= (3, 14):  # `Path.exists` is False there, so a later check may fail
        assert ran.code in {2, 3, 5}, ran.err
        return
    assert (ran.code, "File name too long" in ran.err) == (code, True), ran.err
    assert code == 2 or "cannot be " in ran.err


@pytest.mark.parametrize("login", [[], ["--credentials", "planetary-computer"]])
def test_a_dest_in_a_directory_that_cannot_be_entered_is_exit_5(source, tmp_path, login):
    (tmp_path / "box").mkdir(mode=0o600)
    try:
        ran = unprivileged("mirror", source, str(tmp_path / "box/m"), "--all-collections", *login)
    finally:
        (tmp_path / "box").chmod(0o755)
    assert (ran.code, "No permission to write" in ran.err) == (5, True), ran.err


@pytest.mark.parametrize(
    "name", [".stacpull", *(f".stacpull/{name}" for name in ("parts", "boot", "lock", "ledger.backup.part"))]
)
def test_a_file_or_directory_in_the_way_of_a_run_is_named(source: str, tmp_path: Path, name: str) -> None:
    place = tmp_path / "m" / name
    place.parent.mkdir(parents=True)
    if place.name in {"boot", "lock", "ledger.backup.part"}:
        place.mkdir()
    else:
        place.touch()
    ran = run(["mirror", source, str(tmp_path / "m"), "--all-collections"], environment())
    assert ran.code == 5, ran.err
    assert ran.sentences[-1].startswith(f"stacpull: {place} "), ran.err
    assert "Errno" not in ran.err


NOBODY = "~nobody-has-this-name/file.parquet"


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "{dest}", NOBODY],
        ["plan", "{source}", "--config", NOBODY],
        ["plan", "{source}", "--header", f"@{NOBODY}"],
        ["plan", "{source}", "--credentials", f"{NOBODY}.toml"],
        ["plan", "{source}", "--ids", f"@{NOBODY}"],
        ["plan", "{source}", "--intersects", f"@{NOBODY}"],
        ["plan", "{source}", "--clip", f"@{NOBODY}"],
        ["plan", "{source}", "--ca-bundle", NOBODY],
        ["plan", "{source}", "--work", NOBODY],
    ],
)
def test_a_path_below_a_home_directory_that_does_not_exist_is_exit_2(source, dest, arguments):
    ran = run([one.format(source=source, dest=dest) for one in arguments], environment())
    assert ran.code == 2, ran.err
    assert NOBODY in ran.err


def test_a_user_without_a_home_directory_has_no_profiles_and_no_netrc_file(source: str) -> None:
    env = environment(XDG_CONFIG_HOME=NOBODY, NETRC=NOBODY)
    ran = run(["credentials", "list", "--json"], env)
    assert (ran.code, ran.err) == (0, "")
    ran = run(["plan", source, "--all-collections", "--credentials", "earthdata"], env)
    assert "bug in stacpull" not in ran.err


def test_a_mirror_that_cannot_be_listed_has_no_report_and_no_plan_but_a_status(source, dest, tmp_path):
    dest.chmod(0o311)
    try:
        report = ["report", str(dest), "-o", str(tmp_path / "r.html")]
        for arguments in (report, ["plan", source, str(dest), "--all-collections"]):
            ran = unprivileged(*arguments)
            assert (ran.code, f"No permission to read {dest}." in ran.err) == (5, True), ran.err
        assert unprivileged("status", str(dest)).code == 0
    finally:
        dest.chmod(0o755)


def test_what_is_made_in_a_directory_that_can_only_be_written_to_is_made(source, dest, tmp_path):
    """Such a directory cannot be synced alone."""
    (tmp_path / "box").mkdir()
    (tmp_path / "box").chmod(0o333)
    try:
        made = unprivileged("export", str(dest), str(tmp_path / "box/labels.csv"), "-f", "csv")
        ran = unprivileged("mirror", source, str(tmp_path / "box/m"), "--all-collections")
    finally:
        (tmp_path / "box").chmod(0o755)
    assert (made.code, ran.code) == (0, 0), (made.err, ran.err)
    assert (tmp_path / "box/labels.csv").exists()


def test_the_path_of_dest_may_be_of_any_bytes(source: str, tmp_path: Path) -> None:
    dest = os.fsdecode(os.fsencode(tmp_path) + b"/J\xfcrgen")
    for _ in range(2):
        ran = run(["mirror", source, dest, "--all-collections", "--json"], environment())
        assert (ran.code, ran.report["state"]) == (0, "complete"), ran.err
    assert run(["retry", dest], environment()).code == 0  # only who named local files may have them read


@pytest.mark.skipif(not MEMORY.is_dir(), reason="needs a file system for times of any year")
def test_a_file_from_a_year_that_http_dates_cannot_state_is_mirrored(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        catalog = write_tree(Path(directory) / "tree", 1, 1)
        for path in Path(directory).rglob("*.*"):
            os.utime(path, (1e12, 1e12))
        report = sync.mirror(str(catalog), tmp_path / "m", selection=stacpull.Selection(all_collections=True))
    assert (report.state, report.assets_failed) == ("complete", 0)


# --- items of a program and of standard input -------------------------------------------------------------


def items_then(error: Exception) -> Iterator[dict[str, Any]]:
    yield ITEM
    raise error


@pytest.mark.parametrize("error", [ConnectionError("refused"), FileNotFoundError(2, "gone"), KeyError("x")])
@pytest.mark.parametrize("function", [sync.mirror, sync.plan])
def test_an_error_of_the_given_items_is_raised_as_it_is(tmp_path, function, error):
    with pytest.raises(type(error)) as caught:
        function(items_then(error), tmp_path / "m")
    assert caught.value is error
    assert not [*tmp_path.rglob("*.ndjson"), *tmp_path.rglob("*.part")]


def test_standard_input_that_cannot_be_read_is_exit_4(tmp_path: Path) -> None:
    command = [str(COMMAND), "mirror", "-", str(tmp_path / "m")]
    with (tmp_path / "written").open("wb") as here:
        ran = subprocess.run(
            command, stdin=here, env=environment(), capture_output=True, text=True, check=False
        )
    assert ran.returncode == 4, ran.stderr
    assert "Standard input cannot be read: Bad file descriptor." in ran.stderr


def test_what_a_kill_left_of_standard_input_is_removed(source: str, tmp_path: Path) -> None:
    dest = tmp_path / "m"

    def kept() -> list[Path]:
        return [one for one in dest.glob(".stacpull/*/*") if one.is_file()]

    command = [str(COMMAND), "mirror", "-", str(dest)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment()) as process:
        assert process.stdin is not None
        process.stdin.write(b"[" + b" " * 10_000)
        process.stdin.flush()
        assert wait_until(kept)
        process.kill()
    assert run(["mirror", source, str(dest), "--all-collections"], environment()).code == 0
    assert kept() == []


def test_without_a_place_for_temporary_files_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)
    with pytest.raises(DestinationError, match="set TMPDIR to a writable directory"):
        sync.plan([ITEM])


# --- arguments in Python ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [b"bytes", 3, "a\0b"])
def test_what_is_no_path_is_refused(dest: Path, path: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: sync.mirror([ITEM], path),
        lambda: sync.status(path),
        lambda: sync.verify(path),
        lambda: sync.export(dest, path),
        lambda: sync.report(dest, path),
        lambda: sync.headers([ITEM], path),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="must be a path"):
            call()


def test_an_event_of_threads_is_refused(dest: Path) -> None:
    """Waiting for it would block the event loop forever."""
    event: Any = threading.Event()

    async def call(function: Callable[..., Any], *arguments: Any) -> None:
        with pytest.raises(UsageError, match=r"stop must be asyncio.Event\(...\), not threading.Event"):
            await asyncio.wait_for(function(*arguments, stop=event), 10)

    asyncio.run(call(stacpull.mirror, [ITEM], dest))
    asyncio.run(call(stacpull.resume, dest))
    asyncio.run(call(stacpull.verify, dest))
    asyncio.run(call(stacpull.headers, [ITEM]))


@pytest.mark.parametrize("name", ["", "catalog.json", "../m/catalog.json"])
@pytest.mark.parametrize("again", ["", "new/.."])
def test_a_mirror_cannot_be_its_own_source(source: str, dest: Path, name: str, again: str) -> None:
    refused = run(["mirror", str(dest / name), str(dest / again)], environment())
    assert (refused.code, refused.out) == (2, "")
    assert "SOURCE is the catalog of the mirror in" in refused.err
    assert not (dest / "new").exists()
    assert stacpull.status(dest).source == Path(source).as_uri()
    copied = run(["mirror", str(dest / name), str(dest.parent / "copy")], environment())
    assert copied.code == 0
