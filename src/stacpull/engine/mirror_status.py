"""The state of a mirror and its failures, read from its ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from stacpull.arguments import instance
from stacpull.config.options import Options
from stacpull.dest_address import DestAddress, parse_dest
from stacpull.engine.item_writer import unwritten
from stacpull.errors import NotAMirrorError
from stacpull.ledger import runs, views
from stacpull.ledger.database import Connection, ledger_path, open_reader, translated
from stacpull.models import FailureKind
from stacpull.reports import FailureRecord, StatusReport
from stacpull.store.lock import holder, is_held
from stacpull.store.store_choice import open_files

_LAST_ERRORS = 5


@contextmanager
def _opened_run(dest: DestAddress) -> Iterator[tuple[Connection, Mapping[str, Any]]]:
    """Open the ledger of `dest` for reading, and give it with the run that `status` shows.

    Raises:
        NotAMirrorError: `dest` is not a mirror.
        DestinationError: The ledger cannot be read.
    """
    path = dest.work
    with closing(open_reader(path)) as db, translated(ledger_path(path)):
        run = views.current_run(db)
        if run is None:
            raise NotAMirrorError(
                f"{dest.name} has no mirror yet: no run has begun. Run `stacpull mirror` again."
            )
        yield db, run


def status(dest: str | Path, options: Options | None = None) -> StatusReport:
    """Return the state of the mirror at `dest`, also during a run and right after one was killed.

    Args:
        dest: The mirror: a directory, or a bucket.
        options: `work` and the options that start with `dest_` say how to open a bucket.

    Raises:
        NotAMirrorError: `dest` is not a mirror.
        UsageError: `dest` contradicts the options or the ledger.
        DestinationError: The ledger cannot be read.
    """
    dest_address = parse_dest(dest, instance("options", Options, options))
    path = dest_address.work
    with _opened_run(dest_address) as (db, run):
        live = is_held(path)
        sums = {
            **runs.asset_counters(db),
            **views.item_totals(db),
            "assets_ordered": views.failed_by_kind(db, FailureKind.ORDERED),
            "assets_outside": views.failed_by_kind(db, FailureKind.OUTSIDE),
            "assets_clipped": views.clipped(db),
            "assets_unproven": views.unproven(db),
        }
        with open_files(path, dest_address.bucket) as files:
            foreign = list(unwritten(db, files))
        sums["items_failed"] += len(foreign)
        newest = sorted([*foreign, *views.failures(db, newest=_LAST_ERRORS)], key=_when, reverse=True)
        errors = tuple(newest[:_LAST_ERRORS])
    return _status(dest_address, run, sums, live=live, errors=errors)


def _when(failure: FailureRecord) -> float:
    return failure.when


def _status(
    dest: DestAddress,
    run: Mapping[str, Any],
    sums: Mapping[str, Any],
    *,
    live: bool,
    errors: tuple[FailureRecord, ...],
) -> StatusReport:
    seconds = run["seconds"]
    return StatusReport(
        state=views.state_now(run["state"], live=live),
        items_seen=max(run["most_seen"] or 0, sums["items_matched"]),  # runs may have seen different items
        assets_planned=sums["assets_done"] + sums["assets_failed"] + sums["assets_pending"],
        assets_skipped=run["assets_skipped"],
        bytes_fetched=run["all_fetched"],
        seconds=round(run["all_seconds"], 3),
        requests=run["all_requests"],
        retries=run["all_retries"],
        run=run["id"],
        runs=run["runs"],
        source=run["source"],
        dest=dest.name,
        work=None if dest.bucket is None else str(dest.work),
        checkpoint=None if run["walk_ended"] else _next_page(run["position"]),
        walk_ended=bool(run["walk_ended"]),
        live=live,
        pid=holder(dest.work) if live else None,
        rate=run["bytes_fetched"] / seconds if seconds else None,
        selection=run["selection"],
        last_errors=errors,
        reason=run["reason"],
        **sums,
    )


def _next_page(position: str | None) -> str | None:
    """Return the URL of the next page to read, None for the first page of a collection."""
    from stacpull.engine.walk import Position  # noqa: PLC0415 - it imports the sources: only if a walk is unfinished

    request = Position.from_json(position).request
    return None if request is None else request.url


def failures(dest: str | Path, options: Options | None = None) -> Iterator[FailureRecord]:
    """Yield every asset of `dest` that failed, and every item that could not be read or written.

    Args:
        dest: As for `status`.
        options: As for `status`.

    Raises:
        NotAMirrorError: `dest` is not a mirror.
        UsageError: `dest` contradicts the options or the ledger.
    """
    dest_address = parse_dest(dest, instance("options", Options, options))
    path = dest_address.work
    with closing(open_reader(path)) as db, translated(ledger_path(path)):
        yield from views.failures(db)
        with open_files(path, dest_address.bucket) as files:
            yield from unwritten(db, files)
