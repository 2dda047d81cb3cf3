"""The public functions for those without an event loop: `from stacpull.sync import mirror`.

Each runs its asynchronous namesake to the end and returns its result. In a notebook, which has a loop
already, use the asynchronous ones.
"""

from __future__ import annotations

import asyncio
from typing import Any

from stacpull.engine import api
from stacpull.engine import headers as header_tables
from stacpull.engine.api import ClassInfo, failures, status
from stacpull.models import Json
from stacpull.reports import HeadersReport, MirrorReport, PlanReport

__all__ = ["classes", "collections", "failures", "headers", "mirror", "plan", "resume", "retry", "status"]


def mirror(source: str, dest: str, **settings: Any) -> MirrorReport:
    """Run `stacpull.mirror`; `settings` are its keyword arguments."""
    return asyncio.run(api.mirror(source, dest, **settings))


def resume(dest: str, **settings: Any) -> MirrorReport:
    """Run `stacpull.resume`."""
    return asyncio.run(api.resume(dest, **settings))


def retry(dest: str, **settings: Any) -> MirrorReport:
    """Run `stacpull.retry`."""
    return asyncio.run(api.retry(dest, **settings))


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
