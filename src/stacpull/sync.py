"""The public functions as blocking calls, for programs that do not use asyncio.

    from stacpull.sync import mirror

    report = mirror("https://api.example.org/v1", "mirror")

Each function takes the arguments of the function of the same name in `stacpull`, waits for its end, and
returns its result. If an event loop is already running, as in a notebook, it raises `UsageError`: use
`await stacpull.mirror(...)` there.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import stacpull
from stacpull.engine import api, estimate, source_contents
from stacpull.engine.mirror_status import failures, status
from stacpull.errors import UsageError
from stacpull.upkeep import verify as verifying

__all__ = [
    "classes",
    "collections",
    "export",
    "failures",
    "headers",
    "mirror",
    "plan",
    "report",
    "resume",
    "retry",
    "status",
    "trace",
    "trace_estimate",
    "verify",
]

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Return `function` as a blocking call with the same arguments, documentation and result."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(function(*args, **kwargs))
        name = function.__name__
        raise UsageError(
            f"stacpull.sync.{name} cannot be called where an event loop is running, as in a notebook. "
            f"Use: await stacpull.{name}(...)"
        )

    return call


classes = _blocking(source_contents.classes)
collections = _blocking(source_contents.collections)
mirror = _blocking(api.mirror)
plan = _blocking(estimate.plan)
resume = _blocking(api.resume)
retry = _blocking(api.retry)
verify = _blocking(verifying.verify)

if TYPE_CHECKING:
    export = _blocking(stacpull.export)
    headers = _blocking(stacpull.headers)
    report = _blocking(stacpull.report)
    trace = _blocking(stacpull.trace)
    trace_estimate = _blocking(stacpull.trace_estimate)


def __getattr__(name: str) -> Any:
    """Return a function of a sibling package, which is imported at its first use."""
    if name not in __all__:
        raise AttributeError(f"module 'stacpull.sync' has no attribute {name!r}")
    return _blocking(getattr(stacpull, name))
