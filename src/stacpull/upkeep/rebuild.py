"""`verify --rebuild`: make a new ledger from the files in DEST if the old one is damaged or lost.

    catalogs ─▶ items in the order of the walk ┐
    directories ─▶ items that no catalog lists ┼─▶ threads: read JSON, hash files ─▶ assess ─▶ new ledger
    items.ndjson ─▶ items without own files    ┘                                       ▲
    readable rows of the old ledger ───────────────────────────────────────────────────┘

Only `.stacpull` changes: the old ledger is renamed there when the new one is complete. Files that neither an
item's JSON nor the old ledger proves are left to the next `mirror`. That mirror fetches these assets, and
adopts an existing file with the same content. A file with other content is replaced only if the old ledger
has it, or if it is in a directory (not DEST itself) with the JSON of its item or a proven file of that item:
JSON that others wrote may name files of the user.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import msgspec
import orjson
from msgspec.structs import replace

from stacpull.catalog.catalog_tree import MIRRORED_FROM
from stacpull.catalog.contents import ListedFile, is_own_document, listed_collections, top_catalog
from stacpull.catalog.references import path_named
from stacpull.catalog.stored import StoredAsset, as_sent
from stacpull.config.options import DEFAULT_LAYOUT, Options
from stacpull.digests import recorded
from stacpull.engine.clips import clip_in
from stacpull.engine.dest_address import DestAddress
from stacpull.engine.items_parquet import ITEMS_PARQUET
from stacpull.engine.workspace import store_without_ledger
from stacpull.errors import NotAMirrorError, UsageError
from stacpull.events import Checked, Damage, DamageKind
from stacpull.json_values import parsed_object
from stacpull.ledger import meta
from stacpull.ledger.database import ledger_path, open_reader, translated
from stacpull.ledger.expected import Expectations
from stacpull.ledger.rebuilding import (
    FoundAsset,
    FoundItem,
    OldAsset,
    RebuiltLedger,
    Salvage,
    left_ledger,
    new_ledger_path,
    problem_of,
)
from stacpull.ledger.runs import RunSpec
from stacpull.models import ItemId, path_in_dest
from stacpull.planning.hrefs import own_href
from stacpull.planning.names import LINES_FILE, path_hash, safe_segment
from stacpull.planning.recognition import Sample, recognised
from stacpull.reports import RebuildReport
from stacpull.selection import Selection
from stacpull.store.disk_errors import destination_error
from stacpull.store.inspection import DirectoryFiles, lines_in
from stacpull.store.part_files import is_part_name
from stacpull.store.protocol import FileState, StoredFiles
from stacpull.store.store_choice import open_files
from stacpull.upkeep.evidence import DOCUMENT_DEPTH, Examined, Found, ItemFinder, assess
from stacpull.upkeep.mirror_check import OWN, FileTrust, described
from stacpull.upkeep.reporting import Reporter
from stacpull.urls import is_web

_SAMPLED_ITEMS = 40
"""Items per collection from which the layout is recognised."""
_LEFT_AT_ONCE = 256


def rebuild_ledger(dest_address: DestAddress, reporter: Reporter) -> RebuildReport | None:
    """Make a new ledger for DEST. Return None if it was stopped; then nothing has changed.

    Raises:
        NotAMirrorError: DEST is not a mirror.
        UsageError: The ledger is intact.
        DestinationError: DEST cannot be read or written, or a run is using it.
    """
    reason, dest = _reason(dest_address), dest_address.work
    try:
        with ExitStack() as opened:
            destination, check_lease = opened.enter_context(store_without_ledger(dest, dest_address.bucket))
            files = opened.enter_context(_open_files(dest_address))  # several threads read
            ledger = RebuiltLedger(dest)
            opened.callback(ledger.discard)
            with translated(new_ledger_path(dest)):
                report = _Rebuild(dest, files, ledger, reporter, reason).run()
            if report is None:
                return None
            check_lease()
            for name in filter(is_part_name, [entry.name for entry in destination.list_parts()]):
                destination.drop_part(name)  # its row number now belongs to another asset
            aside = ledger.put_in_place()
    except OSError as error:
        raise destination_error(error, dest) from error
    return replace(report, aside=aside)


def _open_files(dest_address: DestAddress) -> AbstractContextManager[StoredFiles]:
    return open_files(dest_address.work, dest_address.bucket)


def _reason(dest_address: DestAddress) -> str:
    """Return why a new ledger is needed."""
    dest = dest_address.work
    if not _is_mirror(dest_address):
        raise NotAMirrorError(f"{dest} is not a mirror: stacpull wrote nothing in it.")
    reason = problem_of(dest)
    if reason is None and _is_older_than_tree(dest_address):
        reason = "it is older than the files: it does not know item JSON or catalogs that stacpull wrote"
    if reason is None:
        raise UsageError(
            f"The ledger of {dest} is sound: `stacpull verify` checks the files against it. "
            f"To rebuild it anyway, move {ledger_path(dest)} away."
        )
    return reason


def _is_mirror(dest_address: DestAddress) -> bool:
    if dest_address.bucket is not None and not dest_address.bucket.mirror:
        return False  # the work directory is not that of a mirror
    try:
        with _open_files(dest_address) as files:
            return not OWN.isdisjoint(files.directories("")) or top_catalog(files) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_older_than_tree(dest_address: DestAddress) -> bool:
    """Return True if DEST has a document of stacpull that the intact ledger does not know.

    A backup taken during a run has such a ledger.
    """
    dest = dest_address.work
    with closing(open_reader(dest)) as db, translated(ledger_path(dest)), _open_files(dest_address) as files:
        expectations = Expectations(db)
        for entries in files.walk(OWN):
            paths = [entry.path for entry in entries if entry.path.endswith((".json", ".ndjson"))]
            for path, expected in zip(paths, expectations.of(paths), strict=True):
                unknown = expected is None and not expectations.is_leaving(path)
                if unknown and is_own_document(files, path):
                    return True
    return False


class _RebuildCounts(msgspec.Struct):
    items: int = 0
    files: int = 0
    bytes: int = 0
    pending: int = 0
    recovered: int = 0
    trusted: Counter[FileTrust] = msgspec.field(default_factory=Counter)


class _Rebuild:
    """One rebuild. It runs on one thread; other threads read files."""

    def __init__(
        self, dest: Path, files: StoredFiles, ledger: RebuiltLedger, reporter: Reporter, reason: str
    ) -> None:
        self._dest = dest
        self._files = files
        self._ledger = ledger
        self._reporter = reporter
        self._reason = reason
        self._salvage = Salvage(ledger.db)
        self._tally = _RebuildCounts()
        self._samples: dict[str, list[tuple[int, Examined]]] = {}
        self._source = ""
        self._has_lines = False

    def run(self) -> RebuildReport | None:
        """Fill the ledger. Return None if stopped."""
        self._salvage.read(left_ledger(self._dest))
        top = top_catalog(self._files)
        spec = self._salvage.spec
        self._source = spec.source if spec is not None else self._stated_source(top)
        self._ledger.fill()
        finder = ItemFinder(self._files, self._reporter.is_stopped)
        if top is not None:
            self._listed(top, finder)
        self._take_all(finder.unlisted(self._ledger.has_path))
        self._lines(finder)
        self._recover()
        if self._reporter.is_stopped():
            return None
        layout = recognised(self._sampled())
        if spec is not None:
            known = replace(spec, source=self._source, credential_names=(), kind="rebuild")
        else:
            found = Options(layout=layout or DEFAULT_LAYOUT, metadata=self._metadata())
            known = RunSpec(self._source, Selection(), found.fixed, kind="rebuild")
        self._ledger.finish(known, spec, self._salvage.rates, time.time())
        self._reporter.flush()
        return self._report(layout, selection_known=spec is not None)

    # --- where items are found ---------------------------------------------------------------------------

    def _listed(self, top: ListedFile, finder: ItemFinder) -> None:
        """Add the items that the catalogs list, in their order, so that the next catalogs are identical."""
        meta.claim_file(self._ledger.db, top.path, top.sha256)
        for collection in listed_collections(self._files, top):
            if not is_own_document(self._files, collection.file.path):
                continue  # a link may name any JSON in DEST
            document = self._salvage.document(collection.id) or collection.document
            self._ledger.collection(collection.id, document)
            if collection.has_items_parquet:
                meta.keep_items_parquet(self._ledger.db, kept=True)
                meta.claim_file(self._ledger.db, ITEMS_PARQUET)
            for file in collection.files():
                if is_own_document(self._files, file.path):
                    meta.claim_file(self._ledger.db, file.path, file.sha256)
            self._take_all(finder.listed(collection))

    def _lines(self, finder: ItemFinder) -> None:
        for path in finder.files_of_lines():
            self._has_lines = True
            state = self._files.state_of(path)
            if state.size == 0 or is_own_document(self._files, path):
                meta.claim_file(self._ledger.db, path, state.digest or b"")
            self._take_all(finder.lines(path))

    # --- adding items and assets -------------------------------------------------------------------------

    def _take_all(self, found: Iterator[Found]) -> None:
        for path, listed, examined in found:
            if self._reporter.is_stopped():
                return
            if examined is not None and self._ledger.has_item(examined.item.id) is None:
                self._add(path, examined)
            elif examined is None and listed is not None and self._ledger.has_item(listed) is None:
                self._add_lost(path, listed)
            self._reporter.report_progress(self._checked)

    def _add(self, path: str, examined: Examined) -> None:
        item = examined.item
        old = self._salvage.item(item.id)
        is_line = path.endswith(f"/{LINES_FILE}")
        is_altered = old is not None and old.sha256 is not None and old.sha256 != examined.sha256
        found = FoundItem(
            id=item.id,
            directory=None if is_line else _directory_of(path),
            href=old.href if old is not None else self._href(item.id),
            updated=item.updated,
            sha256=None if is_altered and not is_line else examined.sha256,
            is_written=not is_line,
            document=self._as_sent(examined) if is_line else None,
            is_primary=old is not None and old.is_primary,
        )
        row = self._ledger.add_item(found, None if is_line else path, item.sources)
        self._tally.items += 1
        sampled = self._samples.setdefault(item.id.collection, [])
        if len(sampled) < _SAMPLED_ITEMS:
            sampled.append((row, examined))
        if is_altered and not is_line:
            self._damage(path, "altered", FileState(digest=examined.sha256), item.id, "")
        judged = [
            self._judged(*one) for one in zip(item.assets, examined.states, examined.digests, strict=True)
        ]
        if self._reporter.is_stopped():  # a long file may have been read in part
            return
        proven = [asset.path for asset, _, _, verdict in judged if isinstance(verdict, FileTrust)]
        own = {_directory_of(one) for one in (*proven, *([] if is_line else [path]))} - {""}
        for asset, known, state, verdict in judged:
            is_own = known is not None or _directory_of(asset.path) in own
            self._add_asset(row, item.id, asset, known, state, verdict, is_own=is_own)

    def _as_sent(self, examined: Examined) -> bytes:
        """Return the document of a line in the form of the source, from which the next line is made.

        Links to items in DEST become links to the source again.
        """
        document = as_sent(examined.document)
        links = document.get("links")
        kept = [self._link(link, examined.path) for link in links] if isinstance(links, list) else []
        return orjson.dumps({**document, "links": [link for link in kept if link is not None]})

    def _link(self, link: object, path: str) -> object:
        named = path_named(link.get("href"), _directory_of(path)) if isinstance(link, dict) else None
        if named is None or not isinstance(link, dict):
            return link
        segments = named.split("/")
        if len(segments) != DOCUMENT_DEPTH:
            return None  # root, parent, collection: the next line gets its own
        href = self._href(ItemId(unquote(segments[0]), unquote(segments[1])))
        return None if href is None else {**link, "href": href}

    def _judged(
        self, asset: StoredAsset, state: FileState, digest: bytes | None
    ) -> tuple[StoredAsset, OldAsset | None, FileState, FileTrust | DamageKind | None]:
        """Return an asset with its row in the old ledger, its file, and the trust in that file."""
        old = self._salvage.asset_at(path_hash(asset.path))
        state = self._by_algorithm_of(old, asset.path, state)
        return asset, old, state, assess(asset, state, digest, old)

    def _add_asset(
        self,
        row: int,
        item: ItemId,
        asset: StoredAsset,
        old: OldAsset | None,
        state: FileState,
        verdict: FileTrust | DamageKind | None,
        *,
        is_own: bool,
    ) -> bool:
        """Add an asset and count it. Return False if its path or its key is taken."""
        self._tally.files += 1
        self._tally.bytes += state.size or 0
        done = isinstance(verdict, FileTrust)
        same = old if old is not None and done and old.digest == state.digest else None
        added = self._ledger.add_asset(
            row,
            FoundAsset(
                key=asset.key,
                path=asset.path,
                done=done,
                size=state.size,
                digest=state.digest,
                checksum=asset.stated_checksum,
                origin=asset.origin,
                etag=same.etag if same is not None else None,
                etag_origin=same.origin if same is not None else None,
                unproven=same.unproven if same is not None else None,
                stated_size=asset.stated_size,
                media_type=asset.media_type,
                clip=clip_in(partial(self._files.open, asset.path)) if done else None,
                is_own=is_own,
            ),
        )
        if not added:
            return False
        if isinstance(verdict, FileTrust):
            self._tally.trusted[verdict] += 1
            return True
        self._tally.pending += 1
        if verdict is not None:
            self._damage(asset.path, verdict, state, item, asset.key)
        return True

    def _by_algorithm_of(self, old: OldAsset | None, path: str, state: FileState) -> FileState:
        """Return a state whose digest has the algorithm of the old ledger."""
        if old is None or old.digest is None or state.digest is None:
            return state
        return state if recorded(old.digest).algorithm == "sha256" else self._look(path, old.digest)

    def _look(self, path: str, digest: bytes) -> FileState:
        """Look at a file, and hash it with the algorithm of `digest`."""
        algorithm, stopped = recorded(digest).algorithm, self._reporter.is_stopped
        return self._files.state_of(path, algorithm=algorithm, is_stopped=stopped)

    def _add_lost(self, path: str, item: ItemId) -> None:
        """Add an item that a catalog lists but whose JSON is unreadable; the next run writes it again."""
        old = self._salvage.item(item)
        href = old.href if old is not None else self._href(item)
        updated = old.updated if old is not None else None
        is_primary = old is not None and old.is_primary
        found = FoundItem(item, _directory_of(path), href, updated, None, is_primary=is_primary)
        self._ledger.add_item(found, path)
        self._tally.items += 1
        there = self._files.state_of(path, algorithm=None)
        what: DamageKind = "missing" if there.size is None and there.obstacle is None else "altered"
        self._damage(path, what, there, item, "")

    def _recover(self) -> None:
        """Add assets of unfinished items, which only the old ledger knows, if their digest matches."""
        after = 0
        while not self._reporter.is_stopped() and (left := self._salvage.assets_left(after, _LEFT_AT_ONCE)):
            for _, old in left:
                self._recover_one(old)
            after = left[-1][0]
            self._reporter.report_progress(self._checked)

    def _recover_one(self, old: OldAsset) -> None:
        path = path_in_dest(old.directory, old.name)
        item = self._salvage.item_at(old.item)
        if item is None or old.digest is None:
            return
        state = self._look(path, old.digest)
        if state.digest != old.digest:
            return
        row = self._ledger.has_item(item.id)
        if row is None:
            found = FoundItem(item.id, None, item.href, item.updated, None, is_written=False)
            row = self._ledger.add_item(found)
            self._tally.items += 1
        asset = StoredAsset(old.key, path, None, None, None, None)
        if self._add_asset(row, item.id, asset, old, state, FileTrust.BY_CHECKSUM, is_own=True):
            self._tally.recovered += 1

    # --- the mirror as a whole ---------------------------------------------------------------------------

    def _stated_source(self, top: ListedFile | None) -> str:
        """Return the source of the mirror from its catalog or its log, "" if neither states it."""
        description = top.document.get("description") if top is not None else None
        if isinstance(description, str) and description.startswith(MIRRORED_FROM):
            return description.removeprefix(MIRRORED_FROM)
        return _logged_source(self._dest)

    def _href(self, item: ItemId) -> str | None:
        """Guess the URL of an item in an API. The next walk corrects it."""
        if not is_web(self._source):
            return None
        root = self._source.partition("?")[0].partition("/collections")[0].rstrip("/")
        return own_href(item, f"{root}/collections/{safe_segment(item.collection)}/items")

    def _metadata(self) -> Literal["item", "ndjson", "none"]:
        if self._has_lines:
            return "ndjson"
        return "item" if self._tally.items else "none"

    def _sampled(self) -> list[Sample]:
        return [
            Sample(
                examined.item.id,
                examined.document,
                self._ledger.parent_of(row),
                asset.key,
                asset.origin or "",
                asset.media_type,
                asset.path,
            )
            for rows in self._samples.values()
            for row, examined in rows
            for asset in examined.item.assets
        ]

    # --- reports -----------------------------------------------------------------------------------------

    def _damage(self, path: str, what: DamageKind, state: FileState, item: ItemId, key: str) -> None:
        found = state.obstacle or ("nothing" if what == "missing" else described(state.size, state.digest))
        self._reporter.report(Damage(path, what, "the mirrored file", found, item.collection, item.item, key))

    def _checked(self, seconds: float) -> Checked:
        tally = self._tally
        return Checked(tally.files, tally.bytes, tally.pending, seconds)

    def _report(self, layout: str | None, *, selection_known: bool) -> RebuildReport:
        tally = self._tally
        return RebuildReport(
            reason=self._reason,
            aside=None,
            items=tally.items,
            done=tally.trusted.total(),
            by_checksum=tally.trusted[FileTrust.BY_CHECKSUM],
            by_size=tally.trusted[FileTrust.BY_SIZE],
            pending=tally.pending,
            recovered=tally.recovered,
            source=self._source,
            layout=layout,
            selection_known=selection_known,
        )


def _logged_source(dest: Path) -> str:
    """Return the source of the last run in the log, "" if there is none."""
    found = ""
    try:
        with closing(DirectoryFiles(dest)) as files, files.open(".stacpull/log.ndjson") as log:
            for line in lines_in(log):
                event = parsed_object(line) if b'"RunStarted"' in line else None
                source = None if event is None else event.get("source")
                found = source if isinstance(source, str) and source else found
    except OSError:
        return found
    return found


def _directory_of(path: str) -> str:
    return path.rpartition("/")[0]
