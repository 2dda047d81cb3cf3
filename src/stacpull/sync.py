"""The public functions as blocking calls, for programs that do not use asyncio.

    from stacpull.sync import mirror

    report = mirror("https://api.example.org/v1", "mirror")

Each function calls the one of the same name in `stacpull`, and returns its result. If an event loop is
already running, as in a notebook, it raises `UsageError`: use `await stacpull.mirror(...)` there.
"""

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import stacpull
from stacpull.errors import UsageError

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            name = function.__name__
            raise UsageError(
                f"stacpull.sync.{name} cannot be called where an event loop is running, as in a notebook. "
                f"Use: await stacpull.{name}(...)"
            )
        try:
            return asyncio.run(function(*args, **kwargs))
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None  # without the traceback of the work, which ended itself

    return call


_NEITHER_READS_NOR_WRITES = {"__version__", "profile_options", "progress_bar"}
__all__ = [n for n in dir(stacpull) if n.islower() and n not in _NEITHER_READS_NOR_WRITES]
__dir__ = __all__.copy  # what a notebook completes

if TYPE_CHECKING:
    failures = stacpull.failures
    status = stacpull.status
    classes = _blocking(stacpull.classes)
    collections = _blocking(stacpull.collections)
    export = _blocking(stacpull.export)
    headers = _blocking(stacpull.headers)
    mirror = _blocking(stacpull.mirror)
    plan = _blocking(stacpull.plan)
    report = _blocking(stacpull.report)
    resume = _blocking(stacpull.resume)
    retry = _blocking(stacpull.retry)
    trace = _blocking(stacpull.trace)
    trace_estimate = _blocking(stacpull.trace_estimate)
    verify = _blocking(stacpull.verify)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'stacpull.sync' has no attribute {name!r}")
    function = getattr(stacpull, name)
    return _blocking(function) if inspect.iscoroutinefunction(function) else function
