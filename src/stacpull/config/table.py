"""Every option, declared once: the command line, TOML files and the environment are all read by this table.

To add an option, add a row where its like stand (`selecting`, `transferring`, `tracing`, or below), and the
field of `Selection`, `Options`, `TraceOptions` or `Output` that its `target` names.
"""

from __future__ import annotations

from stacpull.config import values
from stacpull.config.option import Option, Scope
from stacpull.config.selecting import SELECTING
from stacpull.config.tracing import TRACING
from stacpull.config.transferring import TRANSFERRING

__all__ = ["BY_NAME", "MIRRORING", "OPTIONS", "Option", "Scope"]

MIRRORING = (Scope.SELECTION, Scope.LAYOUT, Scope.TRANSFER, Scope.OUTPUT)
"""What `mirror` takes."""

_OUTPUT = Scope.OUTPUT

_SAYING: tuple[Option, ...] = (
    Option(_OUTPUT, "json", "json", "Print one JSON object as the last line.", switch=True),
    Option(_OUTPUT, "no-progress", "no_progress", "Show no progress.", switch=True),
    Option(_OUTPUT, "quiet", "quiet", "Print errors only.", switch=True, short="q"),
    Option(
        _OUTPUT,
        "verbose",
        "verbose",
        "Verbose; -vv adds tracebacks.",
        "N",
        reader=values.whole(0),
        short="v",
    ),
)

OPTIONS: tuple[Option, ...] = (*SELECTING, *TRANSFERRING, *TRACING, *_SAYING)

BY_NAME: dict[str, Option] = {option.name: option for option in OPTIONS}
