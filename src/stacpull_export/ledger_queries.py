"""Queries of the ledger that only exports and reports make."""

from collections.abc import Iterator
from typing import Any

from stacpull.ledger.database import Connection, named_rows
from stacpull.ledger.schema import JsonState


def run_summaries(db: Connection) -> list[dict[str, Any]]:
    """Return the runs, oldest first, each with the files that it stored and the bytes that it fetched."""
    counter = "coalesce((SELECT number FROM counters WHERE run = r.id AND name = '{}'), 0)".format
    rows = named_rows(
        db,
        f"SELECT source, kind, state, started, {counter('assets_stored')} AS files, "
        f"{counter('bytes_fetched')} AS bytes, {counter('seconds')} AS seconds, {counter('retries')} AS "
        "retries FROM runs r ORDER BY r.id",
    )
    return [dict(row) for row in rows]


def written_digests(db: Connection) -> Iterator[tuple[str, str, bytes | None]]:
    return db.execute(
        "SELECT collection_name, name, sha256 FROM named_items "
        f"WHERE json_state <> {JsonState.ABSENT} ORDER BY id"
    )


def shared_sample_keys(db: Connection) -> set[str]:
    """Return the IDs, with `_` for each dot and slash, that several primary items have."""
    rows = db.execute(
        "SELECT replace(replace(name, '.', '_'), '/', '_') AS key FROM items "
        "WHERE parent IS NULL AND name <> '' GROUP BY key HAVING count(*) > 1"
    )
    return {row[0] for row in rows}
