"""What an option is: its names, how its values are read, which commands take it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from stacpull.config import values
from stacpull.config.values import Reader

__all__ = ["Option", "Scope"]


class Scope(enum.Enum):
    """What an option is about; it decides which commands take it."""

    SELECTION = "selection"
    """What to mirror: `Selection`. Fixed for a run, so refused on `resume` and `retry`."""
    LAYOUT = "layout"
    """Where things lie: a part of `Options`, but fixed for a run like the selection."""
    TRANSFER = "transfer"
    """How to transfer: `Options`. May be given anew at any time."""
    TRACE = "trace"
    """What to trace: `TraceOptions`. Taken by `stacpull trace` only."""
    OUTPUT = "output"
    """What is said on the terminal: `Output`."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option: `name` in kebab case, `target` the field it sets (`s3.region`: a field of a field)."""

    scope: Scope
    name: str
    target: str
    help: str
    metavar: str = "TEXT"
    reader: Reader = values.text
    many: bool = False
    """True if it may be given several times; the field is a tuple, and '' alone means none."""
    narrows: bool = False
    """True if none means everything: '' is then refused (a variable of a script that is not set), unless it
    undoes what a config file says."""
    switch: bool = False
    """True if it takes no value on the command line."""
    opposite: bool = False
    """True if the switch also comes as --no-NAME."""
    choices: tuple[str, ...] = ()
    short: str = ""
    environment: tuple[str, ...] = ()
    """Variables of other programs that set it, in order; its own STACPULL_… goes before them."""
    group: str = ""
    """The group that help pages list it in; that of its scope if empty."""

    @property
    def read(self) -> Reader:
        """How one value of it is read."""
        if self.choices:
            return values.choice(*self.choices)
        return values.switch if self.switch else self.reader

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that set it, the first one set wins: single-valued transfer options have them."""
        if self.many or self.scope not in (Scope.TRANSFER, Scope.LAYOUT):
            return ()
        return (f"STACPULL_{self.name.replace('-', '_').upper()}", *self.environment)
