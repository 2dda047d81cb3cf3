# ruff: noqa: INP001 - the scripts beside it import it; they are no package
"""Lets a script run with the checkout's own Python: `.venv`, which is made if it is not there yet.

    import own_venv

    own_venv.enter()

A script that is run by another Python is begun anew by that of `.venv`. It needs nothing but Python 3 itself.
Whether an old `.venv` still fits is for `scripts/test` to see: here one that was made is taken as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_VENV = ROOT / ".venv"
_MADE = _VENV / ".stacpull-dev"
"""What scripts/make-venv leaves when all is installed."""


def enter() -> None:
    """Go on within `.venv`, with the root of the checkout importable; else begin the script anew there."""
    if not _MADE.exists():
        made = subprocess.run(  # noqa: S603 - our own script
            ["bash", str(ROOT / "scripts" / "make-venv"), "dev"],  # noqa: S607 - the user's bash
            stdout=sys.stderr,
            check=False,
        )
        if made.returncode != 0:
            sys.exit(made.returncode)  # it has said why
    if Path(sys.prefix).resolve() != _VENV.resolve():
        python = str(_VENV / "bin" / "python")
        os.execv(python, [python, *sys.argv])  # noqa: S606 - the interpreter that has stacpull
    sys.path.insert(0, str(ROOT))
