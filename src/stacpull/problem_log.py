"""The listener of programs that have none: it logs warnings, and how much has failed."""

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from stacpull.errors import UsageError, quantities
from stacpull.events import Event, Notice, RunEnded
from stacpull.models import count_failures


def log_problem(event: Event) -> None:
    text = ""
    if isinstance(event, Notice) and event.level == "warning":
        text = event.text
    elif isinstance(event, RunEnded):
        assets = count_failures(event.counts, int(event.counts.get("assets_accepted", 0)))
        failed = [f"{assets:,} of {event.counts['assets_planned']:,} assets"] if assets else []
        failed += quantities((int(event.counts.get("items_failed", 0)), "item"))
        if failed:
            text = f"{' and '.join(failed)} failed; see stacpull.failures."
    if text:
        logging.getLogger("stacpull").warning("%s", text.encode("utf-8", "replace").decode())


@functools.cache
def with_problem_log(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a public function that logs problems if it gets no listener."""
    if "on_event" not in inspect.signature(function).parameters:
        return function

    @functools.wraps(function)
    async def call(*positional: Any, **named: Any) -> Any:
        listener = named.get("on_event")
        if listener is None:
            named["on_event"] = log_problem
        elif not callable(listener) or inspect.iscoroutinefunction(listener):
            raise UsageError("on_event must be a function, and not a coroutine function.")
        return await function(*positional, **named)

    return call
