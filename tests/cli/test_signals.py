import asyncio
import os
import signal
import subprocess
import sys

import pytest

from stacpull import runtime
from stacpull.cli.entry import run
from stacpull.cli.progress import Display
from stacpull.config.options import Output
from stacpull.engine.run_control import run_stoppable
from stacpull.errors import InterruptedRunError

BLOCKED = """
import asyncio, re, sys
from stacpull.cli.entry import run

async def blocks(stop=None):
    print("ready", flush=True)
    {block}

run(blocks)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "block",
    ["while True: pass", "re.fullmatch('(?:a|aa)+b', 'a' * 200)"],
    ids=["a loop without end", "a pattern that backtracks"],
)
def test_the_second_signal_ends_a_process_whose_event_loop_is_blocked(block, number):
    command = [sys.executable, "-c", BLOCKED.format(block=block)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            assert "quits at once" in process.stderr.readline()
            process.send_signal(number)
            assert process.wait() == 130
            assert "Run the same command again to resume" in process.stderr.read()
        finally:
            process.kill()


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def interrupted_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "tune_memory", _interrupt)


@pytest.mark.usefixtures("interrupted_start")
def test_a_signal_before_the_loop_runs_sets_the_event() -> None:
    async def work(stop: asyncio.Event) -> bool:
        return await asyncio.wait_for(stop.wait(), 10)

    assert run(work)


@pytest.mark.usefixtures("interrupted_start")
def test_a_signal_before_the_loop_runs_cancels_the_work() -> None:
    with pytest.raises(InterruptedRunError):
        run(lambda stop: run_stoppable(asyncio.sleep(10), stop))


def test_a_signal_after_the_loop_was_closed_changes_nothing() -> None:
    class Closing(Display):
        def close(self) -> None:
            _interrupt()

    async def work(_stop: asyncio.Event) -> str:
        return "done"

    assert run(work, Closing(Output(no_progress=True))) == "done"
