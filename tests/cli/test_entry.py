import signal
import subprocess
import sys
import time
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from stacpull.cli.entry import main
from stacpull.errors import InterruptedRunError

SLOW = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            print("importing", flush=True)
            while True:
                time.sleep(0.1)
sys.meta_path.insert(0, Slow())
sys.argv = ["stacpull", "status", "/nonexistent"]
from stacpull.cli.entry import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["stacpull.cli.main", "stacpull.cli.inspect_command"])
def test_a_signal_while_it_is_still_importing_is_130_and_no_traceback(module, number):
    command = [sys.executable, "-c", SLOW.format(module=module)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        requested = time.monotonic()
        process.send_signal(number)
        _, message = process.communicate()
    assert process.returncode == InterruptedRunError.exit_code
    assert message.strip() == "stacpull: Interrupted."
    assert time.monotonic() - requested < 100


def test_the_console_script_starts_main() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert EntryPoint("stacpull", project["scripts"]["stacpull"], "console_scripts").load() is main
