"""How much is said: told before or after a command's name, and needed where errors are printed."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Verbosity"]


@dataclass(slots=True)
class Verbosity:
    """Filled while the command line is read."""

    quiet: bool = False
    verbose: int = 0
