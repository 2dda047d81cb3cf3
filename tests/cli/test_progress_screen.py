"""The progress display in a real pseudo-terminal, judged by the screen that results."""

import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.acceptance.command import wait_until
from tests.acceptance.static_tree import write_tree
from tests.cli.terminal import Terminal
from tests.serving import serving_files

pytestmark = pytest.mark.behaviour


@pytest.fixture(autouse=True)
def forked(forked_command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`stacpull` and `python` are forked: importing what they need takes half a second of processor time."""
    monkeypatch.setenv("PATH", f"{forked_command}{os.pathsep}{os.environ['PATH']}")


SCRIPT = """
import sys, threading
from stacpull.cli.progress import Display
from stacpull.cli.entry import run
from stacpull.config.options import Output
from stacpull.events import *
from stacpull.models import FailureKind, ItemId

show = Display(Output())

async def work(stop):
    import asyncio
{work}

run(work, show)
show.close()
print("example: 24 of 26 files")
"""

RUNNING = """
    for key in "ab":
        show(AssetFailed(ItemId("c", "i"), key, FailureKind.GONE, "gone"))
    show(AssetFailed(ItemId("c", "i"), "c", FailureKind.NETWORK, "no"))
    now = dict(items_seen=100, items_announced=400, items_matched=2, items_wanted=3, assets_planned=1560,
               assets_failed=3, assets_pending=799, retries=12,
               hosts=(HostProgress("blob.example.org", wait=8.0),))
    for step in range({steps}):
        moved = dict(assets_done=700 + step, bytes_fetched=5_000_000 + 170_000 * step, seconds=step / 5)
        show(Progress(**moved, **now))
        if step == 20:
            show(Notice("warning", "one \\x1b[2J page was empty"))
        await asyncio.sleep(0.02)
        if stop.is_set(): break
    {after}
"""


def script(work: str) -> list[str]:
    body = "".join(f"    {line}\n" for line in work.splitlines())
    return ["python", "-c", SCRIPT.format(work=body)]


def running(steps: int = 60, after: str = "await stop.wait()") -> list[str]:
    return script(textwrap.dedent(RUNNING).replace("{steps}", str(steps)).replace("{after}", after))


def test_the_screen_at_80_columns() -> None:
    with Terminal(running()) as terminal:
        terminal.wait_for(lambda one: "759 of 1,560" in one.text and len(one.lines) == 5)
        first, second, third, fourth, fifth = terminal.lines
        assert first == "stacpull: warning: one \ufffd[2J page was empty"
        assert second[2:] == "listing and fetching · 2 of 3 items matched (100 of 400 read)"
        assert third.endswith("759 of 1,560+ files · about 5 min 24 s left · 850.0 kB/s · 15.0 MB")
        assert "█" in third
        assert fourth == "  1 failed (1 network) · 2 missing from the source · 12 retries"
        assert fifth == "  waiting 8 s for blob.example.org, which throttles or does not answer"


def test_ctrl_c_stops_the_run_and_leaves_no_stray_output() -> None:
    with Terminal(running(10_000, "pass")) as terminal:
        terminal.wait_for("listing")
        terminal.press_ctrl_c()
        assert terminal.ended() == 0
        assert terminal.lines[-2:] == ["example: 24 of 26 files", "[0]$"]
        assert "^C" not in terminal.text
        assert "fetching" not in terminal.text


def test_a_second_ctrl_c_leaves_the_prompt_on_an_empty_line() -> None:
    with Terminal(running(20, "await asyncio.sleep(60)").copy()) as terminal:
        terminal.wait_for("719 of 1,560")
        terminal.press_ctrl_c()
        terminal.wait_for("Stopping: running transfers get 5 s.")
        terminal.press_ctrl_c()
        assert terminal.ended() == 130
        assert terminal.lines[-1].endswith("[130]$")
        text = "".join(terminal.lines)
        assert "at once.stacpull: Quit: 719 of 1,560+ files. Run the same command again" in text
        assert "fetching" not in terminal.text


@pytest.mark.parametrize(
    ("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)]
)
def test_colours_can_be_switched_off(env: dict[str, str], coloured: bool) -> None:
    with Terminal(running(30), env=env) as terminal:
        terminal.wait_for("729 of 1,560")
        terminal.press_ctrl_c()
        assert terminal.ended() == 0
        assert (b"\x1b[31m" in terminal.raw) is coloured
        assert (b"\x1b[33m" in terminal.raw) is coloured


def test_a_terminal_without_cursor_movement_gets_plain_lines() -> None:
    with Terminal(script("await stop.wait()"), env={"TERM": "dumb"}) as terminal:
        terminal.wait_for("stacpull: starting (")
        terminal.press_ctrl_c()
        assert terminal.ended() == 0
        assert b"\x1b" not in terminal.raw
        assert re.match(r"stacpull: starting \([1-9]", terminal.lines[0])


@pytest.mark.parametrize(
    "command",
    ["mirror SOURCE m -C c", "plan SOURCE -C c", "headers SOURCE -C c", "collections SOURCE",
     "classes SOURCE -C c", "resume stopped", "retry stopped", "mirror catalog.json BUCKET"],
)  # fmt: skip
def test_what_a_command_waits_for_is_shown_within_a_second(command: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "key")
    (write_tree(tmp_path, 1, 1).parent / "col0" / "col0-0" / "data.bin").unlink()
    with serving_files(tmp_path) as url:
        host = url.removeprefix("http://")
        if "stopped" in command:
            made = ["stacpull", "mirror", f"{url}/catalog.json", "stopped", "--max-failures", "0"]
            assert subprocess.run(made, check=False).returncode == 1
    with socket.create_server(("127.0.0.1", int(host.partition(":")[2]))):
        bucket = f"s3://bucket/m --work w --dest-endpoint-url http://{host}"
        line = command.replace("SOURCE", f"http://user:secret@{host}/v1").replace("BUCKET", bucket)
        with Terminal(["stacpull", *line.split()]) as terminal:
            what = "opening s3://bucket/m" if "BUCKET" in command else f"opening SOURCE at {host}"
            terminal.wait_for(f"{what} (")
            terminal.wait_for(lambda one: re.search(rf"{re.escape(what)} \([1-9]", one.text) is not None)
            assert "secret" not in terminal.text
            terminal.press_ctrl_c()
            terminal.wait_for(lambda one: what in one.text.partition("Stop")[2] or one.text.endswith("]$"))
            terminal.press_ctrl_c()
            assert terminal.ended() == 130
            assert what not in terminal.text


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_resizing_a_terminal_that_wraps_lines_again_leaves_no_line_behind(tmp_path: Path) -> None:
    """tmux, as most terminals and unlike pyte, wraps what is on the screen to the new width, and back."""
    _, _, program = running(100_000, "pass")
    notice = "one \\x1b[2J page was empty"
    assert notice in program
    # the whole line of the notice fits into 40 columns
    (tmp_path / "shown.py").write_text(program.replace(notice, "empty"))
    tmux = ["tmux", "-S", str(tmp_path / "socket"), "-f", "/dev/null"]

    def screen() -> list[str]:
        shown = subprocess.run(
            [*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True
        ).stdout
        return [line for line in shown.splitlines() if line.strip() and "warning" not in line]

    def has_settled() -> bool:
        lines = screen()
        return len(lines) == 4 and "listing" in lines[0] and lines[3].startswith("  waiting 8 s")

    command = ["new-session", "-d", "-x", "120", "-y", "20", sys.executable, str(tmp_path / "shown.py")]
    subprocess.run([*tmux, *command], check=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    try:
        for columns in (120, 80, 60, 40, 120, 50, 100):
            subprocess.run([*tmux, "resize-window", "-x", str(columns), "-y", "20"], check=True)
            assert wait_until(has_settled, pause=0.05), "\n".join(screen())
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
