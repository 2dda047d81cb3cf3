"""`plan`: walks and selects like `mirror`, and counts assets instead of fetching them.

Sizes that the source does not state are estimated from a few assets of each key.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from math import ceil
from pathlib import Path
from typing import Literal, TextIO

from stacpull.arguments import or_default
from stacpull.caches import MAX_KEY_LENGTH
from stacpull.catalog.item import public_document
from stacpull.config.options import Options
from stacpull.dest_address import DestAddress, resolve_dest
from stacpull.digests import text_hash
from stacpull.engine.fetchers import clip_fetching
from stacpull.engine.item_input import SourceLike, temporary_input
from stacpull.engine.network import Network, WalkSetup, open_network, resolve_source
from stacpull.engine.selection_checks import check_selection, checked_setup
from stacpull.engine.walk import Walk, note_items
from stacpull.errors import NotAMirrorError, UsageError
from stacpull.events import Listener, Stage
from stacpull.hosts import host_of
from stacpull.ledger.asset_decision import Action, HasFile, known_actions
from stacpull.ledger.database import Connection, ledger_errors, ledger_path, open_reader
from stacpull.ledger.runs import Run
from stacpull.models import Asset, ItemId, PlannedItem, PlannedVersion, WalkBatch, path_in_dest
from stacpull.net.fields import stated_version
from stacpull.net.gate import FIRST_LIMIT
from stacpull.net.status import RANGES
from stacpull.net.transport import Request, TransferError
from stacpull.planning.layout import final_name
from stacpull.reports import HostPlan, PlanReport
from stacpull.selection import Selection
from stacpull.sources.documents import open_source
from stacpull.store.inspection import may_exist
from stacpull.store.local_store import open_files
from stacpull.threads import enter_in_thread, for_each, shielded_to_thread
from stacpull.urls import filename_of, scheme_rules, wire_url

_Actions = Mapping[tuple[ItemId, str], tuple[Action, str | None]]
_SIZED_PER_KEY = 3
_CLIPPED_PER_KEY = 12  # with `--clip`: more, because different parts of rasters are in the area
_SIZED_AT_ONCE = 64
_MAX_SIZED = 1_000  # assets whose size is requested, in case every asset has its own key
_MAX_COUNTED_KEYS = 10_000  # asset keys and hosts that are counted one by one
_MAX_PATHS = 100_000  # remembered paths, enough to notice a layout that gives several items one path


async def plan(
    source: SourceLike,
    dest: str | Path | None = None,
    *,
    selection: Selection | None = None,
    options: Options | None = None,
    on_event: Listener | None = None,
    urls: TextIO | None = None,
) -> PlanReport:
    """Report what `mirror` would do, without downloading; with `dest`, also what is still to be done.

    `urls` gets a line for each asset to fetch: its URL without credentials, a tab, and its path in DEST
    (before redirects, which may change `{filename}`). See `mirror` for other arguments and errors.
    """
    selection = or_default("selection", Selection, selection)
    options = or_default("options", Options, options)
    if urls is not None and not hasattr(urls, "write"):
        raise UsageError(f"urls must be an open text file, not {type(urls).__name__}.")
    address = None if dest is None else await asyncio.to_thread(resolve_dest, dest, options)
    check_selection(selection, options)
    async with temporary_input(source) as (text, input_file):
        options, resolved = resolve_source(text, options, input_file)
        async with open_network(resolved, options, on_event=on_event) as network:
            opened = await open_source(resolved.url, network.reader)
            setup = await checked_setup(WalkSetup(opened, network, selection, options))
            async with enter_in_thread(_opened_ledger(address)) as (ledger, has_file):
                if address is not None and address.bucket is not None and ledger is None:
                    network.warn(f"{address.work} has no ledger of {dest}: everything counts as still to do.")
                return await _Estimator(setup, ledger, has_file, urls).report()


@contextmanager
def _opened_ledger(dest: DestAddress | None) -> Iterator[tuple[Connection | None, HasFile]]:
    with ExitStack() as opened:
        ledger = None
        has_file: HasFile = lambda _path: True  # noqa: E731 - in a bucket, only a run looks
        if dest is not None:
            opened.enter_context(ledger_errors(ledger_path(dest.work)))
            with suppress(NotAMirrorError):
                ledger = opened.enter_context(closing(open_reader(dest.work)))
                if dest.bucket is None:
                    has_file = partial(may_exist, opened.enter_context(open_files(dest.work, None)))
        yield ledger, has_file


class _Estimator:
    def __init__(
        self, setup: WalkSetup, ledger: Connection | None, has_file: HasFile, urls: TextIO | None
    ) -> None:
        self._setup = setup
        self._network = setup.network
        self._ledger = ledger
        self._has_file = has_file
        self._seen = set[int]()  # hashes of items, as in the sets below
        self._is_linked: dict[int, bool] = {}  # True for items to which only links have led
        self._unreadable = set[int]()
        self._urls = urls
        clip = setup.selection.clip
        area_hash = text_hash(clip) if clip else None
        self._run = Run(0, "mirror", "", {}, setup.options.remembered, area_hash)
        self._sizes = _SizeSamples(setup.network, clip)
        self.counters = Counter(items_seen=0, items_matched=0, source_items=0, bytes_sampled=0)  # as reported
        self._hosts: Counter[str] = Counter()
        self._excluded: Counter[str] = Counter()  # by asset key
        self._web_pages: Counter[str] = Counter()  # by asset key
        self._paths: set[str] = set()
        self._warnings: dict[str, str] = {}  # the first of each kind
        self._announced: int | None = None
        self._left_out: Counter[str] = Counter()

    async def report(self) -> PlanReport:
        network = self._network
        sizes = self._sizes
        walk = Walk(self._setup, self)
        walk_requests, walk_seconds = await self._usage_of(walk.run)
        network.emit(Stage("measuring file sizes"))
        sample_requests, sample_seconds = await self._usage_of(sizes.measure)
        self.counters["bytes_sampled"] = sizes.measured
        self.counters["assets_outside"] = sizes.outside
        unknown = {key: number for key, number in sizes.unstated.items() if key not in sizes.mean_sizes}
        sampled_bytes = sizes.sampled_bytes(sizes.unstated)
        bytes_total: int | None = round(sizes.stated_bytes + sampled_bytes)
        bytes_pending: int | None = round(sizes.pending_bytes + sizes.sampled_bytes(sizes.pending))
        bytes_basis: Literal["known", "sampled", "unknown"] = "sampled" if sampled_bytes else "known"
        if unknown and bytes_total == 0:
            bytes_total = bytes_pending = None
            bytes_basis = "unknown"
        if sizes.problem is not None:
            network.warn(f"At least one size could not be read: {sizes.problem}")
        for warning in self._warnings.values():
            network.warn(warning)
        requests_per_asset = 1.0
        asset_seconds = walk_seconds / max(1, walk_requests)
        if sizes.samples:
            requests_per_asset = (sample_requests + sizes.tile_requests) / len(sizes.samples)
            asset_seconds = sample_seconds / ceil(len(sizes.samples) / min(FIRST_LIMIT, network.per_host))
        pending = self.counters["assets_pending"]
        seconds_estimated = None
        if walk_requests and walk_seconds:
            seconds_estimated = round(walk_seconds + ceil(pending / network.per_host) * asset_seconds, 1)
        report = PlanReport(
            assets=self._hosts.total(),
            assets_excluded=self._excluded.total(),
            bytes_total=bytes_total,
            bytes_pending=bytes_pending,
            bytes_basis=bytes_basis,
            unknown_keys=unknown,
            requests=network.counters.requests - sample_requests + round(pending * requests_per_asset),
            hosts=tuple(HostPlan(host, number) for host, number in self._hosts.most_common()),
            excluded_keys=dict(self._excluded),
            assets_pages=self._web_pages.total(),
            page_keys=dict(self._web_pages),
            seconds_estimated=seconds_estimated,
            items_announced=self._announced,
            items_left_out=walk.filter.left_out(+self._left_out, self.counters["items_seen"]),
            seconds=round(walk_seconds + sample_seconds, 3),
            source=self._setup.source.url,
            **self.counters,
        )
        why = walk.summary.why_nothing_to_fetch(self._setup.selection, report.to_json())
        if why is not None:
            network.warn(why)
        return report

    async def _usage_of(self, work: Callable[[], Awaitable[None]]) -> tuple[int, float]:
        requests_before = self._network.counters.requests
        started = self._network.clock.monotonic()
        await work()
        seconds = self._network.clock.monotonic() - started
        return self._network.counters.requests - requests_before, seconds

    async def planned_this_run(self, ids: Sequence[ItemId]) -> dict[ItemId, PlannedVersion]:
        planned = {}
        for item in ids:
            key = hash(item)
            if key in self._is_linked or key in self._unreadable:
                planned[item] = PlannedVersion(is_linked=self._is_linked.get(key, True))
        return planned

    async def restart(self) -> None:
        self.counters["items_seen"] = 0
        self._seen.clear()
        self._left_out.clear()

    async def add_batch(self, batch: WalkBatch) -> None:
        # a cancellation waits for the thread, because closing SQLite beneath it can crash
        await shielded_to_thread(partial(self._add_batch, batch))
        counts = {name: self.counters[name] for name in ("items_seen", "items_matched")}
        limit = self._setup.selection.item_limit
        progress = self._network.progress(**counts, items_wanted=limit, items_announced=self._announced)
        self._network.emit(progress)

    def _add_batch(self, batch: WalkBatch) -> None:
        if batch.update.announced is not None:
            self._announced = batch.update.announced
        self.counters["items_seen"] += note_items(self._seen, batch.seen)
        for reason, ids in batch.left_out.items():
            left_out = note_items(self._seen, ids)
            self._left_out[reason] += left_out
            self.counters["items_seen"] += left_out
        for failed in batch.unreadable_items:
            self._warn_of_failure(failed.failure.message)
        unreadable = [item.id for item in batch.unreadable_items]
        unreadable += [ItemId(entry.collection, entry.name) for entry in batch.unreadable_entries]
        self.counters["items_failed"] += note_items(self._unreadable, unreadable)
        items = [item for item in batch.items if self._count_item(item)]
        actions = {}
        if self._ledger is not None:
            versioned_items = []
            for item in items:
                public = b"" if item.updated else public_document(item.document, self._network.secrets)
                versioned_items.append(item._replace(public_json=public))
            actions = known_actions(self._ledger, versioned_items, self._run, self._has_file)
        for item in items:
            self._count_assets(item, actions)

    def _warn_of_failure(self, text: str) -> None:
        self._warnings.setdefault("failure", f"Some assets or items would fail; the first is {text}")

    def _count_item(self, item: PlannedItem) -> bool:
        key = hash(item.id)
        was_planned = key in self._is_linked
        if item.parent is None:
            if not item.is_collection:
                self.counters["items_matched"] += 1
            if self._is_linked.get(key):
                self.counters["source_items"] -= 1
            self._is_linked[key] = False
        elif not was_planned:
            self.counters["source_items"] += 1
            self._is_linked[key] = True
        return not was_planned

    def _count_assets(self, item: PlannedItem, actions: _Actions) -> None:
        self.counters["assets_refused"] += len(item.problems)
        for key, failure in item.problems:
            self._warn_of_failure(f"{key}: {failure.message}")
        for key in item.excluded:
            _add(self._excluded, key)
        for key in item.web_pages:
            _add(self._web_pages, key)
        not_in_ledger = (Action.REQUEST, None)
        for asset in item.assets:
            action, known_path = actions.get((item.id, asset.key), not_in_ledger)
            is_pending = action is Action.REQUEST
            if is_pending:
                self.counters["assets_pending"] += 1
            elif action is Action.KEEP:
                self.counters["assets_done"] += 1
            _add(self._hosts, host_of(asset.href) or "this disk")
            self._sizes.add(asset, is_pending=is_pending)
            if asset.name is None and self._urls is None:
                continue  # redirects may change its path
            name = final_name(asset.name, asset.name_template, filename_of(asset.href), asset.directory)
            path = path_in_dest(asset.directory, name)
            if path in self._paths:
                warning = f"--layout gives several items the path {path}: add {{item}} to it."
                self._warnings.setdefault("path", warning)
            elif asset.name is not None and len(self._paths) < _MAX_PATHS:
                self._paths.add(path)
            if self._urls is not None and is_pending:
                href = self._network.secrets.storable_url(asset.href)
                if href != asset.href:
                    self._warnings["urls"] = "Some URLs lack their signature or key, and may be refused."
                if not (scheme_rules(href).is_object_store and href.isprintable()):
                    href = wire_url(href)
                self._urls.write(f"{href}\t{known_path or path}\n")


def _add(counts: Counter[str], name: str) -> str:
    is_too_much = len(counts) >= _MAX_COUNTED_KEYS or len(name) > MAX_KEY_LENGTH
    if is_too_much and name not in counts:
        name = "others"
    counts[name] += 1
    return name


class _SizeSamples:
    def __init__(self, network: Network, clip: str | None) -> None:
        self._network = network
        self._clipping = clip_fetching(clip)
        self.samples: list[tuple[str, Asset]] = []  # by key
        self._sizes: defaultdict[str, list[int]] = defaultdict(list)
        self.stated_bytes = 0
        self.pending_bytes = 0  # of stated sizes
        self.unstated: Counter[str] = Counter()  # the other assets, by key
        self.pending: Counter[str] = Counter()  # those of them that are pending
        self._sampled: Counter[str] = Counter()
        self.measured = 0
        self.outside = 0  # of those measured, with nothing in the area of `--clip`
        self.tile_requests = 0
        self.mean_sizes: dict[str, float] = {}  # by key; for a key without a sample, the mean of all
        self.problem: TransferError | None = None  # why one could not be measured: a refusal if there was any

    def add(self, asset: Asset, *, is_pending: bool) -> None:
        clips = self._clipping is not None and self._clipping.may_clip(asset.media_type, asset.href)
        if asset.size is not None and not clips:
            self.stated_bytes += asset.size
            if is_pending:
                self.pending_bytes += asset.size
            return
        key = _add(self.unstated, asset.key)
        if is_pending:
            self.pending[key] += 1
        limit = _SIZED_PER_KEY if self._clipping is None else _CLIPPED_PER_KEY
        if self._sampled[key] < limit and len(self.samples) < _MAX_SIZED:
            self._sampled[key] += 1
            self.samples.append((key, asset))

    def sampled_bytes(self, numbers: Mapping[str, int]) -> float:
        return sum(number * self.mean_sizes.get(key, 0) for key, number in numbers.items())

    async def measure(self) -> None:
        await for_each(self.samples, self._measure_one, limit=_SIZED_AT_ONCE)
        all_sizes = []
        for key, sizes in self._sizes.items():
            all_sizes += sizes
            self.mean_sizes[key] = sum(sizes) / len(sizes)
        self.measured = len(all_sizes)
        if all_sizes:
            unsampled = self.unstated.keys() - self._sampled.keys()
            self.mean_sizes |= dict.fromkeys(unsampled, sum(all_sizes) / len(all_sizes))
        if self.outside and not self.tile_requests:
            self._network.warn("No sampled file is in the area of --clip. Check its order (longitude first).")

    async def _measure_one(self, sample: tuple[str, Asset]) -> None:
        key, asset = sample
        size = asset.size  # set only if it may be clipped
        try:
            part = None
            if self._clipping is not None:
                part = await self._clipping.size(self._network.client, asset.href, asset.media_type)
            if part is not None:
                size, requests = part
                self.tile_requests += requests
                if size == 0:
                    self.outside += 1
            elif size is None:
                request = Request(asset.href, headers={"Range": "bytes=0-0"})  # 416 if it is empty
                async with self._network.client.stream(request, accept=RANGES) as response:
                    size = stated_version(response.status, response.headers).total
        except TransferError as error:
            if self.problem is None or error.count_refusal is not None:
                self.problem = error
            return
        if size is not None:
            self._sizes[key].append(size)
