"""`plan`: the same walk and the same picks as `mirror`, counted instead of fetched.

Source items cost a request each, so only those of the first items are read, and the rest is counted as those
were; sizes that the source does not state are asked of a few assets of each key. The report says which of its
figures are known and which rest on a sample.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stacpull.clock import Clock
from stacpull.config.options import Options
from stacpull.engine.account import nothing_to_fetch
from stacpull.engine.inquiry import Inquiry
from stacpull.engine.network import Network, login_advice
from stacpull.engine.picking import STRETCH, Picked, Picker, selection_warnings
from stacpull.engine.sampling import MemorySample
from stacpull.engine.workspace import disk_of
from stacpull.errors import NotAMirrorError, SourceError
from stacpull.events import Listener, Notice, Progress, scrubbed
from stacpull.hosts import host_of
from stacpull.ledger import views
from stacpull.ledger.database import open_reader
from stacpull.models import Asset, ItemId, Page, Selection
from stacpull.net.transport import Request, TransferError
from stacpull.planning.layout import Layout
from stacpull.reports import HostPlan, PlanReport
from stacpull.sources.links import ItemReader
from stacpull.sources.page_size import PageSize
from stacpull.sources.source import Source
from stacpull.sources.walk import is_forgotten
from stacpull.transfer.headers import content_length, content_range

__all__ = ["Estimate"]

_FULLY_READ = 200
"""Matched items whose source items are read; the source items of the others are counted alike."""
_WHOLE = 200
BytesBasis = Literal["known", "sampled", "unknown"]
_SIZED_PER_KEY = 3
"""Assets of one key that are asked for their size."""


@dataclass(slots=True)
class _Tally:
    """What was counted of one kind of item (primary, or reached through a source link)."""

    items: int = 0
    assets: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    pages: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    """Assets that are listed, and cannot be fetched as they are."""
    keys: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    stated_bytes: Counter[str] = field(default_factory=Counter)
    stated: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[Asset]] = field(default_factory=dict)

    def scaled(self, factor: float) -> None:
        """Count as if `factor` times as much had been seen."""
        self.items, self.assets = round(self.items * factor), round(self.assets * factor)
        self.refused = round(self.refused * factor)
        for counter in (self.excluded, self.pages, self.keys, self.hosts, self.stated, self.stated_bytes):
            for key, count in counter.items():
                counter[key] = round(count * factor)


class Estimate:
    """One `plan`."""

    def __init__(
        self,
        source: Source,
        network: Network,
        selection: Selection,
        options: Options,
        *,
        clock: Clock,
        on_event: Listener | None,
    ) -> None:
        self._source = source
        self._network = network
        self._selection = selection
        self._options = options
        self._clock = clock
        self._listener = on_event
        self._primary = _Tally()
        self._linked = _Tally()
        self._done = self._pending = 0
        self._seen = self._without_label = self._unread_links = 0
        self._walked_pages = 0
        """Pages of the walk under way."""
        self._announced: int | None = None
        self._planned: set[ItemId] = set()
        self._left_out: Counter[str] = Counter()
        self._sample = MemorySample(selection.sample or 0)

    async def report(self, dest: Path | None) -> PlanReport:
        """Walk, count, and estimate."""
        started = self._clock.monotonic()
        if advice := login_advice(self._network.address.url, self._options):
            self._emit(Notice("warning", advice))
        there = await asyncio.to_thread(_done_assets, dest) if dest is not None else None
        picker = self._picker(self._selection)
        await self._walk(picker, there)
        sampled_links = self._scale_links()
        walk_requests = self._network.counters.requests
        sizes, asked, hops = await self._sizes()
        unknown = self._of_unknown_size(sizes)
        total, basis = self._bytes(sizes, unknown, sampled=sampled_links)
        assets = self._primary.assets + self._linked.assets
        seconds = self._clock.monotonic() - started
        requests = walk_requests + self._unread_links + round(assets * hops)
        pages = self._primary.pages + self._linked.pages
        excluded = self._primary.excluded + self._linked.excluded
        refused = self._primary.refused + self._linked.refused
        warning = nothing_to_fetch(
            seen=self._seen,
            matched=self._primary.items,
            planned=assets + refused,
            excluded=sum(excluded.values()),
            pages=sum(pages.values()),
        )
        if warning is not None:
            self._emit(Notice("warning", warning))
        return PlanReport(
            items_seen=self._seen,
            items_matched=self._primary.items,
            source_items=self._linked.items,
            assets=assets,
            assets_excluded=sum(excluded.values()),
            bytes_total=total,
            bytes_basis=basis,
            bytes_sampled=asked,
            unknown_keys=unknown,
            requests=requests,
            hosts=tuple(
                HostPlan(host, n) for host, n in (self._primary.hosts + self._linked.hosts).most_common()
            ),
            excluded_keys=dict(excluded),
            assets_pages=sum(pages.values()),
            page_keys=dict(pages),
            assets_refused=refused,
            seconds_estimated=_time_for(requests, walk_requests, seconds, self._options),
            assets_done=self._done,
            assets_pending=assets - self._done,
            items_announced=self._announced,
            items_without_label=self._without_label,
            items_left_out=dict(self._left_out.most_common()),
            disk=await asyncio.to_thread(disk_of, dest) if dest is not None else None,
            seconds=round(seconds, 3),
            source=self._source.url,
            assets_basis="sampled" if sampled_links else "known",
        )

    def _picker(self, selection: Selection) -> Picker:
        async def known(ids: Sequence[ItemId]) -> set[ItemId]:
            return self._planned.intersection(ids)

        reader = ItemReader(self._source.item, self._clock)
        inquiry = Inquiry(
            self._source,
            self._network,
            selection,
            self._clock,
            agreed_to_pay=self._options.s3.request_payer,
        )
        return Picker(selection, Layout.parse(self._options.layout), reader, known, inquiry=inquiry)

    async def _walk(self, picker: Picker, there: dict[ItemId, set[str]] | None) -> None:
        whole = await self._pages(picker, there)
        for drawn in self._sample.stretches():
            picker.follows = self._primary.items < _FULLY_READ
            self._count(await picker.pick_drawn(drawn), there)
        for note in picker.notes(whole=whole):
            self._emit(Notice("info", note))

    async def _pages(self, picker: Picker, there: dict[ItemId, set[str]] | None) -> bool:
        """Walk all pages; return False if --max-items ended the walk, or a circle.

        A source that has forgotten a cursor amid the walk is walked again, as long as that gets further.

        Raises:
            SourceError: it cannot be read, or forgets its cursors again and again.
        """
        furthest = 0
        while True:
            self._seen = self._without_label = self._walked_pages = 0
            self._left_out.clear()
            try:
                return await self._all_pages(picker, there)
            except SourceError as error:
                if not (self._walked_pages and is_forgotten(error) and self._seen > furthest):
                    raise
                text = f"The source has forgotten what it named ({error}): walking again from the start."
                self._emit(Notice("info" if furthest else "warning", text))
                furthest = self._seen

    async def _all_pages(self, picker: Picker, there: dict[ItemId, set[str]] | None) -> bool:
        """Walk all pages once."""
        whole = True
        checked = False
        for start in await self._source.starts(self._selection):
            pages = self._source.pages(
                start.request, page_size=PageSize.asked(self._options.page_size), on_notice=self._emit
            )
            async for page in pages:
                self._walked_pages += 1
                if not checked:
                    checked = True
                    for warning in await selection_warnings(
                        self._selection, page.items, self._source, start.collection
                    ):
                        self._emit(Notice("warning", warning))
                if page.matched is not None:
                    self._announced = page.matched
                for one in page.unread:
                    self._emit(Notice("warning", f"{one.name} is left out: {one.failure.message}"))
                whole = whole and page.cut_short is None
                if await self._page(picker, start.collection, page, there):
                    return False
        return whole

    async def _page(
        self, picker: Picker, collection: str, page: Page, there: dict[ItemId, set[str]] | None
    ) -> bool:
        """Count one page; return True if --max-items is reached."""
        for begin in range(0, len(page.items), STRETCH):
            picker.follows = self._primary.items < _FULLY_READ
            picked = await picker.pick(page.items[begin : begin + STRETCH], collection, page.request.url)
            self._sample.keep(picked.candidates)
            self._count(picked, there)
            if self._listener is not None:
                self._listener(
                    Progress(
                        items_seen=self._seen,
                        items_matched=self._primary.items,
                        items_announced=self._announced,
                        items_wanted=self._selection.most_items,
                        hosts_waiting=self._network.client.gates.waiting(),
                        requests=self._network.counters.requests,
                        retries=self._network.counters.retries,
                        bytes_fetched=self._network.counters.bytes_fetched,
                    )
                )
            if picked.enough:
                return True
        return False

    def _count(self, picked: Picked, there: dict[ItemId, set[str]] | None) -> None:
        self._seen += len(picked.seen)
        self._left_out.update({str(verdict): len(items) for verdict, items in picked.left_out.items()})
        self._without_label += len(picked.without_label)
        self._unread_links += picked.unread_links
        for planned in picked.items:
            item = planned.item
            tally = self._primary if item.parent is None else self._linked
            if item.id in self._planned:  # a source item that this stretch of the walk has met itself
                continue
            self._planned.add(item.id)
            tally.items += not item.of_collection
            tally.excluded.update(planned.excluded)
            tally.pages.update(planned.pages)
            tally.refused += len(planned.problems)
            for asset in item.assets:
                self._count_asset(tally, asset)
            if there is not None:
                self._done += sum(asset.key in there.get(item.id, ()) for asset in item.assets)

    @staticmethod
    def _count_asset(tally: _Tally, asset: Asset) -> None:
        tally.assets += 1
        tally.keys[asset.key] += 1
        tally.hosts[host_of(asset.href) or "this disk"] += 1
        if asset.size is not None:
            tally.stated[asset.key] += 1
            tally.stated_bytes[asset.key] += asset.size
        elif len(samples := tally.samples.setdefault(asset.key, [])) < _SIZED_PER_KEY:
            samples.append(asset)

    def _scale_links(self) -> bool:
        """Count the source items that were not read like those that were; return True if there are such."""
        if not self._unread_links or not self._linked.items:
            return False
        self._linked.scaled((self._linked.items + self._unread_links) / self._linked.items)
        return True

    async def _sizes(self) -> tuple[dict[str, float], int, float]:
        """Ask a few assets of each key for their size.

        Returns:
            Mean size per key in bytes, how many assets were asked, mean requests an asset.
        """
        samples = {
            key: [*self._primary.samples.get(key, ()), *self._linked.samples.get(key, ())]
            for key in {**self._primary.samples, **self._linked.samples}
        }
        flat = [(key, asset) for key, assets in samples.items() for asset in assets]
        before = self._network.counters.requests
        answers = await asyncio.gather(*(self._size_of(asset) for _, asset in flat))
        known: dict[str, list[int]] = {}
        for (key, _), size in zip(flat, answers, strict=True):
            if size is not None:
                known.setdefault(key, []).append(size)
        requests = self._network.counters.requests - before
        means = {key: sum(sizes) / len(sizes) for key, sizes in known.items()}
        return means, len(flat), requests / len(flat) if flat else 1.0

    async def _size_of(self, asset: Asset) -> int | None:
        """Return an asset's size in bytes from the answer to a request for its first byte."""
        request = Request(asset.href, headers={"Range": "bytes=0-0"})
        try:
            async with self._network.client.open(request, count_refusal=False) as response:
                if response.status == _WHOLE:
                    return content_length(response.headers)
                return content_range(response.headers).total
        except TransferError:
            return None

    def _of_unknown_size(self, sizes: Mapping[str, float]) -> dict[str, int]:
        """Return how many assets of each key have a size that neither the source nor a sample gives."""
        unknown: Counter[str] = Counter()
        for tally in (self._primary, self._linked):
            for key, count in tally.keys.items():
                if key not in sizes and count > tally.stated[key]:
                    unknown[key] += count - tally.stated[key]
        return dict(unknown)

    def _bytes(
        self, sizes: dict[str, float], unknown: Mapping[str, int], *, sampled: bool
    ) -> tuple[int | None, BytesBasis]:
        """Return the bytes of all assets but those whose size is unknown; None if that is all of them."""
        total = 0.0
        basis: BytesBasis = "sampled" if sampled else "known"
        for tally in (self._primary, self._linked):
            total += sum(tally.stated_bytes.values())
            for key, count in tally.keys.items():
                unstated = count - tally.stated[key]
                if unstated and key in sizes:
                    total += unstated * sizes[key]
                    basis = "sampled"
        if unknown and not total:
            return None, "unknown"
        return round(total), basis

    def _emit(self, notice: Notice) -> None:
        if self._listener is not None:
            self._listener(scrubbed(notice, self._network.secrets))


def _done_assets(dest: Path) -> dict[ItemId, set[str]]:
    """Return the keys of the assets that a mirror has, by item; nothing if there is no mirror."""
    try:
        reader = open_reader(dest)
    except NotAMirrorError:
        return {}
    with closing(reader) as db:
        found: dict[ItemId, set[str]] = {}
        for collection, item, key in views.done_assets(db):
            found.setdefault(ItemId(collection, item), set()).add(key)
        return found


def _time_for(requests: int, made: int, seconds: float, options: Options) -> float | None:
    """Return the seconds that `requests` may take, at the pace of those made so far on all connections."""
    if not made or not seconds:
        return None
    at_once = options.concurrency or options.per_host
    return round(requests * (seconds / made) / max(1, min(at_once, 16)), 1)
