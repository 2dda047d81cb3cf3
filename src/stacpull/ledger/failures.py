"""Failures as rows: one an asset, and one a source item that could not be read (its key is empty)."""

from __future__ import annotations

import sqlite3

from stacpull.ledger.schema import STATE_FAILED, STATE_MISSING
from stacpull.models import Failure, FailureKind

__all__ = ["put_failure", "state_of"]

_PUT = """
INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (item, key) DO UPDATE SET kind = excluded.kind, message = excluded.message,
    status = excluded.status, attempts = attempts + excluded.attempts, at = excluded.at
"""


def put_failure(
    db: sqlite3.Connection, item: int, key: str, failure: Failure, attempts: int, now: float
) -> None:
    """Record a failure; attempts add up, the rest is of the newest. `now` in seconds since 1970."""
    message = failure.message.encode("utf-8", "replace").decode()  # servers put anything into what we quote
    db.execute(_PUT, (item, key, failure.kind, message, failure.status, attempts, now))


def state_of(failure: Failure) -> int:
    """Return the state of an asset that failed so."""
    return STATE_MISSING if failure.kind is FailureKind.GONE else STATE_FAILED
