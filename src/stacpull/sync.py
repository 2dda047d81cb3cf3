"""The public functions for those without an event loop: `from stacpull.sync import mirror`.

Each runs its asynchronous namesake to the end and returns its result. In a notebook, which has a loop
already, use the asynchronous ones.
"""

from __future__ import annotations

import asyncio
from typing import Any

from stacpull.engine import api, tracing
from stacpull.engine import headers as header_tables
from stacpull.engine import verify as verifying
from stacpull.engine.api import ClassInfo, failures, status
from stacpull.models import Json
from stacpull.reports import HeadersReport, MirrorReport, PlanReport, VerifyReport
from stacpull.tracing.report import TraceEstimate, TraceReport

__all__ = [
    "classes",
    "collections",
    "failures",
    "headers",
    "mirror",
    "plan",
    "resume",
    "retry",
    "status",
    "trace",
    "trace_estimate",
    "verify",
]


def mirror(source: str, dest: str, **settings: Any) -> MirrorReport:
    """Run `stacpull.mirror`; `settings` are its keyword arguments."""
    return asyncio.run(api.mirror(source, dest, **settings))


def resume(dest: str, **settings: Any) -> MirrorReport:
    """Run `stacpull.resume`."""
    return asyncio.run(api.resume(dest, **settings))


def retry(dest: str, **settings: Any) -> MirrorReport:
    """Run `stacpull.retry`."""
    return asyncio.run(api.retry(dest, **settings))


def verify(dest: str, **settings: Any) -> VerifyReport:
    """Run `stacpull.verify`."""
    return asyncio.run(verifying.verify(dest, **settings))


def plan(source: str, dest: str | None = None, **settings: Any) -> PlanReport:
    """Run `stacpull.plan`."""
    return asyncio.run(api.plan(source, dest, **settings))


def collections(source: str, **settings: Any) -> list[Json]:
    """Run `stacpull.collections`."""
    return asyncio.run(api.collections(source, **settings))


def classes(source: str, collection: str, **settings: Any) -> list[ClassInfo]:
    """Run `stacpull.classes`."""
    return asyncio.run(api.classes(source, collection, **settings))


def headers(source: str, out: str | None = None, **settings: Any) -> HeadersReport:
    """Run `stacpull.headers`."""
    return asyncio.run(header_tables.headers(source, out, **settings))


def trace(collection: str, **settings: Any) -> TraceReport:
    """Run `stacpull.trace`."""
    return asyncio.run(tracing.trace(collection, **settings))


def trace_estimate(collection: str, **settings: Any) -> TraceEstimate:
    """Run `stacpull.trace_estimate`."""
    return asyncio.run(tracing.trace_estimate(collection, **settings))
