"""The events of a run, and runs that are stopped at one."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from stacpull import Notice


def warnings(events: Iterable[object]) -> list[str]:
    return [one.text for one in events if isinstance(one, Notice) and one.level == "warning"]


def stopping_when(matches: Callable[[Any], bool]) -> dict[str, Any]:
    """Return arguments that stop a run once an event comes that matches."""
    stop = asyncio.Event()
    return {"stop": stop, "on_event": lambda event: matches(event) and stop.set()}


def stopping_at(kind: type) -> dict[str, Any]:
    return stopping_when(lambda event: isinstance(event, kind))
