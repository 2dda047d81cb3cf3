"""`plan`: walks and selects like `mirror`, and counts assets instead of fetching them.

Each source item takes a request. So only the source items of the first items are read, and the rest is
extrapolated. Sizes that the source does not state are requested for a few assets of each key. The report
states which figures are known and which are estimated from a sample.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

import msgspec

from stacpull.caches import LONGEST_KEY
from stacpull.config.options import Options
from stacpull.dest_address import DestAddress
from stacpull.engine.clips import clipping
from stacpull.engine.network import Network, login_advice
from stacpull.engine.run_stats import nothing_to_fetch
from stacpull.engine.selector import Candidate, MemorySample, Selected
from stacpull.engine.walk import Walk
from stacpull.errors import NotAMirrorError, ungrouped
from stacpull.events import Listener, Notice, Progress
from stacpull.filters.labels import NO_LABEL_IN_NOMENCLATURE
from stacpull.hosts import host_of
from stacpull.ledger.database import Connection, ledger_path, open_reader, translated
from stacpull.ledger.item_set import ItemSet
from stacpull.ledger.views import done_keys, item_at
from stacpull.models import Asset, ItemId, PlannedItem, SourceLink, WalkUpdate, path_in_dest
from stacpull.net.fields import content_length, content_range
from stacpull.net.transport import Request, TransferError
from stacpull.reports import HostPlan, PlanReport
from stacpull.selection import Selection
from stacpull.sources.item_reader import ItemReader
from stacpull.sources.source import Source
from stacpull.store.inspection import disk_of
from stacpull.threads import in_thread, to_its_end
from stacpull.urls import wire_url

_FULLY_READ = 200
"""Matched items whose source items are read. The source items of the others are extrapolated."""
_WHOLE = 200
BytesBasis = Literal["known", "sampled", "unknown"]
_SIZED_PER_KEY = 3
"""Assets of one key whose size is requested."""
_CLIPPED_PER_KEY = 12
"""The same with `--clip`, because the part of a raster in the area varies."""
_MOST_SIZED = 1_000
"""Assets whose size is requested, of primary and of source items each: each asset may have its own key."""
_MOST_NAMED = 10_000
"""Asset keys and hosts that are counted one by one."""
_OTHERS = "others"
"""Stands for all further keys or hosts, and for those with too long names."""


def _counted_as(name: str, counter: Mapping[str, object]) -> str:
    """Return the name by which `counter` counts `name`."""
    has_room = len(counter) < _MOST_NAMED and len(name) <= LONGEST_KEY
    return name if has_room or name in counter else _OTHERS


class _KeyCounts(msgspec.Struct):
    """Counts of the assets with one key."""

    assets: int = 0
    stated: int = 0
    """Assets whose size the item states."""
    stated_bytes: int = 0
    samples: list[Asset] = msgspec.field(default_factory=list)
    """Assets whose size is requested."""


class _ItemCounts(msgspec.Struct):
    """Counts of one kind of item: primary items or source items."""

    items: int = 0
    assets: int = 0
    refused: int = 0
    """Assets that are listed but cannot be fetched."""
    done: int = 0
    """Assets that DEST has."""
    sampled: int = 0
    excluded: Counter[str] = msgspec.field(default_factory=Counter)
    pages: Counter[str] = msgspec.field(default_factory=Counter)
    hosts: Counter[str] = msgspec.field(default_factory=Counter)
    keys: dict[str, _KeyCounts] = msgspec.field(default_factory=dict)

    def multiply(self, factor: float) -> None:
        """Multiply all counts by `factor`, except `done`."""
        self.items, self.assets = round(self.items * factor), round(self.assets * factor)
        self.refused = round(self.refused * factor)
        for counter in (self.excluded, self.pages, self.hosts):
            for name, number in counter.items():
                counter[name] = round(number * factor)
        for key in self.keys.values():
            key.assets, key.stated = round(key.assets * factor), round(key.stated * factor)
            key.stated_bytes = round(key.stated_bytes * factor)

    def add(self, other: _ItemCounts) -> None:
        """Add the counts of the other kind."""
        for name in ("items", "assets", "refused", "done", "sampled", "excluded", "pages", "hosts"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, key in other.keys.items():
            own = self.keys.setdefault(name, _KeyCounts())
            for field in key.__struct_fields__:
                setattr(own, field, getattr(own, field) + getattr(key, field))


async def estimate(
    source: Source,
    network: Network,
    selection: Selection,
    options: Options,
    dest: DestAddress | None,
    *,
    on_event: Listener,
    urls: TextIO | None = None,
) -> PlanReport:
    """Walk and count, and estimate the rest.

    Args:
        source: SOURCE.
        network: The network of the plan.
        selection: As for `mirror`.
        options: As for `mirror`.
        dest: A mirror whose assets count as done; None for none.
        on_event: As for `mirror`.
        urls: Receives a line for each asset to fetch: its URL without credentials, a tab, its path in DEST.
    """
    async with in_thread(_opened(None if dest is None else dest.work)) as records:
        plan = _Estimate(source, network, selection, options, records, on_event=on_event, urls=urls)
        return await plan.report(dest)


class _Estimate:
    """The sink of one `plan`: counts what the walk selects."""

    def __init__(
        self,
        source: Source,
        network: Network,
        selection: Selection,
        options: Options,
        records: _Records,
        *,
        on_event: Listener,
        urls: TextIO | None,
    ) -> None:
        self._source = source
        self._network = network
        self._selection = selection
        self._options = options
        self._clock = network.clock
        self._emit = on_event
        self._urls = urls
        self._cut = 0
        """URLs in the list that lack a credential."""
        self._primary = _ItemCounts()
        self._linked = _ItemCounts()
        self._were_linked = 0
        """Primary items that were counted as source items, before a page contained them."""
        self._unread_links = 0
        self._done_behind_links: Counter[str] = Counter()
        """The assets of source items that were not read and that DEST has, by key."""
        self._records = records
        self.items_seen = 0
        self._announced: int | None = None
        self._left_out: Counter[str] = Counter()
        self._sample = MemorySample(selection.sample or 0)
        self._clipping = clipping(selection.clip)
        self._tile_requests = 0
        reader = ItemReader(source.item, network.clock, read_batch=source.items)
        self._walk = Walk(source, reader, self, selection, options, network=network, on_event=on_event)

    @property
    def _matched(self) -> int:
        """Return the number of primary items."""
        return self._primary.items + self._were_linked

    async def report(self, dest: DestAddress | None) -> PlanReport:
        """Walk, count, and estimate."""
        started, before = self._clock.monotonic(), self._network.counters.requests
        if advice := login_advice(self._network.address.url, self._options):
            self._emit(Notice("warning", advice))
        await self._walk.run()
        walk_seconds = self._clock.monotonic() - started
        matched, sampled_links = self._matched, self._scale_links()
        walk_requests = self._network.counters.requests
        counts = self._primary
        source_items = self._linked.items - self._were_linked
        counts.add(self._linked)
        sizes, hops = await self._sizes(counts)
        unknown = {
            name: key.assets - key.stated
            for name, key in counts.keys.items()
            if name not in sizes and key.assets > key.stated
        }
        total, basis = _bytes(counts, sizes, unknown, sampled=sampled_links)
        seconds = self._clock.monotonic() - started
        requests = walk_requests + self._unread_links + round(counts.assets * hops)
        warning = nothing_to_fetch(
            seen=self.items_seen,
            matched=matched,
            planned=counts.assets + counts.refused,
            excluded=counts.excluded.total(),
            pages=counts.pages.total(),
        )
        if warning is not None:
            self._emit(Notice("warning", warning))
        if self._cut:
            text = f"URLs that lack their signature or key, and may be refused: {self._cut:,}."
            self._emit(Notice("warning", text))
        return PlanReport(
            items_seen=self.items_seen,
            items_matched=matched,
            source_items=source_items,
            assets=counts.assets,
            assets_excluded=counts.excluded.total(),
            bytes_total=total,
            bytes_basis=basis,
            bytes_sampled=counts.sampled,
            unknown_keys=unknown,
            requests=requests,
            hosts=tuple(HostPlan(host, n) for host, n in counts.hosts.most_common()),
            excluded_keys=dict(counts.excluded),
            assets_pages=counts.pages.total(),
            page_keys=dict(counts.pages),
            assets_refused=counts.refused,
            seconds_estimated=_time_for(requests, walk_requests - before, walk_seconds, self._options),
            assets_done=counts.done,
            assets_pending=counts.assets - counts.done,
            items_announced=self._announced,
            items_without_label=self._left_out[NO_LABEL_IN_NOMENCLATURE],
            items_left_out=dict(self._left_out.most_common()),
            disk=None if dest is None or dest.bucket else await asyncio.to_thread(disk_of, dest.work),
            seconds=round(seconds, 3),
            source=self._source.url,
            assets_basis="sampled" if sampled_links and source_items else "known",
        )

    async def find_planned(self, ids: Sequence[ItemId], linked: bool) -> set[ItemId]:
        """Return the `ids` that were counted."""
        return await to_its_end(partial(self._records.find_planned, ids, linked))

    async def add_batch(self, selected: Selected, reached: WalkUpdate) -> int:
        """Count a batch of the walk, and report progress."""
        if reached.announced is not None:
            self._announced = reached.announced
        self._sample.keep(selected.candidates)
        new = await to_its_end(partial(self._records.seen.add_all, selected.seen))
        self.items_seen += len(new)
        for reason, items in selected.left_out.items():
            self._left_out[reason] += len(new.intersection(items))
        await self._take_items(selected)
        counters = self._network.counters
        self._emit(
            Progress(
                items_seen=self.items_seen,
                items_matched=self._matched,
                items_announced=self._announced,
                items_wanted=self._selection.most_items,
                hosts=self._network.client.gates.progress(),
                requests=counters.requests,
                retries=counters.retries,
                bytes_fetched=counters.bytes_fetched,
            )
        )
        return len(new)

    async def restart(self) -> int:
        """Reset the counters of the walk. Planned items stay counted and are not planned again."""
        self.items_seen = 0
        await to_its_end(self._records.seen.clear)
        self._left_out.clear()
        return self._walk.selector.matched

    async def drawn(self) -> AsyncIterator[Sequence[Candidate]]:
        """Yield the sample in order of rank."""
        for candidates in self._sample.batches():
            yield candidates

    async def _take_items(self, selected: Selected) -> None:
        noted = await to_its_end(partial(self._records.note, selected.items))
        to_fetch = self._count(noted.new, noted.done)
        self._were_linked += noted.were_linked
        self._unread_links += len(selected.unread_links)
        if selected.unread_links:
            cut = self._network.secrets.cut
            found = await to_its_end(partial(self._records.note_unread, selected.unread_links, cut))
            for key, number in found.items():
                self._done_behind_links[_counted_as(key, self._done_behind_links)] += number
        if self._urls is not None:
            cut = self._network.secrets.cut
            lines = []
            for asset in to_fetch:
                path = "" if asset.name is None else path_in_dest(asset.directory, asset.name)
                lines.append(f"{wire_url(cut(asset.href))}\t{path}\n")
                self._cut += cut(asset.href) != asset.href
            await to_its_end(partial(self._urls.writelines, lines))

    def _count(self, items: Sequence[PlannedItem], done: Mapping[ItemId, set[str]]) -> list[Asset]:
        """Count items; return the assets that DEST does not have, i.e. all except `done`."""
        to_fetch = []
        for item in items:
            counts = self._primary if item.parent is None else self._linked
            counts.items += not item.of_collection
            for names, counter in ((item.excluded, counts.excluded), (item.pages, counts.pages)):
                for key in names:
                    counter[_counted_as(key, counter)] += 1
            counts.refused += len(item.problems)
            there = done.get(item.id, ())
            for asset in item.assets:
                self._count_asset(counts, asset)
                if asset.key in there:
                    counts.done += 1
                else:
                    to_fetch.append(asset)
        self._walk.selector.follows = self._urls is not None or self._matched < _FULLY_READ
        return to_fetch

    def _count_asset(self, counts: _ItemCounts, asset: Asset) -> None:
        counts.assets += 1
        counts.hosts[_counted_as(host_of(asset.href) or "this disk", counts.hosts)] += 1
        key = counts.keys.setdefault(_counted_as(asset.key, counts.keys), _KeyCounts())
        key.assets += 1
        most = _SIZED_PER_KEY if self._clipping is None else _CLIPPED_PER_KEY
        if asset.size is not None and not self._may_be_clipped(asset):
            key.stated += 1
            key.stated_bytes += asset.size
        elif len(key.samples) < most and counts.sampled < _MOST_SIZED:
            counts.sampled += 1
            key.samples.append(asset)

    def _may_be_clipped(self, asset: Asset) -> bool:
        """Return True if an asset may be clipped, judged by its item."""
        return self._clipping is not None and self._clipping.may_clip(asset.media_type, asset.href)

    def _scale_links(self) -> bool:
        """Extrapolate the source items that were not read; return True if there are any."""
        if not self._unread_links or not self._linked.items:
            return False
        linked, there = self._linked, self._done_behind_links
        linked.done += sum(number for key, number in there.items() if key in linked.keys)
        linked.multiply((linked.items + self._unread_links) / linked.items)
        linked.done = min(linked.done, linked.assets)
        return True

    async def _sizes(self, counts: _ItemCounts) -> tuple[dict[str, float], float]:
        """Request the sizes of a few assets of each key.

        Returns:
            Mean size per key in bytes, that of all keys for one without a sample; mean requests per asset.
        """
        before = self._network.counters.requests
        with ungrouped():
            async with asyncio.TaskGroup() as group:
                tasks = {
                    name: [group.create_task(self._size_of(asset)) for asset in key.samples]
                    for name, key in counts.keys.items()
                }
        requests = self._network.counters.requests - before + self._tile_requests
        found = {
            name: [size for task in of_key if (size := task.result()) is not None]
            for name, of_key in tasks.items()
        }
        means = {name: sum(sizes) / len(sizes) for name, sizes in found.items() if sizes}
        if every := [size for sizes in found.values() for size in sizes]:
            unsampled = (name for name, of_key in tasks.items() if not of_key)
            means |= dict.fromkeys(unsampled, sum(every) / len(every))
        return means, requests / counts.sampled if counts.sampled else 1.0

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


class _Noted(NamedTuple):
    """The items of a batch that were recorded."""

    new: list[PlannedItem]
    """Those that were not planned before."""
    done: Mapping[ItemId, set[str]]
    """The keys of their assets that DEST has."""
    were_linked: int
    """Primary items that were counted as source items before."""


class _Records(msgspec.Struct, frozen=True):
    """The planned and mirrored items. They are on disk, because a source may have millions.

    A cancellation waits for the thread that uses them, because closing SQLite beneath it can crash.
    """

    seen: ItemSet
    """The items that the walk has read."""
    primary: ItemSet
    """The primary items that this plan has counted."""
    linked: ItemSet
    """The source items that it has counted; those that it has not read only if their IDs are known."""
    ledger: Connection | None
    """The ledger of DEST, if it is a mirror."""

    def find_planned(self, ids: Sequence[ItemId], linked: bool) -> set[ItemId]:
        """Return the `ids` that were counted: in any role if they are `linked`, else as primary items."""
        found = self.primary.intersection(ids)
        return found | self.linked.intersection(ids) if linked else found

    def note(self, items: Sequence[PlannedItem]) -> _Noted:
        """Record items as planned, in a thread. A source item may also be a primary item of its batch."""
        primary = [item for item in items if item.parent is None and self.primary.add(item.id)]
        linked = self.linked.intersection([matched.id for matched in primary])
        new = [matched for matched in primary if matched.id not in linked]
        sources = [item for item in items if item.parent is not None]
        known = self.primary.intersection([source.id for source in sources])
        new += [source for source in sources if source.id not in known and self.linked.add(source.id)]
        done = {} if self.ledger is None else done_keys(self.ledger, [matched.id for matched in new])
        return _Noted(new, done, len(linked))

    def note_unread(self, links: Sequence[SourceLink], cut: Callable[[str], str]) -> Counter[str]:
        """Record source items that are not read, in a thread.

        Args:
            links: The links to them.
            cut: Removes credentials from a URL.

        Returns:
            The number of their assets that DEST has, by key.
        """
        self.linked.add_all(link.id for link in links if link.id is not None)
        found: Counter[str] = Counter()
        if self.ledger is not None:
            ids = [link.id or item_at(self.ledger, cut(link.href)) for link in links]
            for keys in done_keys(self.ledger, filter(None, ids)).values():
                found.update(keys)
        return found


@contextmanager
def _opened(dest: Path | None) -> Iterator[_Records]:
    """Open the records of one plan in the block."""
    with ExitStack() as opened:
        ledger = None
        if dest is not None:
            opened.enter_context(translated(ledger_path(dest)))
            with suppress(NotAMirrorError):
                ledger = opened.enter_context(closing(open_reader(dest)))
        seen, primary, linked = (opened.enter_context(closing(ItemSet())) for _ in range(3))
        yield _Records(seen, primary, linked, ledger)


def _bytes(
    counts: _ItemCounts, sizes: Mapping[str, float], unknown: Mapping[str, int], *, sampled: bool
) -> tuple[int | None, BytesBasis]:
    """Return the bytes of all assets of known size; None if there are none."""
    total = float(sum(key.stated_bytes for key in counts.keys.values()))
    for name, size in sizes.items():
        if unstated := counts.keys[name].assets - counts.keys[name].stated:
            total += unstated * size
            sampled = True
    if unknown and not total:
        return None, "unknown"
    return round(total), "sampled" if sampled else "known"


def _time_for(requests: int, made: int, seconds: float, options: Options) -> float | None:
    """Return the seconds that `requests` take on all connections, if `made` ones took `seconds`."""
    if not made or not seconds:
        return None
    at_once = options.concurrency or options.per_host
    return round(requests * (seconds / made) / max(1, min(at_once, 16)), 1)
