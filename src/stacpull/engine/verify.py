"""`verify`: check each file of a mirror against its ledger, and with `repair` fetch damaged files again.

The check changes nothing, and excludes runs but not readers. One thread uses the ledger's connection, others
read files. A file without a recorded digest must have the recorded size; without either, it must not be
empty. A repair is a run: it can be killed and resumed.
"""

import asyncio
import os
import time
from array import array
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from msgspec.structs import replace

from stacpull.arguments import or_default
from stacpull.catalog.item import asset_origin
from stacpull.config.options import Options
from stacpull.dest_address import DestAddress, resolve_dest
from stacpull.digests import as_checksum
from stacpull.engine.mirror import TICK, RunContext, call_ledger, open_dest, run_context, run_from_ledger
from stacpull.engine.open_mirror import OpenMirror
from stacpull.engine.publisher import original_item
from stacpull.errors import DestinationError, StacpullError, UsageError, quantity
from stacpull.events import Checked, Damage, DamageKind, Listener, Notice
from stacpull.json_values import object_or_empty
from stacpull.ledger import database, meta, queries, runs, transitions
from stacpull.ledger.database import Connection, ledger_errors, ledger_path, open_reader
from stacpull.ledger.queries import RecordedFile
from stacpull.ledger.runs import Run
from stacpull.models import OWN_DIRECTORY, Json
from stacpull.planning.hrefs import asset_href
from stacpull.reports import MirrorReport, VerifyReport
from stacpull.store.inspection import FileState, StoredFiles, WaitHooks
from stacpull.store.local_store import open_files
from stacpull.store.lock import runs_excluded
from stacpull.store.staging import PARTS, TEMPORARY_ENDINGS, UNFINISHED, is_worker
from stacpull.threads import StoppableExecutor

_AT_ONCE = 256  # files that a thread checks, or assets that are requeued
_THREADS = min(16, 2 * (os.cpu_count() or 1))  # two per core, because they wait for the disk
_GROUP = 2 * _THREADS * _AT_ONCE  # files that are given to the threads at once
_FileStates = list[tuple[RecordedFile, FileState]]


def damage_of(expected: RecordedFile, state: FileState) -> tuple[DamageKind, str] | None:
    """Return what is wrong with a file. An empty one of unknown size is short, unless its digest matches."""
    size = expected.size
    has_digests = expected.digest is not None and state.digest is not None
    if state.obstacle is not None:
        kind: DamageKind = "obstructed" if state.readable else "unreadable"
        return kind, state.obstacle
    if state.size is None:
        return "missing", "nothing"
    if has_digests and expected.digest == state.digest:
        return None
    least = 1 if size is None else size
    if state.size < least:
        return "short", _described(state.size, None)
    if has_digests or (size is not None and state.size > size):
        return "altered", _described(state.size, state.digest)
    return None


def _described(size: int | None, digest: bytes | None) -> str:
    unit = "byte" if size == 1 else "bytes"
    parts = [] if size is None else [f"{size} {unit}"]
    if digest is not None:
        parts.append(f"{as_checksum(digest).algorithm} {digest.hex()}")
    return ", ".join(parts) or "a file"


class MirrorCheck:
    """Checks a mirror in a thread. Create it on the event loop: `listener` is called there meanwhile."""

    def __init__(
        self, address: DestAddress, listener: Listener | None, stop: asyncio.Event, quick: bool, strict: bool
    ) -> None:
        self._address = address
        self.thread = StoppableExecutor(stop)
        self._counts = Counter(files=0, bytes=0, unproven=0, leftovers=0)
        self.assets_of_other_sources = 0  # damaged ones, which a repair leaves to the next one
        self.damaged: Counter[DamageKind] = Counter()
        self.rowids = {kind: array("q") for kind in ("asset", "item", "catalog")}  # of damaged files
        self.complete = False
        self._quick = quick
        self._strict = strict
        self._listener: Listener = listener or (lambda _event: None)
        self._loop = asyncio.get_running_loop()
        self._expected = (0, 0)
        self._started = time.monotonic()
        self._sent_at = 0.0

    @property
    def damaged_files(self) -> int:
        return self.damaged.total() - self.damaged["unknown"]

    @property
    def rejected_files(self) -> int:
        return self.damaged["unknown"] if self._strict else 0

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._started, 3)

    def check_mirror(self, db: Connection) -> None:
        address = self._address
        path = ledger_path(address.work)
        with ledger_errors(path):
            problem = database.integrity(db, quick=self._quick)
            if problem is not None:
                raise DestinationError(database.damage_message(path, problem))
            try:
                hooks = WaitHooks(lambda text: self._send(Notice("warning", text)), self.thread.is_stopped)
                with open_files(address.work, address.bucket, hooks) as files:
                    self.check_files(files, db)
                with suppress(FileNotFoundError):
                    endings = UNFINISHED.union(TEMPORARY_ENDINGS)
                    parts = (address.work / PARTS).iterdir()  # a part and its description count as one
                    left = {part.stem for part in parts if part.suffix in endings or is_worker(part.name)}
                    self._counts["leftovers"] += len(left)
            except OSError as error:
                raise DestinationError(f"{address.shown} cannot be read: {error.strerror}.") from error

    def check_files(self, files: StoredFiles, db: Connection) -> None:
        self._expected = queries.expected_totals(db)
        remaining = queries.expected_files(db)
        with ThreadPoolExecutor(_THREADS, "stacpull-files") as threads:
            while not self.thread.is_stopped():
                group = list(islice(remaining, _GROUP))
                if not group:
                    break
                batches = [group[start : start + _AT_ONCE] for start in range(0, len(group), _AT_ONCE)]
                for states in threads.map(partial(self.file_states, files), batches):
                    for expected, state in states:
                        if state.size is not None:
                            self._counts.update(files=1, bytes=state.size)
                            if state.digest is None:
                                self._counts["unproven"] += 1
                        self._compare(db, expected, state)
                    self._send_progress()
        self._find_unknown(files, db)
        self.complete = not self.thread.is_stopped()
        self._send_progress(now=True)

    def _find_unknown(self, files: StoredFiles, db: Connection) -> None:
        pending_removals = meta.with_prefix(db, meta.REMOVALS)
        for batch in files.walk(frozenset({OWN_DIRECTORY})):
            if self.thread.is_stopped():
                return
            known = queries.known_paths(db, [entry.path for entry in batch])
            for entry in batch:
                if entry.path in known:
                    continue
                if entry.is_file and entry.path in pending_removals:
                    self._counts["leftovers"] += 1
                    continue
                found = None
                if not entry.is_file:
                    found = files.state_of(entry.path, algorithm=None).obstacle
                self._report_damage(entry.path, "unknown", "nothing", found or "a file")
            self._send_progress()

    def file_states(self, files: StoredFiles, batch: Iterable[RecordedFile]) -> _FileStates:
        states = []
        for expected in batch:
            algorithm = None
            if expected.digest is not None and not self._quick:
                algorithm = as_checksum(expected.digest).algorithm
            state = files.state_of(expected.path, algorithm=algorithm, is_stopped=self.thread.is_stopped)
            if self.thread.is_stopped():  # a long file may have been read in part
                break
            states.append((expected, state))
        return states

    def _compare(self, db: Connection, expected: RecordedFile, state: FileState) -> None:
        damage = damage_of(expected, state)
        if damage is None:
            return
        self.rowids[expected.kind].append(expected.rowid)
        names: tuple[str, ...] = ()
        if expected.kind == "asset":
            _, item, key = queries.asset_owner(db, expected.rowid)
            names = *item, key
        elif expected.kind == "item":
            (record,) = queries.item_records(db, [expected.rowid])
            names = *record.id, ""
        kind, found = damage
        recorded = _described(expected.size, expected.digest)
        self._report_damage(expected.path, kind, recorded, found, *names)

    def report(self, db: Connection) -> VerifyReport:
        run = queries.run_status(db)
        totals = runs.run_totals(db) | queries.counts_not_in_totals(db) | queries.item_totals(db)
        counts: dict[str, Any] = {what: self.damaged[what] for what in get_args(DamageKind)}
        counts |= self._counts
        names = totals.keys() & set(VerifyReport.__struct_fields__)
        counts |= {name: totals[name] for name in names}
        return VerifyReport(
            dest=self._address.shown,
            work=self._address.work_of_bucket,
            state="complete" if self.complete else "interrupted",
            quick=self._quick,
            seconds=self.seconds,
            remaining=self.damaged_files + self.rejected_files,
            strict=self._strict,
            mirror_state=queries.state_now(run["state"], live=False),
            walk_ended=bool(run["walk_ended"]),
            **counts,
        )

    def _report_damage(self, path: str, kind: DamageKind, recorded: str, found: str, *names: str) -> None:
        self.damaged[kind] += 1
        shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        self._send(Damage(shown, kind, recorded, found, *names))

    def _send(self, event: Damage | Checked | Notice) -> None:
        async def deliver() -> None:
            self._listener(event)

        asyncio.run_coroutine_threadsafe(deliver(), self._loop).result()

    def _send_progress(self, *, now: bool = False) -> None:
        seconds = self.seconds
        if now or seconds - self._sent_at >= TICK:
            self._sent_at = seconds
            files = self._counts["files"]
            size = self._counts["bytes"]
            expected_files, expected_size = self._expected
            total = max(files, expected_files)
            self._send(Checked(files, size, self.damaged_files, seconds, total, expected_size))


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
        UsageError: `repair` is given with `quick`.
        DestinationError: The ledger or the destination cannot be read, or a run is using it.
        CredentialsError, SourceError: As for `resume`, during a repair.
    """
    if quick and repair:
        raise UsageError("--quick cannot be combined with --repair, which reads every file.")
    stop = or_default("stop", asyncio.Event, stop)
    address = await asyncio.to_thread(resolve_dest, dest, or_default("options", Options, options))
    check = MirrorCheck(address, on_event, stop, quick=quick, strict=strict)

    def check_alone() -> VerifyReport:
        with closing(open_reader(address.work, address.bucket)) as db, runs_excluded(address.work):
            check.check_mirror(db)
            return check.report(db)

    if not repair:
        return await check.thread.run(check_alone)
    async with (
        run_context(dest, options, on_event, stop, must_exist=True) as context,
        open_dest(context) as opened,
    ):
        await check.thread.run(lambda: check.check_mirror(opened.db))
        if not (check.complete and any(check.rowids.values())):
            return await call_ledger(opened, check.report)
        run = await _repair(check, context, opened)
        catalogs = await call_ledger(opened, lambda db: list(queries.expected_catalogs(db)))
        states = await asyncio.to_thread(check.file_states, opened.store, catalogs)
        metadata = await call_ledger(opened, queries.damaged_items) + check.rejected_files
        metadata += sum(damage_of(*state) is not None for state in states)
        remaining = run.assets_failed + run.assets_pending + check.assets_of_other_sources + metadata
        report = await call_ledger(opened, check.report)
        state = report.state if run.state == "complete" else "interrupted"
        return replace(report, state=state, remaining=remaining, repair=run)


async def _repair(check: MirrorCheck, context: RunContext, opened: OpenMirror) -> MirrorReport:
    context.event_log(Notice("info", f"repairing {quantity(check.damaged_files, 'damaged file')}"))
    task = await call_ledger(opened, partial(runs.task_to_repair, rowids=check.rowids))
    requeue = partial(_requeue_damaged, check, opened.store)
    try:
        return await run_from_ledger(context, opened, *task, requeue=requeue)
    except StacpullError as error:
        with suppress(StacpullError):
            error.report = await call_ledger(opened, check.report)
        raise


def _requeue_damaged(check: MirrorCheck, files: StoredFiles, db: Connection, run: Run) -> None:
    @lru_cache(1)  # the rows of an item are usually adjacent
    def read_item(item: int) -> tuple[Json, str | None]:
        (record,) = queries.item_records(db, [item])
        document, base = original_item(files, record) or ({}, None)
        if record.href is None:  # the item cannot be read again: paths in its JSON are used
            base = run.source
        return document, base

    transitions.mark_json_damaged(db, check.rowids["item"])
    for start in range(0, len(check.rowids["asset"]), _AT_ONCE):
        damaged = {}
        for rowid in check.rowids["asset"][start : start + _AT_ONCE]:
            item, _, key = queries.asset_owner(db, rowid)
            document, base = read_item(item)
            asset = object_or_empty(object_or_empty(document.get("assets")).get(key))
            href = asset_href(asset_origin(asset) or asset, base)
            media_type = asset.get("type")
            url = href if isinstance(href, str) else None
            damaged[rowid] = url, media_type if isinstance(media_type, str) else None
        check.assets_of_other_sources += transitions.requeue_damaged(db, run.id, damaged)
