"""Measure the stages of a small file that need no network: item, part on disk, ledger rows."""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import orjson
from tests.bench.mixes import COLLECTION, File
from tests.engine.bench import Bench

from stacpull.catalog.item import clean_item
from stacpull.engine.publisher import GROUP
from stacpull.filters.asset_filter import AssetFilter
from stacpull.filters.item_filter import compile_items
from stacpull.ledger.schema import STATE_DONE
from stacpull.models import Arrival, Job, Json, PlannedItem
from stacpull.planning.item_plan import plan_item
from stacpull.planning.layout import Layout
from stacpull.redact import Secrets
from stacpull.selection import Selection
from stacpull.store.complete_parts import part_name_of
from stacpull.store.local_store import LocalStore
from stacpull.transfer.arrival import arrival_of

T = TypeVar("T")

_STRETCH = 100
"""Items per batch, as the producer commits them."""
_LAYOUT = "{collection}/{item}/{key}{ext}"
_NAME = "items, disk and ledger"


class NoParts:
    """A mirror without partial downloads."""

    async def point(self, _row: int, _generation: int) -> None:
        """Return None: there is nothing to resume."""

    async def load(self) -> None:
        """Do nothing."""

    def has_no_part(self, _row: int, _generation: int) -> bool:
        return True


class _Timer:
    """Measures the processor time of named steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], T]) -> T:
        gc.collect()
        began = time.process_time()
        result = work()
        self.seconds[name] = time.process_time() - began
        return result


def measured(documents: Path, files: Sequence[File], work: Path, rounds: int) -> list[tuple[str, str, float]]:
    """Return table, name and CPU microseconds per file of each stage, the least of all rounds."""
    text = documents.read_bytes()
    of_size = {size: bytes(size) for size in {file.size for file in files}}
    bodies = [of_size[file.size] for file in files]
    found = [_round(text, bodies, work / f"local-{number}") for number in range(rounds)]
    return [(_NAME, name, min(one[name] for one in found) / len(files) * 1e6) for name in found[0]]


def _round(text: bytes, bodies: Sequence[bytes], dest: Path) -> dict[str, float]:
    timer, bench = _Timer(), Bench(dest)
    try:
        page: list[Json] = timer("decode the page", lambda: orjson.loads(text)["features"])
        rows = timer("judge, plan and clean the item", lambda: [_planned(item) for item in page])
        jobs = timer("ledger: plan", lambda: [*_jobs(bench, rows)])
        digests = timer("sha256", lambda: [hashlib.sha256(body).digest() for body in bodies])
        parts = timer("write the part", lambda: [*_parts(bench.destination, jobs, bodies, digests)])
        timer("publish: reserve, rename, record, item JSON", lambda: _publish(bench, parts))
        if set(bench.states().values()) != {STATE_DONE} or bench.failed:
            raise RuntimeError("not all was published")
    finally:
        bench.close()
    return timer.seconds


def _cut(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _planned(item: Json) -> PlannedItem:
    reason = _ITEMS.judge(item)
    found = plan_item(
        item, collection_hint=COLLECTION, item_href=None, page_url=None, layout=_PLACES, asset_filter=_ASSETS
    )
    if reason is not None or not isinstance(found, PlannedItem):
        raise RuntimeError(f"{item['id']} was not planned")
    return found._replace(document={}, cleaned=clean_item(item, _SECRETS))


_ITEMS, _ASSETS, _PLACES, _SECRETS = (
    compile_items(Selection()), AssetFilter(Selection()), Layout.parse(_LAYOUT), Secrets(())
)  # fmt: skip


def _jobs(bench: Bench, rows: Sequence[PlannedItem]) -> Iterator[Job]:
    for some in _cut(rows, _STRETCH):
        yield from bench.plan(*some).jobs


def _parts(
    destination: LocalStore, jobs: Sequence[Job], bodies: Sequence[bytes], digests: Sequence[bytes]
) -> Iterator[Arrival]:
    etag = '"6560a1b2-1d88"'
    for job, body, digest in zip(jobs, bodies, digests, strict=True):
        arrival = arrival_of(job, len(body), "f.tif", etag, None, digest=digest)
        arrival.part = part_name_of(arrival)
        arrival.identity = destination.write_part(arrival.part, body)
        yield arrival


def _publish(bench: Bench, parts: Sequence[Arrival]) -> None:
    for group in _cut(parts, GROUP):
        bench.publisher.add_recovered(group)
        bench.publisher.publish()
    bench.publisher.publish_all()
