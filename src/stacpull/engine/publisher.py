"""The publisher: it gives complete parts their final names, in groups. `Recovery` completes a killed run.

    received ─reserve, sync, place─▶ placed ─the next sync, record─▶ done

To place a part is to rename it, or to upload it to a bucket, where `sync` does nothing. Each turn syncs
once. This makes two things durable: the data of its group, and the renames of the previous group, which is
recorded next. After a kill, a file with its final name is complete, and reserved or recorded.
"""

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec
import orjson

from stacpull.catalog.item import adapted_item, encode_item, is_own_json, path_of_href, restore_original
from stacpull.digests import as_checksum
from stacpull.engine.messages import RunCounters, StoreEvent
from stacpull.entry_points import load
from stacpull.errors import DestinationError, InterruptedRunError
from stacpull.events import AssetFailed
from stacpull.json_values import parsed_object
from stacpull.ledger import jobs, meta, queries, runs, transitions
from stacpull.ledger.database import Connection, is_disk_error, transaction, truncate_wal
from stacpull.ledger.runs import Run
from stacpull.models import FILE_OF_USER, AssetFile, Failure, FailureKind, Json, OutcomeWithoutFile, Placement
from stacpull.planning.hrefs import item_id_in
from stacpull.redact import Secrets
from stacpull.store.inspection import FileState, StoredFiles
from stacpull.store.protocol import Store, exists_failure
from stacpull.store.staging import TEMPORARY_ENDINGS, CompletePartName, parse_complete_part
from stacpull.system import boot_id
from stacpull.transfer.received import received_file

GROUP_SIZE = 512  # waiting files with which a group is started; it takes all waiting files
GROUP_SECONDS = 0.25  # after which a smaller group is started
_BUCKET_SECONDS = 0.02  # the same for a bucket: waiting saves no syncs


class Publisher(msgspec.Struct, eq=False):
    """Publishes parts in groups. All methods but `note_error` run on the ledger's thread."""

    db: Connection
    store: Store
    run: Run
    secrets: Secrets
    is_stopped: Callable[[], bool]
    on_event: Callable[[StoreEvent], None]
    _counters: Mapping[str, int] = {}  # as they were sent last
    _received: list[AssetFile] = []
    _without_file: list[OutcomeWithoutFile] = []
    _items_to_write: list[int] = []  # rowids; their JSON is written in the next turn
    _placed: list[AssetFile] = []
    _placed_json: dict[int, bytes | None] = {}  # digests, by rowid of the item
    _failed_json: set[int] = set()  # rowids of items
    _sync_error: DestinationError | None = None
    _due_at: float | None = None
    _is_adopting: bool = False

    def __post_init__(self) -> None:
        is_older_copy = meta.get(self.db, meta.ADOPTING) is not None  # so DEST may have more files
        self._is_adopting = is_older_copy or self.run.remembered.get("adopt", False)
        self.send_counters()

    def add(self, files: Sequence[AssetFile], without_file: Sequence[OutcomeWithoutFile]) -> None:
        """Take complete parts, assets without a part (they have been placed), and outcomes without a file."""
        for file in files:
            waiting = self._received if file.part else self._placed
            waiting.append(file)
        self._without_file.extend(without_file)

    def _is_busy(self) -> bool:
        has_new = bool(self._received or self._without_file or self._items_to_write)
        return has_new or bool(self._placed or self._placed_json)

    def seconds_until_due(self) -> float | None:
        if self._due_at is None:
            return None
        return max(0.0, self._due_at - time.monotonic())

    def publish_if_due(self) -> None:
        waiting = len(self._received) + len(self._without_file)
        if waiting >= GROUP_SIZE or self.seconds_until_due() == 0:
            self.publish()
        if self._due_at is None and self._is_busy():  # also what this turn has placed
            seconds = GROUP_SECONDS if self.store.is_local else _BUCKET_SECONDS
            self._due_at = time.monotonic() + seconds

    def publish_all(self, items: Sequence[int] = ()) -> None:
        self._items_to_write.extend(items)
        while self._is_busy():
            self.publish()

    def finish(self) -> None:
        self.publish_all()
        self._sync(())

    def publish(self) -> None:
        """Take one turn: reserve, sync and place a group, and record the previous one, now synced."""
        self._due_at = None
        received = self._received
        without_file = self._without_file
        self._received = []
        self._without_file = []
        item_json = self._write_item_json(self._items_to_write)
        assets, refused = self.reserve_names(received, list(item_json))  # 1. reserve
        placements = [*(placement for _, placement in assets), *item_json.values()]
        self._sync([placement.part for placement in placements])  # 2. sync, also what the last turn placed
        self._items_to_write = self._record([*without_file, *refused])  # 3. record the last turn
        failures = self._place(placements)  # 4. rename or upload
        self._note_placed([file for file, _ in assets], failures[: len(assets)])
        for (item, placement), failure in zip(item_json.items(), failures[len(assets) :], strict=True):
            if failure is None:
                self._placed_json[item] = placement.digest
            else:
                self._fail_item_json(item, failure, is_ours=placement.may_replace)

    def _note_placed(self, files: Sequence[AssetFile], failures: Sequence[Failure | None]) -> None:
        """Keep what was placed for the next turn, which syncs and records it. Release the other names."""
        for file, failure in zip(files, failures, strict=True):
            file.body = None
            if failure is None:
                self._placed.append(file)
            else:
                outcome = OutcomeWithoutFile(file.rowid, file.item_rowid, file.generation, failure)
                self._without_file.append(outcome)
        if self._without_file:
            transitions.release(self.db, [outcome.rowid for outcome in self._without_file])

    def _write_item_json(self, item_rowids: Sequence[int]) -> dict[int, Placement]:
        written = {}
        for record in queries.item_records(self.db, list(dict.fromkeys(item_rowids))):
            part = f"{record.item_rowid}.item.json"
            data = self.item_json(record, record.path)
            if data is None and record.is_ours:
                transitions.mark_json_damaged(self.db, [record.item_rowid])
                why = "was changed or cannot be read: run `stacpull mirror` again to replace it."
                placement: Placement | Failure = Failure(FailureKind.ITEM, f"{record.path} {why}")
            else:
                digest = None if data is None else hashlib.sha256(data).digest()
                placement = self._placement_at(part, record.path, digest, is_ours=record.is_ours)
            if isinstance(placement, Failure):
                self._fail_item_json(record.item_rowid, placement, is_ours=record.is_ours)
            elif data is not None:
                self.store.staged.write_part(part, data)
                written[record.item_rowid] = placement
        return written

    def _fail_item_json(self, item_rowid: int, failure: Failure, *, is_ours: bool) -> None:
        """Record the failure, and report it once, because the same JSON is tried several times in a run."""
        now = time.time()
        transitions.fail_item_json(self.db, self.run.id, item_rowid, failure, now, is_ours=is_ours)
        if item_rowid not in self._failed_json:
            self._failed_json.add(item_rowid)
            (record,) = queries.item_records(self.db, [item_rowid])
            self.on_event(AssetFailed(record.id, "", failure.kind, failure.message))

    def item_json(self, record: queries.ItemRecord, path: str) -> bytes | None:
        original = original_item(self.store, record)
        if original is None:
            return None
        document, base = original
        directory = record.path.rpartition("/")[0]  # of its JSON in DEST

        def local_path(href: str) -> str | None:
            in_mirror = path_of_href(href, directory)
            if in_mirror is not None:
                return in_mirror
            url = self.secrets.storable_url(href)
            return queries.item_json_path(self.db, item_id_in(href), url)

        adapted = adapted_item(
            document,
            collection=record.id.collection,
            mirrored=record.mirrored,
            item_path=path,
            local_items=local_path,
            base=base,
        )
        return encode_item(adapted, self.secrets)

    def _placement_at(
        self, part: str, path: str, sha256: bytes | None, *, is_ours: bool, command: str = "retry"
    ) -> Placement | Failure:
        if not is_ours and self.store.has(path):
            is_adopted = self._is_adopting and is_own_json(self.store, path)
            is_ours = is_adopted or self._has_content(path, sha256)
            if not is_ours:
                return self._exists_failure(path, command)
        directory, _, name = path.rpartition("/")
        return Placement(part, directory, name, sha256, may_replace=is_ours)

    def _exists_failure(self, path: str, command: str = "retry") -> Failure:
        obstacle = self.store.state_of(path, algorithm=None).obstacle
        why = "its content differs" if self._is_adopting else ""
        if obstacle is not None:
            why = f"it is {obstacle}"
        return exists_failure(path, why, command)

    def reserve_names(
        self, files: list[AssetFile], items: list[int]
    ) -> tuple[list[tuple[AssetFile, Placement]], list[OutcomeWithoutFile]]:
        if not (files or items):
            return [], []
        staged = self.store.staged
        if self._is_adopting:
            for file in files:
                if file.generation == 0 and self.store.has(file.path):
                    file.identity = FILE_OF_USER
        clips = {}
        clipping = None if self.run.area_hash is None else load("stacpull.fetchers", "clip")
        if clipping is not None:
            for file in files:
                with suppress(OSError), staged.open(file.part) as opened:
                    clip = clipping.clip_in(opened)
                    if clip is not None:
                        clips[file.rowid] = clip
        reserved, failures = transitions.reserve(self.db, files, items, clips)
        for part in {file.part for file in files} - {file.part for file in reserved}:
            staged.remove_part(part)
        placements = []
        for file in reserved:
            may_replace = file.generation > 0 or (file.identity is FILE_OF_USER and self._is_adopted(file))
            placement = Placement(file.part, file.directory, file.name, file.digest, may_replace, file.body)
            placements.append((file, placement))
        return placements, failures

    def _is_adopted(self, file: AssetFile) -> bool:
        existing = self.store.find(file.path)
        if existing is None or existing[1] != file.size:
            return False
        staged = self.store.staged
        if existing == staged.part_identity_and_size(file.part):  # a hard link
            return True
        digest = file.digest or staged.state_of(file.part).digest
        return self._has_content(file.path, digest)

    def _has_content(self, path: str, digest: bytes | None) -> bool:
        if digest is None:
            return False
        algorithm = as_checksum(digest).algorithm
        return self.store.state_of(path, algorithm=algorithm).digest == digest

    def _sync(self, parts: Sequence[str]) -> None:
        """Sync these parts, and the renames since the last sync. A failed sync is never repeated."""
        if self._sync_error is not None:
            raise self._sync_error
        try:
            self.store.sync(parts)
        except DestinationError as error:
            self._note_sync_error(error)
            raise

    def _record(self, without_file: list[OutcomeWithoutFile]) -> list[int]:
        files = self._placed
        item_json = self._placed_json
        self._placed = []
        self._placed_json = {}
        if not (files or item_json or without_file):
            return []
        now = time.time()
        settled, failed = transitions.record(self.db, self.run, files, without_file, item_json, now)
        self.send_counters()
        for rowid, failure in failed:
            _, item, key = queries.asset_owner(self.db, rowid)
            self.on_event(AssetFailed(item, key, failure.kind, failure.message))
        return settled if self.run.fixed["metadata"] == "item" else []

    def _place(self, placements: Sequence[Placement]) -> list[Failure | None]:
        failures = self.store.place(placements)
        for number, (placement, failure) in enumerate(zip(placements, failures, strict=True)):
            if failure is not None and failure.kind is FailureKind.EXISTS:
                failures[number] = self._exists_failure(placement.path)
            if failure is not None or self._is_adopting:  # a rename between links to one file does nothing
                self.store.staged.remove_part(placement.part)
        return failures

    def send_counters(self) -> None:
        counters = runs.counters(self.db, self.run.id)
        if counters != self._counters:
            self._counters = counters
            self.on_event(RunCounters(counters))

    def note_error(self, error: BaseException) -> None:
        """Treat a disk error of SQLite, which also syncs, as a failed sync."""
        if isinstance(error, DestinationError) and is_disk_error(error):
            self._note_sync_error(error)

    def _note_sync_error(self, error: DestinationError) -> None:
        """After a failed sync: publish nothing more, and let the next run distrust unrecorded files."""
        self._sync_error = error
        self.store.staged.remove_boot_mark()

    def write_file(self, path: str, data: bytes) -> None:
        part = f"{path.rpartition('/')[2]}.tmp"
        self.store.staged.write_part(part, data)
        self.place_file(path, part, hashlib.sha256(data).digest())

    def place_file(self, path: str, part: str, sha256: bytes) -> None:
        """Place a file at `path` in DEST. Raise an error if a foreign file, with other content, is there."""
        is_ours = meta.owns_file(self.db, path)
        placement = self._placement_at(part, path, sha256, is_ours=is_ours, command="resume")
        if isinstance(placement, Failure):
            self.store.staged.remove_part(part)
            raise DestinationError(placement.message)
        meta.claim_file(self.db, path)
        self._sync([part])
        (failure,) = self.store.place([placement])
        if failure is not None:
            self.store.staged.remove_part(part)
            if not placement.may_replace:
                meta.record_file(self.db, path, None)
            raise DestinationError(failure.message)
        meta.record_file(self.db, path, sha256)

    def remove_listed(self) -> None:
        """Remove the files of deleted rows (`ledger.pruning`). After a kill, the next start continues."""
        paths = meta.with_prefix(self.db, meta.REMOVALS)
        if not paths:
            return
        self._sync(())  # the deletion of rows must be durable before files are removed
        for path in paths:
            self.store.remove(path)
        self._sync(())
        with transaction(self.db):
            for path in paths:
                meta.put(self.db, meta.REMOVALS + path, None)


def original_item(files: StoredFiles, record: queries.ItemRecord) -> tuple[Json, str | None] | None:
    """Return an item as it was sent, without credentials, and its base URL; None if its JSON is damaged."""
    if record.document is not None:
        return orjson.loads(record.document), record.href
    try:
        data = files.read(record.path)
    except OSError:
        return None
    if data is None:
        return None
    if record.sha256 is not None and record.sha256 != hashlib.sha256(data).digest():
        return None
    stored = parsed_object(data)
    return None if stored is None else (restore_original(stored), None)


class Recovery:
    """Restores a consistent state after a kill, before a run continues.

    | the last run | proof of its files and parts |
    |---|---|
    | in this boot | their size: the page cache has the bytes |
    | in this boot; a sync failed (no boot mark) | none: lost pages may be in the cache, marked clean |
    | before a reboot | a digest: unsynced bytes may be missing although the size is right |

    Reservations are released only after everything has been examined. A file that is being adopted belongs
    to the user until it is recorded, so it is never removed. Item JSON and catalogs are reserved without
    identity, so a file that the user puts in their place after a kill is replaced.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._db = publisher.db
        self._store = publisher.store
        self._is_stopped = publisher.is_stopped
        self._run = publisher.run
        self._boot = boot_id()
        is_same_boot = meta.get(self._db, meta.BOOT) == self._boot
        has_mark = self._store.staged.read_boot_mark() == self._boot
        self._sync_failed = is_same_boot and not has_mark  # then a digest proves nothing
        self._is_trusted = is_same_boot and has_mark and self._boot != ""

    def run(self) -> list[AssetFile]:
        """Return the complete files that are not recorded as done. Those with final names have no `part`."""
        staged = self._store.staged
        if self._sync_failed:
            truncate_wal(self._db)  # the log may have holes on the disk that the page cache hides
        parts = staged.list_parts()
        complete_parts = {}
        with_part = set()
        for part in parts:
            name = parse_complete_part(part)
            if name is not None:
                complete_parts[part] = name
                with_part.add((name.rowid, name.generation))
        reserved = {file.rowid: file for file in jobs.reservations(self._db)}
        proven = {}
        for rowid, file in reserved.items():
            has_part = (rowid, file.generation) in with_part
            if self._is_in_place(file, has_part=has_part):
                proven[rowid] = file
        not_in_place = reserved.keys() - proven.keys()
        for part, name in complete_parts.items():
            if name.rowid not in proven:
                received = self._proven_part(part, name, reserved.get(name.rowid))
                if received is not None:
                    proven[name.rowid] = received
        transitions.release(self._db, not_in_place)
        kept_parts = {file.part for file in proven.values()}
        for part in parts:
            if part.endswith(TEMPORARY_ENDINGS) and part not in kept_parts:
                staged.remove_part(part)
        staged.remove_leftovers(
            lambda rowid, generation: self._is_trusted and jobs.has_job(self._db, rowid, generation)
        )
        # The mark is written first: after a kill before `put`, files are examined as after a reboot
        staged.write_boot_mark(self._boot)
        meta.put(self._db, meta.BOOT, self._boot)
        return list(proven.values())

    def _is_in_place(self, file: AssetFile, *, has_part: bool) -> bool:
        identity, size = self._store.find(file.path) or (0, -1)
        if size != file.size:
            return False
        is_ours = identity == file.identity
        # a part that is still there was not renamed: a file with the same content is not the mirror's
        may_be_ours = is_ours or not has_part
        is_proven = (is_ours and self._is_trusted) or (may_be_ours and self._has_recorded_content(file))
        if is_ours and not is_proven:
            self._store.remove(file.path)
        return is_proven

    def _digest(self, state_of: Callable[..., FileState], path: str, algorithm: str) -> bytes | None:
        state = state_of(path, algorithm=algorithm, is_stopped=self._is_stopped)
        if self._is_stopped():
            raise InterruptedRunError
        return state.digest

    def _has_recorded_content(self, file: AssetFile) -> bool:
        if self._sync_failed or file.digest is None:
            return False
        algorithm = as_checksum(file.digest).algorithm
        if self._digest(self._store.state_of, file.path, algorithm) != file.digest:
            return False
        with suppress(OSError), self._store.open(file.path) as opened:
            if self._store.is_local:
                os.fsync(opened.fileno())  # someone may have copied DEST
            return True
        return False

    def _proven_part(self, part: str, name: CompletePartName, reserved: AssetFile | None) -> AssetFile | None:
        staged = self._store.staged
        job = jobs.job_of(self._db, self._run, name.rowid, name.generation)
        identity, size = staged.part_identity_and_size(part) or (0, -1)
        is_as_named = size == name.size and not self._sync_failed
        if job is None or not is_as_named or not (job.name or name.filename):
            return None
        expected = None  # a trusted part needs no proof
        if not self._is_trusted:
            if reserved is None or reserved.digest is None:
                return None
            expected = as_checksum(reserved.digest)
        algorithm = self._run.digest_algorithm if expected is None else expected.algorithm
        digest = None if algorithm is None else self._digest(staged.state_of, part, algorithm)
        if expected is not None and digest != expected.digest:
            return None
        file = received_file(job, size, name.filename or "", name.etag_or_date, part, digest=digest)
        file.unproven = name.unproven
        file.identity = identity
        if self._store.is_local and self._store.find(file.path) == (identity, size):
            return None  # a link of a file of the user, which a killed run was about to adopt
        return file
