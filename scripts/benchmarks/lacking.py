"""The reason to leave out a measurement that this machine cannot run."""

from __future__ import annotations

import shutil


class Unavailable(Exception):  # noqa: N818 - not an error: the measurement is skipped
    """Something is missing on this machine; the message names it, and how to install it if possible."""


def program(name: str) -> str:
    """Return the path of a system program. Raises Unavailable."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if path is None:
        raise Unavailable(f"{name} is not installed (bash scripts/install-bench-tools)")
    return path
