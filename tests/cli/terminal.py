"""A real pseudo-terminal with a command in it, and the screen that a user would see."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Self

import pyte

_ROWS = 24
_TAKE_TERMINAL = """import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
settings = termios.tcgetattr(0)
settings[3] |= termios.NOFLSH  # Ctrl-C does not drop what was written and not read yet
termios.tcsetattr(0, termios.TCSANOW, settings)
os.execv(sys.argv[1], sys.argv[1:])
"""
_SHELL = 'trap : INT; "$@"; printf "[%s]$ " $?; read -r'
"""Runs a command as a shell does: the prompt, with the exit code, comes where the cursor is then."""


class Terminal:
    """`with Terminal([...]) as terminal`: a command under a shell on a terminal of its own."""

    def __init__(
        self, command: Sequence[str], *, columns: int = 80, env: Mapping[str, str] | None = None
    ) -> None:
        self.screen = pyte.Screen(columns, _ROWS)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        """All that was written to the terminal."""
        self._master, slave = pty.openpty()
        size = struct.pack("HHHH", _ROWS, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
        environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(env or {})}
        shell = ["/bin/bash", "-c", _SHELL, "sh", *command]
        self._process = subprocess.Popen(
            [sys.executable, "-IS", "-c", _TAKE_TERMINAL, *shell],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=environment,
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._master)

    @property
    def lines(self) -> list[str]:
        """The lines of the screen that hold anything, without the blanks at their ends."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, seen: str | Callable[[Terminal], bool], seconds: float = 300.0) -> float:
        """Wait until a text, or what a function looks for, is on the screen; return the seconds it took."""
        begun = time.monotonic()
        while not (seen in self.text if isinstance(seen, str) else seen(self)):
            left = begun + seconds - time.monotonic()
            assert left > 0, f"not seen: {seen}\n{self.text}"
            self._read(min(left, 0.1))
        return time.monotonic() - begun

    def ended(self, seconds: float = 300.0) -> int:
        """Wait for the shell's prompt and return the exit code of the command.

        A second Ctrl-C that came after the command's end is shown behind the prompt.
        """
        self.wait_for(lambda terminal: terminal.text.rstrip(" ^C").endswith("]$"), seconds)
        return int(self.text.rstrip(" ^C").rpartition("[")[2].removesuffix("]$"))

    def press_ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    def _read(self, seconds: float) -> None:
        while select.select([self._master], [], [], seconds)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # Linux: the other end is closed
                return
            self.feed(data)
            seconds = 0

    def feed(self, data: bytes) -> None:
        self.raw += data
        self._stream.feed(data)
