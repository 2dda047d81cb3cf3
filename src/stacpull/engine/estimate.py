"""`plan`: walks and selects like `mirror`, and counts assets instead of fetching them.

Sizes that the source does not state are requested for a few assets of each key. The report states whether
the sum is known or estimated from them.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

from msgspec.structs import replace

from stacpull.arguments import instance
from stacpull.caches import LONGEST_KEY
from stacpull.config.dest import output_path
from stacpull.config.options import Options
from stacpull.dest_address import parse_dest
from stacpull.engine.clips import clipping
from stacpull.engine.item_input import SourceLike, temporary_input
from stacpull.engine.network import login_advice, open_network, options_and_address
from stacpull.engine.run_control import nothing_to_fetch
from stacpull.engine.selection_checks import check_syntax, validate
from stacpull.engine.walk import Walk, WalkTask
from stacpull.errors import NotAMirrorError, ungrouped
from stacpull.events import Listener, Notice, Progress, without_secrets
from stacpull.filters.labels import NO_LABEL_IN_NOMENCLATURE
from stacpull.hosts import host_of
from stacpull.ledger.database import Connection, ledger_path, open_reader, translated
from stacpull.ledger.item_set import ItemSet
from stacpull.ledger.planner import PlanBatch
from stacpull.ledger.views import done_keys
from stacpull.models import Asset, ItemId, PlannedItem, path_in_dest
from stacpull.net.fields import content_length, content_range
from stacpull.net.transport import Request, TransferError
from stacpull.redact import Secrets
from stacpull.reports import HostPlan, PlanReport
from stacpull.selection import Selection
from stacpull.sources.item_reader import ItemReader
from stacpull.sources.opening import open_source
from stacpull.store.inspection import disk_of
from stacpull.store.staging import whole_file
from stacpull.threads import in_thread, to_its_end
from stacpull.urls import wire_url

_WHOLE = 200
_SIZED_PER_KEY = 3
"""Assets of one key whose size is requested."""
_CLIPPED_PER_KEY = 12
"""The same with `--clip`, because the part of a raster in the area varies."""
_MOST_SIZED = 1_000
"""Assets whose size is requested: each asset may have its own key."""
_MOST_NAMED = 10_000
"""Asset keys and hosts that are counted one by one."""
_OTHERS = "others"
"""Stands for all further keys or hosts, and for those with too long names."""


async def plan(
    source: SourceLike,
    dest: str | Path | None = None,
    *,
    selection: Selection | None = None,
    options: Options | None = None,
    on_event: Listener | None = None,
    urls: str | Path | TextIO | None = None,
) -> PlanReport:
    """Report what `mirror` would do, without downloading; with `dest`, also what is still to be done."""
    selection = instance("selection", Selection, selection)
    options = instance("options", Options, options)
    address = None if dest is None else await asyncio.to_thread(parse_dest, dest, options)
    layout = check_syntax(selection, options)
    async with temporary_input(source) as (text, input_file):
        options, place = options_and_address(text, options, input_file)
        secrets = Secrets()
        listener = without_secrets(on_event, secrets)
        async with open_network(place, options, secrets=secrets, on_notice=listener) as network:
            opened = await open_source(place.url, network.reader)
            await validate(opened, selection, layout)
            files = _opened_files(None if address is None else address.work, urls)
            reader = ItemReader(opened.item, network.clock, read_batch=opened.items)
            task = WalkTask(opened, reader, network, selection, options, listener)
            async with in_thread(files) as records:
                report = await _Estimate(task, records).report()
            if address is not None and address.bucket is None:
                return replace(report, disk=await asyncio.to_thread(disk_of, address.work))
            return report


class _Files(NamedTuple):
    """What one plan reads and writes. The sets are on disk, because a source may have millions of items.

    A cancellation waits for the thread that uses them, because closing SQLite beneath it can crash.
    """

    seen: ItemSet
    """The items that the walk has read."""
    primary: ItemSet
    """The primary items that were counted."""
    linked: ItemSet
    """The source items that were counted."""
    ledger: Connection | None
    """The ledger of DEST, if it is a mirror."""
    urls: TextIO | None
    """Gets a line for each asset to fetch: its URL without credentials, a tab, its path in DEST."""


@contextmanager
def _opened_files(dest: Path | None, urls: str | Path | TextIO | None) -> Iterator[_Files]:
    with ExitStack() as opened:
        text = None
        if isinstance(urls, str | os.PathLike):
            file = opened.enter_context(whole_file(output_path(urls)))
            urls = text = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
        ledger = None
        if dest is not None:
            opened.enter_context(translated(ledger_path(dest)))
            with suppress(NotAMirrorError):
                ledger = opened.enter_context(closing(open_reader(dest)))
        seen, primary, linked = (opened.enter_context(closing(ItemSet())) for _ in range(3))
        yield _Files(seen, primary, linked, ledger, urls)
        if text is not None:
            text.flush()
            text.detach()


class _Estimate:
    """The record of the walk of one `plan` (an `engine.walk.WalkRecord`): counts what the walk selects."""

    def __init__(self, task: WalkTask, files: _Files) -> None:
        self._task = task
        self._network, self._emit = task.network, task.on_event
        self._files = files
        self._counts: Counter[tuple[str, str]] = Counter()
        """By what is counted, and the name of the key or host."""
        self._samples: dict[str, list[Asset]] = {}
        """Assets by key whose size is requested."""
        self._sampled = 0
        self._bytes = self._done = self._refused = self._source_items = 0
        self._cut = 0
        """URLs in the list that lack a credential."""
        self.items_seen = 0
        self._matched = 0
        self._announced: int | None = None
        self._left_out: Counter[str] = Counter()
        self._clipping = clipping(task.selection.clip)
        self._tile_requests = 0

    async def report(self) -> PlanReport:
        clock, counters = self._network.clock, self._network.counters
        started, before = clock.monotonic(), counters.requests
        options = self._task.options
        if advice := login_advice(self._network.address.url, options):
            self._emit(Notice("warning", advice))
        await Walk(self._task, self).run()
        walk_seconds, walk_requests = clock.monotonic() - started, counters.requests
        sizes, hops = await self._sizes()
        hosts, unstated = self._counted("host"), self._counted("unstated")
        assets = hosts.total()
        unknown = {name: number for name, number in unstated.items() if number and name not in sizes}
        measured = [number * sizes[name] for name, number in unstated.items() if name in sizes]
        total: int | None = round(self._bytes + sum(measured))
        basis: Literal["known", "sampled", "unknown"] = "sampled" if any(measured) else "known"
        if unknown and not total:
            total, basis = None, "unknown"
        requests = walk_requests + round(assets * hops)
        made, at_once = walk_requests - before, options.concurrency or options.per_host
        seconds = None
        if made and walk_seconds:
            seconds = round(requests * (walk_seconds / made) / max(1, min(at_once, 16)), 1)
        excluded, pages = self._counted("excluded"), self._counted("page")
        warning = nothing_to_fetch(
            seen=self.items_seen,
            matched=self._matched,
            planned=assets + self._refused,
            excluded=excluded.total(),
            pages=pages.total(),
        )
        if warning is not None:
            self._emit(Notice("warning", warning))
        if self._cut:
            text = f"URLs that lack their signature or key, and may be refused: {self._cut:,}."
            self._emit(Notice("warning", text))
        return PlanReport(
            items_seen=self.items_seen,
            items_matched=self._matched,
            source_items=self._source_items,
            assets=assets,
            assets_excluded=excluded.total(),
            bytes_total=total,
            bytes_basis=basis,
            bytes_sampled=self._sampled,
            unknown_keys=unknown,
            requests=requests,
            hosts=tuple(HostPlan(host, number) for host, number in hosts.most_common()),
            excluded_keys=dict(excluded),
            assets_pages=pages.total(),
            page_keys=dict(pages),
            assets_refused=self._refused,
            seconds_estimated=seconds,
            assets_done=self._done,
            assets_pending=assets - self._done,
            items_announced=self._announced,
            items_without_label=self._left_out[NO_LABEL_IN_NOMENCLATURE],
            items_left_out=dict(self._left_out.most_common()),
            seconds=round(clock.monotonic() - started, 3),
            source=self._task.source.url,
        )

    # --- the record of the walk --------------------------------------------------------------------------

    async def find_planned(self, ids: Sequence[ItemId], linked: bool) -> dict[ItemId, str | None]:
        """Return the `ids` that were counted: in any role if they are `linked`, else as primary items."""
        files = self._files
        found = await to_its_end(partial(files.primary.intersection, ids))
        if linked:
            found |= await to_its_end(partial(files.linked.intersection, ids))
        return dict.fromkeys(found)

    async def add_batch(self, batch: PlanBatch) -> int:
        new = await to_its_end(partial(self._count, batch))
        counters = self._network.counters
        self._emit(
            Progress(
                items_seen=self.items_seen,
                items_matched=self._matched,
                items_announced=self._announced,
                items_wanted=self._task.selection.most_items,
                hosts=self._network.client.gates.progress(),
                requests=counters.requests,
                retries=counters.retries,
                bytes_fetched=counters.bytes_fetched,
            )
        )
        return new

    async def restart(self) -> int:
        """Reset the counters of the walk. Planned items stay counted and are not planned again."""
        self.items_seen = 0
        await to_its_end(self._files.seen.clear)
        self._left_out.clear()
        return self._matched

    # --- counts and sizes --------------------------------------------------------------------------------

    def _count(self, batch: PlanBatch) -> int:
        files, cut = self._files, self._network.secrets.cut
        if batch.reached.announced is not None:
            self._announced = batch.reached.announced
        new = len(files.seen.add_all(batch.seen))
        for reason, ids in batch.left_out.items():
            left_out = len(files.seen.add_all(ids))
            self._left_out[reason] += left_out
            new += left_out
        self.items_seen += new
        items = [item for item in batch.items if self._is_new(item)]
        done = {} if files.ledger is None else done_keys(files.ledger, [item.id for item in items])
        for item in items:
            for asset in self._count_item(item, done.get(item.id, set())):
                if files.urls is not None:
                    path = "" if asset.name is None else path_in_dest(asset.directory, asset.name)
                    files.urls.write(f"{wire_url(cut(asset.href))}\t{path}\n")
                    self._cut += cut(asset.href) != asset.href
        return new

    def _is_new(self, item: PlannedItem) -> bool:
        """Return True if an item was not counted yet in any role. One on a page is no source item."""
        files = self._files
        if item.parent is not None:
            is_new = not files.primary.intersection([item.id]) and files.linked.add(item.id)
            self._source_items += is_new
            return is_new
        if not files.primary.add(item.id):
            return False
        was_linked = bool(files.linked.intersection([item.id]))
        self._matched += not item.of_collection
        self._source_items -= was_linked
        return not was_linked

    def _add(self, what: str, name: str) -> str:
        counts = self._counts
        if (what, name) not in counts and (len(counts) >= _MOST_NAMED or len(name) > LONGEST_KEY):
            name = _OTHERS
        counts[what, name] += 1
        return name

    def _counted(self, what: str) -> Counter[str]:
        return Counter({name: number for (kind, name), number in self._counts.items() if kind == what})

    def _count_item(self, item: PlannedItem, done: set[str]) -> list[Asset]:
        """Count an item; return the assets that DEST does not have, i.e. all except `done`."""
        self._refused += len(item.problems)
        for key in item.excluded:
            self._add("excluded", key)
        for key in item.pages:
            self._add("page", key)
        most = _SIZED_PER_KEY if self._clipping is None else _CLIPPED_PER_KEY
        for asset in item.assets:
            self._add("host", host_of(asset.href) or "this disk")
            clips = self._clipping is not None and self._clipping.may_clip(asset.media_type, asset.href)
            if asset.size is not None and not clips:
                self._bytes += asset.size
                continue
            sample = self._samples.setdefault(self._add("unstated", asset.key), [])
            if len(sample) < most and self._sampled < _MOST_SIZED:
                self._sampled += 1
                sample.append(asset)
        to_fetch = [asset for asset in item.assets if asset.key not in done]
        self._done += len(item.assets) - len(to_fetch)
        return to_fetch

    async def _sizes(self) -> tuple[dict[str, float], float]:
        """Request the sizes of a few assets of each key.

        Returns mean size per key in bytes, the one of all keys for a key without a sample, and the mean
        requests per asset.
        """
        before = self._network.counters.requests
        with ungrouped():
            async with asyncio.TaskGroup() as group:
                tasks = {
                    key: [group.create_task(self._size_of(asset)) for asset in assets]
                    for key, assets in self._samples.items()
                }
        requests = self._network.counters.requests - before + self._tile_requests
        found = {
            key: [size for task in of_key if (size := task.result()) is not None]
            for key, of_key in tasks.items()
        }
        means = {key: sum(sizes) / len(sizes) for key, sizes in found.items() if sizes}
        if every := [size for sizes in found.values() for size in sizes]:
            unsampled = (key for key, of_key in tasks.items() if not of_key)
            means |= dict.fromkeys(unsampled, sum(every) / len(every))
        return means, requests / self._sampled if self._sampled else 1.0

    async def _size_of(self, asset: Asset) -> int | None:
        """Return the size of an asset in bytes, from the response to a request for its first byte.

        With `--clip`, return the size of the part in the area, from the header.
        """
        if self._clipping is not None:
            try:
                part = await self._clipping.size(self._network.client, asset.href, asset.media_type)
            except TransferError:
                return None
            if part is not None:
                size, requests = part
                self._tile_requests += requests
                return size
            if asset.size is not None:
                return asset.size
        request = Request(asset.href, headers={"Range": "bytes=0-0"})
        try:
            async with self._network.client.open(request, count_refusal=False) as response:
                if response.status == _WHOLE:
                    return content_length(response.headers)
                return content_range(response.headers).total
        except TransferError:
            return None
