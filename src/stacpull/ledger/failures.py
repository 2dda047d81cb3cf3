"""The failures of a mirror, and the numbers of items that follow from them and from the states of assets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from stacpull.ledger.database import IN_LIST, Connection, json_array
from stacpull.ledger.schema import AssetState
from stacpull.models import Failure, FailureKind


class FailureKey(NamedTuple):
    """What failed, in the columns of the table `failures`."""

    what: Literal["", "item", "json", "link", "entry"]
    item: int
    key: str = ""
    run: int | None = None
    source: str = ""
    collection: str = ""


def put_failure(db: Connection, key: FailureKey, failure: Failure, attempts: int, now: float) -> None:
    """Record a failure: attempts are added up, other values replaced. `now` is in seconds since 1970."""
    message = failure.message.encode("utf-8", "replace").decode()  # a server may have sent any text
    db.execute(
        f"INSERT INTO failures({', '.join(FailureKey._fields)}, kind, message, status, attempts, at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (what, item, key, source, collection) DO UPDATE SET "
        "kind = excluded.kind, message = excluded.message, status = excluded.status, "
        "attempts = attempts + excluded.attempts, at = excluded.at, "
        # what is still gone was not found by this mirror (`--missing known`)
        "run = iif(what = '' AND kind = 'gone' AND excluded.kind = 'gone' AND "
        "(SELECT r.kind FROM runs r WHERE r.id = excluded.run) = 'mirror', run, excluded.run)",
        (*key, failure.kind, message, failure.status, attempts, now),
    )


def failed_state(failure: Failure) -> int:
    return AssetState.MISSING if failure.kind is FailureKind.GONE else AssetState.FAILED


_DERIVE_STATES = f"""
UPDATE items SET (pending, failed) = (
    SELECT
        count(*) FILTER (WHERE a.state < {AssetState.DONE})
            + (SELECT count(*) FROM items c WHERE c.parent = items.id AND c.pending > 0),
        count(*) FILTER (WHERE a.state > {AssetState.DONE})
            + (SELECT count(*) FROM items c WHERE c.parent = items.id AND c.pending = 0 AND c.failed > 0)
            + (SELECT count(*) FROM failures f WHERE f.what IN ('item', 'json') AND f.item = items.id)
    FROM assets a WHERE a.item = items.id
) WHERE id {IN_LIST} RETURNING id, pending, failed
"""


def update_item_states(db: Connection, items: Iterable[int | None]) -> list[int]:
    """Update `pending` and `failed` of items and of their label items; return those that became final."""
    final: list[int] = []
    changed = set(items)
    while level := sorted(item for item in changed if item is not None):
        changed = set()
        query = f"SELECT id, pending, failed, parent FROM items WHERE id {IN_LIST}"
        before = {row[0]: row[1:] for row in db.execute(query, (json_array(level),))}
        for item, pending, failed in db.execute(_DERIVE_STATES, (json_array(level),)).fetchall():
            pending_before, failed_before, parent = before[item]
            if pending_before > 0 and pending == 0:
                final.append(item)
            if (pending_before == 0, failed_before > 0) != (pending == 0, failed > 0):
                changed.add(parent)
    return final
