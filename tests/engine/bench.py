"""A mirror without a network: a test plans assets, delivers them and publishes them in steps."""

import hashlib
import sqlite3
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stacpull.config.options import Options
from stacpull.engine.publisher import Publisher, Recovery
from stacpull.engine.store_server import StoreOperations
from stacpull.errors import DestinationError
from stacpull.events import AssetFailed, Event, Notice
from stacpull.ledger import jobs, runs
from stacpull.ledger.batch_writer import BatchWriter
from stacpull.ledger.database import open_writer
from stacpull.ledger.runs import RunSpec
from stacpull.models import Asset, AssetFile, ItemId, Job, PlannedItem, SavedBatch, WalkBatch
from stacpull.planning.item_plan import item_directory
from stacpull.redact import Secrets
from stacpull.selection import Selection
from stacpull.store.local_store import LocalStore
from stacpull.store.staging import complete_part_name
from stacpull.transfer.received import received_file

NOW = 1_700_000_000.0
SPEC = RunSpec("https://api.example/v1", Selection(), Options().fixed)


class RecordingStore(LocalStore):
    sync_covers_ledger = True  # type: ignore[assignment] # it syncs nothing

    def __init__(self, dest: Path, *, fails: bool = False) -> None:
        super().__init__(dest)
        self.fails = fails
        self.files: list[str] = []

    def sync(self, parts: Sequence[str]) -> None:
        self.files += parts
        if self.fails:
            raise DestinationError("The destination's disk failed to store data.")


def planned(name: str, keys: Sequence[str], *, size: int | None = None) -> PlannedItem:
    where = item_directory(ItemId("c", name))
    assets = tuple(Asset(key, f"https://b.example/{key}", where, f"{key}.tif", size=size) for key in keys)
    href = f"https://api.example/v1/collections/c/items/{name}"
    document = b'{"type":"Feature","id":"%s","properties":{},"links":[],"assets":{}}' % name.encode()
    return PlannedItem(ItemId("c", name), {}, href, assets, public_json=document)


class Bench:
    """One process working on DEST; the next `Bench` on the same path is what comes after a kill."""

    def __init__(
        self,
        dest: Path,
        store: RecordingStore | None = None,
        spec: RunSpec = SPEC,
        remembered: Mapping[str, Any] | None = None,
    ) -> None:
        self.store = store or RecordingStore(dest)
        self.db: sqlite3.Connection = open_writer(dest)
        weakref.finalize(self, self.db.close)  # a kill closes it as well
        self.run = runs.begin(self.db, spec, NOW, remembered or {})
        self.failed: list[AssetFailed] = []
        self.notices: list[str] = []
        self.stopped = False
        self.publisher = Publisher(
            self.db, self.store, self.run, Secrets(), lambda: self.stopped, self._take_event
        )
        publish_all = self.publisher.publish_all
        writer = BatchWriter(self.db, self.run, lambda _path: True, Secrets(), publish_all)
        self.operations = StoreOperations(self.publisher, writer)

    def _take_event(self, event: Event) -> None:
        match event:
            case AssetFailed():
                self.failed.append(event)
            case Notice(_, text):
                self.notices.append(text)

    def close(self) -> None:
        self.db.close()
        self.store.close()

    def plan(self, *items: PlannedItem) -> SavedBatch:
        return self.operations.save_batch(WalkBatch(items=items), NOW)

    def arrive(self, job: Job, body: bytes, *, etag: str = '"e"') -> AssetFile:
        """Write the complete part of `job`, as the writer thread does."""
        digest = hashlib.sha256(body).digest()
        asset = received_file(job, len(body), "f.tif", etag, digest=digest)
        asset.part = complete_part_name(asset)
        asset.identity = self.store.staged.write_part(asset.part, body)
        return asset

    def place(self, files: Sequence[AssetFile]) -> None:
        """Give received files their names. They are recorded with the next group."""
        self.publisher.add(files, [])
        self.publisher.publish()

    def publish(self, files: Sequence[AssetFile]) -> None:
        self.publisher.add(files, [])
        self.publisher.publish_all()

    def recover(self) -> list[AssetFile]:
        return Recovery(self.publisher).run()

    def states(self) -> dict[str, int]:
        return dict(self.db.execute("SELECT key, state FROM assets"))

    def pending(self) -> list[Job]:
        return jobs.pending_jobs(self.db, self.run.id, 0, 1000)


@contextmanager
def started(dest: Path, store: RecordingStore | None = None, **how: Any) -> Iterator[Bench]:
    """A process that has put in order what the last one left, until the end of the block."""
    bench = Bench(dest, store, **how)
    bench.operations.recover()
    yield bench
    bench.close()


def tree(dest: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(dest)): path.read_bytes()
        for path in sorted(dest.rglob("*"))
        if path.is_file() and ".stacpull" not in path.parts and path.suffix != ".json"
    }


def documents(dest: Path) -> list[str]:
    return sorted(str(path.relative_to(dest)) for path in dest.glob("c/*/*.json"))


def parts(dest: Path) -> list[str]:
    return sorted(path.name for path in (dest / ".stacpull" / "parts").iterdir())
