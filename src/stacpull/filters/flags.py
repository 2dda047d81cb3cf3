"""The two flags of BigEarthNet's label items: `cloud_and_shadow` and `seasonal_snow`.

They were seen as JSON booleans and as "true"/"false". A flag can be read if it is a boolean, one of those
words in any case, or 0 or 1; absent or null means false; anything else is unreadable and matches neither.
"""

from __future__ import annotations

from typing import Any

from stacpull.filters.verdict import Check, Verdict
from stacpull.models import Json, Selection

__all__ = ["compile_flags", "read_flag"]

_WORDS = {"true": True, "false": False}


def read_flag(value: object) -> bool | None:
    """Return what a flag's value means; None if it cannot be read."""
    if value is None or value is False or value is True:
        return value is True
    if isinstance(value, str):
        return _WORDS.get(value.lower())
    if isinstance(value, int | float) and value in (0, 1):
        return value == 1
    return None


def compile_flags(selection: Selection) -> Check | None:
    """Compile the flags of a selection into one predicate; None if it asks for none.

    All flags asked for are read before one is compared, so that every unreadable one is counted.
    """
    asked = tuple(
        (name, wanted, verdict)
        for name, wanted, verdict in (
            ("cloud_and_shadow", selection.cloud_and_shadow, Verdict.CLOUD),
            ("seasonal_snow", selection.seasonal_snow, Verdict.SNOW),
        )
        if wanted is not None
    )
    if not asked:
        return None

    def check(_item: Json, properties: dict[str, Any]) -> Verdict | None:
        found = None
        for name, wanted, verdict in asked:
            flag = read_flag(properties.get(name))
            if flag is None:
                return Verdict.UNREADABLE_FLAG
            if flag is not wanted and found is None:
                found = verdict
        return found

    return check
