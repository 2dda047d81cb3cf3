"""The state of a mirror and its failures, read from its ledger."""

from collections.abc import Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any

from stacpull.arguments import or_default
from stacpull.config.options import Options
from stacpull.dest_address import DestAddress, resolve_dest
from stacpull.engine.event_log import failed_attempt
from stacpull.ledger import queries, runs
from stacpull.ledger.database import ledger_errors, ledger_path, open_reader
from stacpull.models import OWN_DIRECTORY
from stacpull.reports import FailureRecord, StatusReport
from stacpull.sources.source import Position
from stacpull.store.lock import holder, is_held


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
    address = resolve_dest(dest, or_default("options", Options, options), only_work=True)
    work = address.work
    with closing(open_reader(work, address.bucket)) as db, ledger_errors(ledger_path(work)):
        run = queries.run_status(db)
        position = None if run["walk_ended"] else run["position"]
        next_page = Position.from_json(position).request
        live = is_held(address.work)
        pid = holder(address.work) if live else None
        last_attempt = None if live else failed_attempt(address.work / OWN_DIRECTORY / "log.ndjson")
        assets = runs.run_totals(db)
        items = queries.item_totals(db)
        counts: dict[str, Any] = {**assets, **items, **queries.counts_not_in_totals(db)}
        names = {"runs", "started", "ended", "source", "sources", "selection", "options", "reason"}
        names |= {"assets_skipped", "rate", *queries.WALK_COUNTS, *runs.USAGE}
        return StatusReport(
            **counts,
            **{name: run[name] for name in names},
            state=queries.state_now(run["state"], live=live),
            items_seen=max(run["max_seen"], items["items_matched"]),  # runs may see different items
            assets_planned=assets["assets_done"] + assets["assets_failed"] + assets["assets_pending"],
            run=run["id"],
            dest=address.shown,
            work=address.work_of_bucket,
            checkpoint=None if next_page is None else next_page.url,
            walk_ended=bool(run["walk_ended"]),
            live=live,
            last_attempt=last_attempt,
            pid=pid,
            last_errors=tuple(queries.failures(db, newest=5)),
        )


def failures(dest: str | Path, options: Options | None = None) -> Iterator[FailureRecord]:
    """Return an iterator over every asset of `dest` that failed, and every item that could not be read.

    The arguments and errors are those of `status`. `list(failures(dest))` has all of them in memory.
    """
    records = _failures(resolve_dest(dest, or_default("options", Options, options), only_work=True))
    return chain([*islice(records, 1)], records)  # so that this call raises errors, not the iteration


def _failures(address: DestAddress) -> Iterator[FailureRecord]:
    work = address.work
    with closing(open_reader(work, address.bucket)) as db, ledger_errors(ledger_path(work)):
        yield from queries.failures(db)
