"""A command in a process of its own, and the memory that it took as the system counts it."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.ran import Ran

MIB = 1 << 20
MAX_PEAK = 450 * MIB
"""What a run may take against a hostile source; without one it takes some 90 MiB."""

_COMMAND = """
import atexit, gc, sys
from pathlib import Path
gc.disable()  # memory that only cycles hold is counted: when they are collected differs between versions
atexit.register(lambda: Path("status").write_text(Path("/proc/self/status").read_text()))
from stacpull.cli.entry import main
main()
"""


@dataclass(frozen=True)
class Measured(Ran):
    peak: int
    """The most memory that it took, in bytes (resident set)."""


def command(*arguments: str, cwd: Path) -> Measured:
    line = [sys.executable, "-c", _COMMAND, *arguments, "--json"]
    ran = subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False)
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", (cwd / "status").read_text())
    return Measured(ran.returncode, ran.stdout, ran.stderr, int(peak) * 1024)
