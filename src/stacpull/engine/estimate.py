"""`plan`: walks and selects like `mirror`, and counts assets instead of fetching them.

Each source item takes a request. So only the source items of the first items are read, and the rest is
extrapolated. Sizes that the source does not state are requested for a few assets of each key. The report
states which figures are known and which are estimated from a sample.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

from stacpull.caches import LONGEST_KEY
from stacpull.config.options import Options
from stacpull.dest_address import DestAddress
from stacpull.engine.clips import clipping
from stacpull.engine.network import Network, login_advice
from stacpull.engine.run_stats import nothing_to_fetch
from stacpull.engine.walk import Walk
from stacpull.errors import NotAMirrorError, ungrouped
from stacpull.events import Listener, Notice, Progress
from stacpull.filters.labels import NO_LABEL_IN_NOMENCLATURE
from stacpull.hosts import host_of
from stacpull.ledger.database import Connection, ledger_path, open_reader, translated
from stacpull.ledger.item_set import ItemSet
from stacpull.ledger.planner import PlanBatch
from stacpull.ledger.views import done_keys, item_at
from stacpull.models import Asset, ItemId, PlannedItem, SourceLink, path_in_dest
from stacpull.net.fields import content_length, content_range
from stacpull.net.transport import Request, TransferError
from stacpull.reports import HostPlan, PlanReport
from stacpull.selection import Selection
from stacpull.sources.item_reader import ItemReader
from stacpull.sources.source import Source
from stacpull.store.inspection import disk_of
from stacpull.threads import to_its_end
from stacpull.urls import wire_url

_FULLY_READ = 200
"""Matched items whose source items are read. The source items of the others are extrapolated."""
_WHOLE = 200
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


def _count(counter: Counter[str], name: str, number: int = 1) -> None:
    """Add to a counter that may not grow without limit."""
    if name not in counter and (len(counter) >= _MOST_NAMED or len(name) > LONGEST_KEY):
        name = _OTHERS
    counter[name] += number


class _PlanCounts:
    """Counts of primary items, or of source items."""

    def __init__(self) -> None:
        self.items: Counter[str] = Counter()
        """By the name of the number in the report."""
        self.excluded: Counter[str] = Counter()
        self.pages: Counter[str] = Counter()
        self.hosts: Counter[str] = Counter()
        self.keys: Counter[str] = Counter()
        """Assets by key."""
        self.unstated: Counter[str] = Counter()
        """Assets by key whose size the item does not state."""
        self.done = 0
        """Assets that DEST has."""
        self.samples: dict[str, list[Asset]] = {}
        """Assets by key whose size is requested."""
        self.sampled = 0

    @property
    def _counters(self) -> tuple[Counter[str], ...]:
        return self.items, self.excluded, self.pages, self.hosts, self.keys, self.unstated

    def multiply(self, factor: float) -> None:
        """Multiply all counts by `factor`, except what was sampled and what DEST has."""
        for counter in self._counters:
            for name, number in counter.items():
                counter[name] = round(number * factor)

    def add(self, other: _PlanCounts) -> None:
        """Add the counts of the other kind."""
        for own, more in zip(self._counters, other._counters, strict=True):
            own.update(more)
        self.done, self.sampled = self.done + other.done, self.sampled + other.sampled
        for key, assets in other.samples.items():
            self.samples.setdefault(key, []).extend(assets)


class Estimate:
    """The record of the walk of one `plan`: counts what the walk selects.

    `urls` receives a line for each asset to fetch: its URL without credentials, a tab, its path in DEST.
    """

    def __init__(
        self,
        source: Source,
        network: Network,
        selection: Selection,
        options: Options,
        records: Records,
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
        self._primary, self._linked = _PlanCounts(), _PlanCounts()
        self._were_linked = 0
        """Primary items that were counted as source items, before a page contained them."""
        self._unread_links = 0
        self._done_behind_links: Counter[str] = Counter()
        """The assets of source items that were not read and that DEST has, by key."""
        self._records = records
        self.items_seen = 0
        self._announced: int | None = None
        self._left_out: Counter[str] = Counter()
        self._clipping = clipping(selection.clip)
        self._tile_requests = 0
        reader = ItemReader(source.item, network.clock, read_batch=source.items)
        self._walk = Walk(source, reader, self, selection, options, network=network, on_event=on_event)

    @property
    def _matched(self) -> int:
        """Return the number of primary items."""
        return self._primary.items["items"] + self._were_linked

    async def report(self, dest: DestAddress | None) -> PlanReport:
        """Walk and count, and estimate the rest. `dest` is a mirror whose assets count as done."""
        started, before = self._clock.monotonic(), self._network.counters.requests
        if advice := login_advice(self._network.address.url, self._options):
            self._emit(Notice("warning", advice))
        await self._walk.run()
        walk_seconds = self._clock.monotonic() - started
        matched, is_sampled = self._matched, self._scale_links()
        walk_requests = self._network.counters.requests
        source_items = self._linked.items["items"] - self._were_linked
        counts = self._primary
        counts.add(self._linked)
        assets, refused = counts.keys.total(), counts.items["refused"]
        sizes, hops = await self._sizes(counts)
        unknown = {name: number for name, number in counts.unstated.items() if number and name not in sizes}
        measured = [number * sizes[name] for name, number in counts.unstated.items() if name in sizes]
        total: int | None = round(counts.items["bytes"] + sum(measured))
        basis: Literal["known", "sampled", "unknown"] = "sampled" if is_sampled or any(measured) else "known"
        if unknown and not total:
            total, basis = None, "unknown"
        requests = walk_requests + self._unread_links + round(assets * hops)
        excluded, pages = counts.excluded.total(), counts.pages.total()
        seen, planned = self.items_seen, assets + refused
        warnings = [
            nothing_to_fetch(seen=seen, matched=matched, planned=planned, excluded=excluded, pages=pages)
        ]
        if self._cut:
            warnings.append(f"URLs that lack their signature or key, and may be refused: {self._cut:,}.")
        for warning in filter(None, warnings):
            self._emit(Notice("warning", warning))
        return PlanReport(
            items_seen=self.items_seen,
            items_matched=matched,
            source_items=source_items,
            assets=assets,
            assets_excluded=excluded,
            bytes_total=total,
            bytes_basis=basis,
            bytes_sampled=counts.sampled,
            unknown_keys=unknown,
            requests=requests,
            hosts=tuple(HostPlan(host, n) for host, n in counts.hosts.most_common()),
            excluded_keys=dict(counts.excluded),
            assets_pages=pages,
            page_keys=dict(counts.pages),
            assets_refused=refused,
            seconds_estimated=self._time_for(requests, walk_requests - before, walk_seconds),
            assets_done=counts.done,
            assets_pending=assets - counts.done,
            items_announced=self._announced,
            items_without_label=self._left_out[NO_LABEL_IN_NOMENCLATURE],
            items_left_out=dict(self._left_out.most_common()),
            disk=None if dest is None or dest.bucket else await asyncio.to_thread(disk_of, dest.work),
            seconds=round(self._clock.monotonic() - started, 3),
            source=self._source.url,
            assets_basis="sampled" if is_sampled and source_items else "known",
        )

    # --- the record of the walk --------------------------------------------------------------------------

    async def find_planned(self, ids: Sequence[ItemId], linked: bool) -> dict[ItemId, str | None]:
        """Return the `ids` that were counted."""
        return dict.fromkeys(await to_its_end(partial(self._records.find_planned, ids, linked)))

    async def add_batch(self, batch: PlanBatch) -> int:
        """Count a batch of the walk, and report progress."""
        if batch.reached.announced is not None:
            self._announced = batch.reached.announced
        new = len(await to_its_end(partial(self._records.seen.add_all, batch.seen)))
        for reason, ids in batch.left_out.items():
            left_out = len(await to_its_end(partial(self._records.seen.add_all, ids)))
            self._left_out[reason] += left_out
            new += left_out
        self.items_seen += new
        items, done, were_linked = await to_its_end(partial(self._records.note, batch.items))
        self._were_linked += were_linked
        to_fetch = [asset for item in items for asset in self._count_item(item, done.get(item.id, ()))]
        self._walk.follows = self._urls is not None or self._matched < _FULLY_READ
        unread, self._walk.unfollowed = self._walk.unfollowed, []
        self._unread_links += len(unread)
        cut = self._network.secrets.cut
        if unread:
            links = [link._replace(href=cut(link.href)) for link in unread]
            found = await to_its_end(partial(self._records.note_unread, links))
            for key, number in found.items():
                _count(self._done_behind_links, key, number)
        if self._urls is not None:
            lines = []
            for asset in to_fetch:
                path = "" if asset.name is None else path_in_dest(asset.directory, asset.name)
                lines.append(f"{wire_url(cut(asset.href))}\t{path}\n")
                self._cut += cut(asset.href) != asset.href
            await to_its_end(partial(self._urls.writelines, lines))
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
        return new

    async def restart(self) -> int:
        """Reset the counters of the walk. Planned items stay counted and are not planned again."""
        self.items_seen = 0
        await to_its_end(self._records.seen.clear)
        self._left_out.clear()
        return self._matched

    # --- counts and sizes --------------------------------------------------------------------------------

    def _count_item(self, item: PlannedItem, done: Collection[str]) -> list[Asset]:
        """Count an item; return the assets that DEST does not have, i.e. all except `done`."""
        counts = self._primary if item.parent is None else self._linked
        counts.items["items"] += not item.of_collection
        counts.items["refused"] += len(item.problems)
        for names, counter in ((item.excluded, counts.excluded), (item.pages, counts.pages)):
            for key in names:
                _count(counter, key)
        most = _SIZED_PER_KEY if self._clipping is None else _CLIPPED_PER_KEY
        for asset in item.assets:
            _count(counts.hosts, host_of(asset.href) or "this disk")
            _count(counts.keys, asset.key)
            key = asset.key if asset.key in counts.keys else _OTHERS
            clips = self._clipping is not None and self._clipping.may_clip(asset.media_type, asset.href)
            if asset.size is not None and not clips:
                counts.items["bytes"] += asset.size
                continue
            counts.unstated[key] += 1
            if len(counts.samples.setdefault(key, [])) < most and counts.sampled < _MOST_SIZED:
                counts.sampled += 1
                counts.samples[key].append(asset)
        to_fetch = [asset for asset in item.assets if asset.key not in done]
        counts.done += len(item.assets) - len(to_fetch)
        return to_fetch

    def _scale_links(self) -> bool:
        """Extrapolate the source items that were not read; return True if there are any."""
        linked, read = self._linked, self._linked.items["items"]
        if not self._unread_links or not read:
            return False
        linked.done += sum(number for key, number in self._done_behind_links.items() if key in linked.keys)
        linked.multiply((read + self._unread_links) / read)
        linked.done = min(linked.done, linked.keys.total())
        return True

    async def _sizes(self, counts: _PlanCounts) -> tuple[dict[str, float], float]:
        """Request the sizes of a few assets of each key.

        Returns:
            Mean size per key in bytes, that of all keys for one without a sample; mean requests per asset.
        """
        before = self._network.counters.requests
        with ungrouped():
            async with asyncio.TaskGroup() as group:
                tasks = {
                    key: [group.create_task(self._size_of(asset)) for asset in assets]
                    for key, assets in counts.samples.items()
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

    def _time_for(self, requests: int, made: int, seconds: float) -> float | None:
        """Return the seconds that `requests` take on all connections, if `made` ones took `seconds`."""
        if not made or not seconds:
            return None
        at_once = self._options.concurrency or self._options.per_host
        return round(requests * (seconds / made) / max(1, min(at_once, 16)), 1)


class Records(NamedTuple):
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

    def note(self, items: Sequence[PlannedItem]) -> tuple[list[PlannedItem], Mapping[ItemId, set[str]], int]:
        """Record items as planned. A source item may also be a primary item of its batch.

        Returns:
            The items that were not planned before, the keys of their assets that DEST has, and the number of
            primary items that were counted as source items before.
        """
        primary = [item for item in items if item.parent is None and self.primary.add(item.id)]
        linked = self.linked.intersection([matched.id for matched in primary])
        new = [matched for matched in primary if matched.id not in linked]
        sources = [item for item in items if item.parent is not None]
        known = self.primary.intersection([source.id for source in sources])
        new += [source for source in sources if source.id not in known and self.linked.add(source.id)]
        done = {} if self.ledger is None else done_keys(self.ledger, [matched.id for matched in new])
        return new, done, len(linked)

    def note_unread(self, links: Sequence[SourceLink]) -> Counter[str]:
        """Record source items that are not read; return the number of their assets that DEST has, by key."""
        self.linked.add_all(link.id for link in links if link.id is not None)
        found: Counter[str] = Counter()
        if self.ledger is not None:
            ids = [link.id or item_at(self.ledger, link.href) for link in links]
            for keys in done_keys(self.ledger, filter(None, ids)).values():
                found.update(keys)
        return found


@contextmanager
def opened_records(dest: Path | None) -> Iterator[Records]:
    """Open the records of one plan; `dest` is the directory of a ledger."""
    with ExitStack() as opened:
        ledger = None
        if dest is not None:
            opened.enter_context(translated(ledger_path(dest)))
            with suppress(NotAMirrorError):
                ledger = opened.enter_context(closing(open_reader(dest)))
        seen, primary, linked = (opened.enter_context(closing(ItemSet())) for _ in range(3))
        yield Records(seen, primary, linked, ledger)
