"""Run a program where the kernel refuses one system call, as seccomp profiles of containers do.

`python -m tests.acceptance.refusing syncfs ENOSYS program …` sets a seccomp filter and becomes that program.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

_NUMBERS = {"x86_64": {"syncfs": 306}, "aarch64": {"syncfs": 267}}
_SET_SECCOMP, _FILTER, _NO_NEW_PRIVILEGES = 22, 2, 38
_LOAD_NUMBER, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ERRNO, _ALLOW = 0x00050000, 0x7FFF0000


def refusing(call: str, name: str) -> list[str]:
    """Return what to put before a command for it to run with `call` refused by the error `name`."""
    return [sys.executable, "-m", "tests.acceptance.refusing", call, name]


def is_known_here() -> bool:
    """Return True if the numbers of this machine's system calls are known."""
    return sys.platform == "linux" and platform.machine() in _NUMBERS


def _refuse(call: str, error: int) -> None:
    number = _NUMBERS[platform.machine()][call]
    steps = [
        struct.pack("HBBI", _LOAD_NUMBER, 0, 0, 0),
        struct.pack("HBBI", _JUMP_IF_EQUAL, 0, 1, number),
        struct.pack("HBBI", _RETURN, 0, 0, _ERRNO | error),
        struct.pack("HBBI", _RETURN, 0, 0, _ALLOW),
    ]
    program = ctypes.create_string_buffer(b"".join(steps))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    for requested in ((_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (_SET_SECCOMP, _FILTER, header, 0, 0)):
        if libc.prctl(*requested) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    _refuse(sys.argv[1], getattr(errno, sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606 -- this is what it is for
