"""`verify`: check a mirror against its ledger, and with `repair` fetch damaged files again.

The check alone changes nothing: it can run together with other readers, locks out runs, and works on a
read-only disk. A repair locks the mirror like a run. It records the damage in the ledger, then continues as a
run of kind `repair`, which can be killed and resumed like any other.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from stacpull.arguments import instance
from stacpull.catalog.stored import asset_origin
from stacpull.clock import SystemClock
from stacpull.config.options import Options
from stacpull.dest_address import DestAddress, parse_dest
from stacpull.engine.item_writer import sent_document
from stacpull.engine.run_opening import (
    Invocation,
    on_ledger,
    opened_invocation,
    opened_workspace,
    run_from_ledger,
)
from stacpull.engine.workspace import Workspace
from stacpull.errors import DestinationError, UsageError
from stacpull.events import Damage, Listener
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
from stacpull.ledger.expected import Expectations, Expected, FileKind
from stacpull.ledger.runs import Run, RunSpec
from stacpull.models import Json
from stacpull.planning.hrefs import asset_href
from stacpull.reports import MirrorReport, RunState, VerifyReport
from stacpull.store.lock import kept_still
from stacpull.store.protocol import StoredFiles
from stacpull.store.store_choice import open_files
from stacpull.upkeep.mirror_check import Findings, Inspection
from stacpull.upkeep.reporting import Reporter
from stacpull.urls import is_local

_CLAIMED_AT_ONCE = 256


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
    reporter = Reporter(on_event, stop)
    options = instance("options", Options, options)
    dest_address = await asyncio.to_thread(parse_dest, dest, options)
    check = _Verification(dest_address, reporter, quick=quick, strict=strict)
    if not repair:
        totals = await reporter.run(check.alone)
        return check.report(totals)
    async with (
        opened_invocation(dest, options, on_event, stop, exists=True) as call,
        opened_workspace(call) as workspace,
    ):
        await reporter.run(lambda: check.inspect(workspace.db))
        fixed = await _repair(check, call, workspace)
        totals = await on_ledger(workspace, check.conclude)
        remaining = await on_ledger(workspace, lambda db: check.remaining(db, fixed))
        return check.report(totals, fixed, remaining)


async def _repair(check: _Verification, call: Invocation, workspace: Workspace) -> MirrorReport | None:
    """Fetch what the check found damaged. Return None if it found nothing that can be fetched."""
    if not await on_ledger(workspace, check.is_repairable):
        return None
    spec = await on_ledger(workspace, check.repair_spec)

    def begin(spec: RunSpec, db: Connection, kept: Mapping[str, Any]) -> Run:
        return check.begin(db, workspace.destination, spec, kept)

    return await run_from_ledger(call, workspace, spec, begin)


class _Verification:
    """One check of a mirror and its findings."""

    def __init__(self, dest_address: DestAddress, reporter: Reporter, *, quick: bool, strict: bool) -> None:
        self.quick = quick
        self._dest_address = dest_address
        self._dest = dest_address.work
        self._reporter = reporter
        self._strict = strict
        self._findings = Findings()
        self._assets = array("q")  # rows of damaged assets, 8 bytes each
        self._items = array("q")  # rows of items with damaged JSON
        self._catalogs = 0
        self._mirror_state: RunState | None = None

    def alone(self) -> Mapping[str, int]:
        """Check without changes, and return the totals of the ledger (on a thread).

        Raises:
            NotAMirrorError, DestinationError: As for `verify`.
        """
        with closing(open_reader(self._dest)) as db, kept_still(self._dest):
            self.inspect(db)
            return self.conclude(db)

    def inspect(self, db: Connection) -> None:
        """Check all files (on a thread).

        Raises:
            DestinationError: The ledger is damaged, or DEST cannot be read.
        """
        path = ledger_path(self._dest)
        with translated(path):
            complaint = integrity(db, quick=self.quick)
            if complaint is not None:
                raise DestinationError(damaged_sentence(path, complaint))
            try:
                with open_files(self._dest, self._dest_address.bucket) as files:
                    self._findings = Inspection(
                        files, Expectations(db), self._reporter, quick=self.quick, on_damage=self._note
                    ).run()
            except OSError as error:
                raise DestinationError(
                    f"{self._dest_address.name} cannot be read: {error.strerror}."
                ) from error
        self._reporter.flush()

    def conclude(self, db: Connection) -> Mapping[str, int]:
        """Keep the state of the mirror, and return the totals of the ledger. No run may be active."""
        run = views.current_run(db)
        self._mirror_state = None if run is None else views.state_now(run["state"], live=False)
        return runs.asset_counters(db)

    def _note(self, found: Damage, expected: Expected | None) -> None:
        self._reporter.report(found)
        if expected is None:
            return
        if expected.kind is FileKind.ASSET:
            self._assets.append(expected.row)
        elif expected.kind is FileKind.DOCUMENT:
            self._items.append(expected.row)
        else:
            self._catalogs += 1

    def is_repairable(self, db: Connection) -> bool:
        """Return True if the check is complete and found damage that a run can repair."""
        found = self._assets or self._items or self._catalogs
        return self._findings.complete and (bool(found) or jobs.is_left_open(db))

    def repair_spec(self, db: Connection) -> RunSpec:
        """Return the task of the run that repairs the mirror.

        Raises:
            UsageError: The source is unknown.
        """
        last = runs.last_spec(db)
        if last is None or not last.source:
            raise UsageError(
                f"The ledger does not name the source of {self._dest_address.name}: "
                "`stacpull mirror SOURCE DEST` fetches what is missing."
            )
        return replace(last, kind="repair")

    def begin(self, db: Connection, files: StoredFiles, spec: RunSpec, kept: Mapping[str, Any]) -> Run:
        """Record in the ledger what to repair, and return the run that repairs it."""
        run = runs.begin(db, spec, SystemClock().time(), kept)
        jobs.mark_documents(db, self._items)
        for start in range(0, len(self._assets), _CLAIMED_AT_ONCE):
            rows = self._assets[start : start + _CLAIMED_AT_ONCE]
            jobs.requeue_damaged(db, run.id, _source_hrefs(db, files, rows))
        jobs.take_over_pending(db, run.id)
        return replace(run, counters=runs.counters(db, run.id))

    def remaining(self, db: Connection, fixed: MirrorReport | None) -> int:
        """Return the number of files that are still damaged after a repair."""
        if fixed is None:
            return self._findings.total
        return fixed.assets_failed + fixed.assets_pending + jobs.damaged_items(db)

    def report(
        self,
        totals: Mapping[str, int],
        fixed: MirrorReport | None = None,
        remaining: int | None = None,
    ) -> VerifyReport:
        """Return the report.

        Args:
            totals: The totals of the ledger; empty if it was not read.
            fixed: The run of the repair.
            remaining: The number of files that are still damaged after a repair.
        """
        findings, dest_address = self._findings, self._dest_address
        damaged = findings.damaged
        is_complete = findings.complete and (fixed is None or fixed.state == "complete")
        left = findings.total if remaining is None else remaining
        unknown = damaged["unknown"] if self._strict else 0
        return VerifyReport(
            dest=dest_address.name,
            work=None if dest_address.bucket is None else str(dest_address.work),
            state="complete" if is_complete else "interrupted",
            files=findings.files,
            bytes=findings.bytes,
            missing=damaged["missing"],
            short=damaged["short"],
            altered=damaged["altered"],
            obstructed=damaged["obstructed"],
            unreadable=damaged["unreadable"],
            unknown=damaged["unknown"],
            unproven=findings.without_digest,
            leftovers=findings.leftovers,
            assets_pending=totals.get("assets_pending", 0),
            assets_failed=totals.get("assets_failed", 0),
            quick=self.quick,
            seconds=round(self._reporter.seconds(), 3),
            remaining=left + unknown,
            strict=self._strict,
            repair=fixed,
            mirror_state=self._mirror_state,
        )


def _source_hrefs(db: Connection, files: StoredFiles, assets: Iterable[int]) -> dict[int, str | None]:
    """Return the href at the source for each asset row, None if the mirror does not state it.

    The hrefs have no credentials or signatures, because a mirror does not store them.
    """
    found: dict[int, str | None] = {}
    item, document, base = 0, Json(), None
    for row in assets:
        its_item, key = views.item_and_key(db, row)
        if its_item != item:  # rows of one item are mostly adjacent
            item = its_item
            document, base = sent_document(files, views.item_record(db, item)) or ({}, None)
        asset = object_or_empty(object_or_empty(document.get("assets")).get(key))
        named = asset_origin(asset) or asset
        stated = named.get("href")
        # a file that was copied from this disk may be copied again if the source still lists it
        local = stated if isinstance(stated, str) and is_local(stated) else None
        href = asset_href(named, local or base)
        found[row] = href if isinstance(href, str) else None
    return found
