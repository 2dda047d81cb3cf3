"""What to use instead of an option or command of another tool, or of an earlier version."""

from collections.abc import Collection
from pathlib import Path

import orjson

_NAMES = orjson.loads(Path(__file__).with_name("other_names.json").read_bytes())
"""By the names of others: a command; or an option (`dest` for the second argument, empty for other advice)
and a sentence about it, for a command line that has it."""
OTHER_COMMANDS: dict[str, str] = {}
for _names, _command in _NAMES["commands"].items():
    OTHER_COMMANDS |= dict.fromkeys(_names.split(), _command)


def advice_on(name: str, options: Collection[str]) -> str | None:
    """Return what to use instead of the option `name`, where there are these `options`."""
    for names, (option, advice) in _NAMES["options"].items():
        if name in names.split() and (not option or option in options):
            return str(advice)
    return None
