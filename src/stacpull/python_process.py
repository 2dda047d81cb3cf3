"""Starting a process of stacpull with a fresh interpreter (`child_process` also forks one)."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

_HARMLESS = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "TZ", "GLIBC_TUNABLES", "STACPULL_PORTABLE"})
_HARMLESS_PREFIXES = ("PYTHON", "LC_", "LD_", "DYLD_", "MALLOC_", "OPENSSL_", "SSL_CERT_")
"""Variables of the interpreter and of libraries, that never hold a credential."""
_UTF8 = ("-X", "utf8") if sys.flags.utf8_mode else ()
"""File names have the same encoding in all processes of a run."""


def python_command(*arguments: str) -> list[str]:
    """Return the command line of this interpreter with `arguments`, which begin with `-c` or `-m`."""
    return [sys.executable, *_UTF8, "-P", *arguments]


def import_early(modules: Sequence[str]) -> None:
    """Import modules in a thread, before they are needed."""
    if modules:
        threading.Thread(target=lambda: [*map(import_module, modules)], daemon=True).start()


def python_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a new process, in which it finds the same modules as this one.

    It has no credentials, because others can read it while the process runs (`/proc/PID/environ`). Required
    credentials are sent to the process.
    """
    variables = os.environ if environ is None else environ
    harmless = {
        name: value
        for name, value in variables.items()
        if name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)
    }
    paths = [path or str(Path.cwd()) for path in sys.path]
    return {**harmless, "PYTHONPATH": os.pathsep.join(paths)}


def drop_foreign_variables() -> None:
    variables = python_environment()
    os.environ.clear()
    os.environ.update(variables)
