"""`verify`: check a mirror against its ledger, and with `repair` fetch damaged files again.

The check changes nothing, and locks out runs only. A repair is a run that can be killed and resumed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, get_args

from msgspec.structs import replace

from stacpull.arguments import instance
from stacpull.catalog.stored import asset_origin
from stacpull.clock import SystemClock
from stacpull.config.options import Options
from stacpull.dest_address import DestAddress, parse_dest
from stacpull.engine.item_json import sent_document
from stacpull.engine.mirror import opened_run
from stacpull.errors import DestinationError, UsageError
from stacpull.events import DamageKind, Listener
from stacpull.json_values import object_or_empty
from stacpull.ledger import jobs, runs, views
from stacpull.ledger.database import (
    Connection,
    damaged_sentence,
    integrity,
    ledger_path,
    open_reader,
    translated,
)
from stacpull.ledger.runs import Run, RunSpec
from stacpull.models import Json
from stacpull.planning.hrefs import asset_href
from stacpull.reports import RunState, VerifyReport
from stacpull.store.local_store import open_files
from stacpull.store.lock import kept_still
from stacpull.store.protocol import StoredFiles
from stacpull.upkeep.mirror_check import MirrorCheck
from stacpull.urls import is_local

_CLAIMED_AT_ONCE = 256
StateAndTotals = tuple[RunState | None, Mapping[str, int]]


async def verify(
    dest: str | Path,
    *,
    quick: bool = False,
    repair: bool = False,
    strict: bool = False,
    options: Options | None = None,
    on_event: Listener | None = None,
    stop: asyncio.Event | None = None,
) -> VerifyReport:
    """Check `dest` against its ledger: all assets, item JSON and catalogs. Also report unknown files.

    Args:
        dest: A directory, or a bucket with `work` in `options`, as for `resume`.
        quick: Check only sizes, and read no file. Not with `repair`.
        repair: Fetch damaged and missing files again, and write damaged item JSON and catalogs again.
        strict: Count files that do not belong to the mirror as damage.
        options: How to transfer, for a repair; and the work directory.
        on_event: Called with each `Damage`, with `Checked` a few times per second, and during a repair with
            the events of a mirror.
        stop: Set it to end gracefully; nothing is lost.

    Raises:
        NotAMirrorError: `dest` is not a mirror.
        UsageError: `repair` is given with `quick`, or the source is not known.
        DestinationError: The ledger or the destination cannot be read, or a run is using it.
        CredentialsError, SourceError: As for `resume`, during a repair.
    """
    if quick and repair:
        raise UsageError("--quick cannot be combined with --repair, which reads every file.")
    stop = instance("stop", asyncio.Event, stop)
    options = instance("options", Options, options)
    address = await asyncio.to_thread(parse_dest, dest, options)
    check = MirrorCheck(on_event, stop, quick=quick)
    if not repair:
        return _report(check, address, await check.run(lambda: _check_alone(check, address)), strict=strict)
    async with opened_run(dest, options, on_event, stop, exists=True) as call:
        workspace = await call.open_workspace()
        await check.run(lambda: _check(check, address, workspace.db))
        spec = await call.on_ledger(lambda db: _repair_spec(check, address, db))
        fixed, left = None, check.total
        if spec is not None:
            fixed = await call.from_ledger(spec, partial(_begin, check, workspace.destination))
            left = fixed.assets_failed + fixed.assets_pending + await call.on_ledger(jobs.damaged_items)
        report = _report(check, address, await call.on_ledger(_state_and_totals), strict=strict)
        unknown = check.damaged["unknown"] if strict else 0
        is_complete = report.state == "complete" and (fixed is None or fixed.state == "complete")
        state = "complete" if is_complete else "interrupted"
        return replace(report, state=state, remaining=left + unknown, repair=fixed)


def _check_alone(check: MirrorCheck, address: DestAddress) -> StateAndTotals:
    with closing(open_reader(address.work)) as db, kept_still(address.work):
        _check(check, address, db)
        return _state_and_totals(db)


def _check(check: MirrorCheck, address: DestAddress, db: Connection) -> None:
    path = ledger_path(address.work)
    with translated(path):
        complaint = integrity(db, quick=check.quick)
        if complaint is not None:
            raise DestinationError(damaged_sentence(path, complaint))
        try:
            with open_files(address.work, address.bucket) as files:
                check.check(files, db)
        except OSError as error:
            raise DestinationError(f"{address.name} cannot be read: {error.strerror}.") from error


def _state_and_totals(db: Connection) -> StateAndTotals:
    """Read the ledger. No run may be active."""
    run = views.current_run(db)
    return None if run is None else views.state_now(run["state"], live=False), runs.asset_counters(db)


def _report(
    check: MirrorCheck, address: DestAddress, ledger: StateAndTotals, *, strict: bool
) -> VerifyReport:
    damaged, (mirror_state, totals) = check.damaged, ledger
    kinds: dict[str, Any] = {what: damaged[what] for what in get_args(DamageKind)}
    return VerifyReport(
        dest=address.name,
        work=None if address.bucket is None else str(address.work),
        state="complete" if check.complete else "interrupted",
        files=check.files,
        bytes=check.bytes,
        unproven=check.without_digest,
        leftovers=check.leftovers,
        assets_pending=totals["assets_pending"],
        assets_failed=totals["assets_failed"],
        quick=check.quick,
        seconds=check.seconds,
        remaining=check.total + (damaged["unknown"] if strict else 0),
        strict=strict,
        mirror_state=mirror_state,
        **kinds,
    )


# --- repair -----------------------------------------------------------------------------------------------


def _repair_spec(check: MirrorCheck, address: DestAddress, db: Connection) -> RunSpec | None:
    """Return the task of the run that repairs the mirror; None if there is nothing that a run can repair."""
    is_damaged = bool(check.assets or check.items or check.catalogs) or jobs.is_left_open(db)
    if not check.complete or not is_damaged:
        return None
    last = runs.last_spec(db)
    if last is None or not last.source:
        raise UsageError(
            f"The ledger does not name the source of {address.name}: "
            "`stacpull mirror SOURCE DEST` fetches what is missing."
        )
    return replace(last, kind="repair")


def _begin(
    check: MirrorCheck, files: StoredFiles, db: Connection, spec: RunSpec, kept: Mapping[str, Any]
) -> Run:
    run = runs.begin(db, spec, SystemClock().time(), kept)
    jobs.mark_documents(db, check.items)
    for start in range(0, len(check.assets), _CLAIMED_AT_ONCE):
        rows = check.assets[start : start + _CLAIMED_AT_ONCE]
        jobs.requeue_damaged(db, run.id, _source_hrefs(db, files, rows))
    jobs.take_over_pending(db, run.id)
    return replace(run, counters=runs.counters(db, run.id))


def _source_hrefs(db: Connection, files: StoredFiles, assets: Iterable[int]) -> dict[int, str | None]:
    """Return hrefs by row, without credentials; None if the mirror does not state it."""
    found: dict[int, str | None] = {}
    item, document, base = 0, Json(), None
    for row in assets:
        its_item, _, key = views.owner(db, row)
        if its_item != item:  # rows of one item are mostly adjacent
            item = its_item
            document, base = sent_document(files, next(views.item_records(db, [item]))) or ({}, None)
        asset = object_or_empty(object_or_empty(document.get("assets")).get(key))
        named = asset_origin(asset) or asset
        stated = named.get("href")
        # a file that was copied from this disk may be copied again if the source still lists it
        local = stated if isinstance(stated, str) and is_local(stated) else None
        href = asset_href(named, local or base)
        found[row] = href if isinstance(href, str) else None
    return found
