"""Items that came by standard input are stored in DEST, which may have been in other hands."""

import json
import os
import signal
import stat
from pathlib import Path

import pytest
from tests.acceptance.command import Running, environment, stacpull, wait_until
from tests.items import feature
from tests.serving import serving_files

ITEM = feature("a")
SIGNED = "?X-Amz-Signature=deadbeef&v=1"


def item(href: str, **more: object) -> str:
    return json.dumps(ITEM | more | {"assets": {"x": {"href": href}}}) + "\n"


def own(dest: Path) -> Path:
    path = dest / ".stacpull"
    (path / "parts").mkdir(parents=True)
    return path


@pytest.mark.parametrize("place", ["parts/input.ndjson", "input"])
def test_nothing_is_written_through_a_link(tmp_path: Path, place: str) -> None:
    dest, outside = tmp_path / "m", tmp_path / "outside"
    victim = outside / "victim"
    outside.mkdir()
    victim.write_text("precious")
    link = own(dest) / place
    link.symlink_to(outside if place == "input" else victim)
    ran = stacpull("mirror", "-", dest, given=item("https://127.0.0.1:1/x"))
    assert ran.code in {1, 5}, ran.err
    assert [path.name for path in outside.iterdir()] == ["victim"]
    assert victim.read_text() == "precious"


def test_a_pipe_in_the_place_of_the_input_does_not_hang(tmp_path: Path) -> None:
    dest = tmp_path / "m"
    os.mkfifo(own(dest) / "parts/input.ndjson")
    assert stacpull("mirror", "-", dest, given=json.dumps(ITEM)).code == 0


@pytest.fixture
def unfinished(tmp_path: Path) -> tuple[Path, Path]:
    """A mirror of standard input that was stopped early, and the file with the input."""
    dest = tmp_path / "m"
    with serving_files(tmp_path) as url:
        (tmp_path / "x").write_bytes(b"x")
        lines = "".join(item(f"{url}/x?{number}", id=str(number)) for number in range(3000))
        slow = ["--requests-per-second", "1", "--concurrency", "1"]
        command = ["mirror", "-", str(dest), "--allow-private-hosts", *slow]
        with Running(command, environment(), given=lines.encode()) as process:
            assert wait_until(lambda: [*dest.glob("c/*/x")])
            assert process.signal(signal.SIGINT)
            ran = process.ended()
    assert ran.code == 130, ran.err
    (stored,) = (dest / ".stacpull/input").iterdir()
    return dest, stored


@pytest.mark.parametrize("kind", ["link", "changed", "directory"])
def test_resume_reads_only_the_input_that_was_given(unfinished: tuple[Path, Path], kind: str) -> None:
    dest, stored = unfinished
    private = dest.parent / "private.ndjson"
    private.write_text(item("https://127.0.0.1:1/secret", id="private"))
    if kind == "directory":
        moved = stored.parent.rename(dest.parent / "moved")
        stored.parent.symlink_to(moved)
    else:
        stored.unlink()
        if kind == "link":
            stored.symlink_to(private)
        else:
            stored.write_bytes(private.read_bytes())
    ran = stacpull("resume", dest)
    assert ran.code in {2, 5}, ran.err
    assert "stacpull mirror -" in ran.err or kind == "directory"
    assert "secret" not in stacpull("failures", dest, "--json").out


def test_all_of_the_work_directory_is_private(unfinished: tuple[Path, Path]) -> None:
    own = unfinished[0] / ".stacpull"
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    files = [path for path in own.rglob("*") if path.is_file() and path.suffix != ".part"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}, files


def test_an_open_work_directory_becomes_private(tmp_path: Path) -> None:
    path = own(tmp_path / "m")
    path.chmod(0o755)
    assert stacpull("mirror", "-", tmp_path / "m", given=json.dumps(ITEM)).code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_input_is_removed_when_the_run_is_complete(tmp_path: Path) -> None:
    dest = tmp_path / "m"
    (tmp_path / "x").write_bytes(b"x")
    with serving_files(tmp_path) as url:
        escaped = item(f"{url}/x{SIGNED}").replace("&", "\\u0026")
        ran = stacpull("mirror", "-", dest, "--json", "--allow-private-hosts", given=escaped)
        assert ran.code == 0, ran.err
        assert stat.S_IMODE((dest / "c/a/x").stat().st_mode) & 0o044  # the data are as ever
        for path in (path for path in dest.rglob("*") if path.is_file()):
            assert b"deadbeef" not in path.read_bytes(), path
        signed_again = item(f"{url}/x{SIGNED.replace('deadbeef', 'cafecafe')}")
        again = stacpull("mirror", "-", dest, "--json", "--allow-private-hosts", given=signed_again)
    assert json.loads(again.out.splitlines()[-1])["assets_skipped"] == 1
    assert list((dest / ".stacpull/input").iterdir()) == []
