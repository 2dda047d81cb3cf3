"""What every public function does: name the right argument for a wrong one, and log what no listener gets."""

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from stacpull.errors import StacpullError, UsageError, quantities
from stacpull.events import AssetFailed, Event, Notice, RunEnded
from stacpull.models import NOT_FAILURES, count_failures
from stacpull.suggestions import refuse_unknown


class ProblemLog:
    """Logs warnings, and how much has failed: the listener of a program that has none."""

    example = ""

    def __call__(self, event: Event) -> None:
        text = ""
        if isinstance(event, Notice) and event.level == "warning":
            text = event.text
        elif isinstance(event, AssetFailed) and event.kind not in NOT_FAILURES:
            self.example = self.example or f" For example: {event.message}"
        elif isinstance(event, RunEnded):
            assets = count_failures(event.counts, int(event.counts.get("assets_accepted", 0)))
            failed = [f"{assets:,} of {event.counts['assets_planned']:,} assets"] if assets else []
            failed += quantities((int(event.counts.get("items_failed", 0)), "item"))
            if failed:
                text = f"{' and '.join(failed)} failed; see stacpull.failures.{self.example}"
        if text:
            logging.getLogger("stacpull").warning("%s", text.encode("utf-8", "replace").decode())


@functools.cache
def with_advice(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a public function that names the right argument for a wrong one, and logs without a listener."""
    parameters = inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*positional: Any, **named: Any) -> Any:
        refuse_unknown(function.__name__, named, parameters)
        if "on_event" in parameters:
            listener = named.get("on_event")
            named["on_event"] = ProblemLog() if listener is None else listener
            if not callable(named["on_event"]) or inspect.iscoroutinefunction(listener):
                raise UsageError("on_event must be a function, and not a coroutine function.")
        return function(*positional, **named)

    @functools.wraps(function)
    async def call_async(*positional: Any, **named: Any) -> Any:
        try:
            return await call(*positional, **named)
        except StacpullError as error:
            if error.__suppress_context__:
                error.__context__ = None  # with a group in it, IPython prints the error as plain text
            raise

    return call_async if inspect.iscoroutinefunction(function) else call
