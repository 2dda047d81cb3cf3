"""What a machine does not offer: a reason to leave a measurement out, which is always said."""

from __future__ import annotations

import shutil


class Unavailable(Exception):  # noqa: N818 - no error: what is left out for it is said
    """Something cannot be had here; the message says what, and how to get it if there is a way."""


def program(name: str) -> str:
    """The path of a program of the system. Raises Unavailable."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if path is None:
        raise Unavailable(f"{name} is not installed (bash scripts/install-bench-tools)")
    return path
