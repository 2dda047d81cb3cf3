"""Lets a script run with the Python of the checkout's `.venv`, which is made if it does not exist.

    import own_venv

    own_venv.enter()

If another Python runs the script, it is restarted with that of `.venv`. Only Python 3 is needed. An existing
`.venv` is used without a check; `scripts/test` checks whether it is up to date.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_VENV = ROOT / ".venv"
_MADE = _VENV / ".stacpull-dev"
"""The file that scripts/make-venv writes when everything is installed."""


def enter() -> None:
    """Continue if this is the Python of `.venv`, with the checkout importable; otherwise restart with it."""
    if not _MADE.exists():
        made = subprocess.run(
            ["bash", str(ROOT / "scripts" / "make-venv"), "dev"],
            stdout=sys.stderr,
            check=False,
        )
        if made.returncode != 0:
            sys.exit(made.returncode)  # make-venv has printed the reason
    if Path(sys.prefix).resolve() != _VENV.resolve():
        python = str(_VENV / "bin" / "python")
        os.execv(python, [python, *sys.argv])  # noqa: S606 - the interpreter that has stacpull
    sys.path.insert(0, str(ROOT))
