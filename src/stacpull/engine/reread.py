"""What a run without a walk reads from its source again: a retry, or a repair (`verify --repair`)."""

from __future__ import annotations

from contextlib import aclosing

from stacpull.catalog.item import clean_item
from stacpull.engine.walk import ITEMS_AT_ONCE, LedgerRecord, Walk
from stacpull.events import Notice
from stacpull.ledger import jobs, runs
from stacpull.ledger.planner import PlanBatch
from stacpull.ledger.runs import RunKind
from stacpull.models import Failure, PlannedItem, WalkUpdate
from stacpull.redact import is_signed
from stacpull.sources.source import PageSize


async def restore_hrefs(walk: Walk, record: LedgerRecord) -> None:
    """Read hrefs that a mirror does not keep, such as paths on this disk, from a file of items."""
    task, call = walk.task, record.store.call
    lost = await call(jobs.lost_hrefs, record.run) if task.source.is_file else 0
    if not lost:
        return
    size, cut = PageSize.requested(task.options.page_size), task.network.secrets.cut
    for start in await task.source.starts(task.selection):
        async with aclosing(task.source.pages(start, page_size=size, on_notice=task.on_event)) as pages:
            async for page in pages:
                planned = [walk.plan(one, start.collection, page_url=page.request.url) for one in page.items]
                found = [
                    (item.id, asset.key, asset.href)
                    for item in planned
                    if isinstance(item, PlannedItem)
                    for asset in item.assets
                    if cut(asset.href) == asset.href and not is_signed(asset.href)
                ]
                lost -= await call(jobs.restore_hrefs, record.run, found)
                if lost <= 0:
                    return


async def read_again(walk: Walk, record: LedgerRecord, kind: RunKind) -> None:
    if kind == "retry":
        failed = await record.store.call(jobs.failed_items)
        for start in range(0, len(failed), ITEMS_AT_ONCE):
            batch = PlanBatch()
            await walk.plan_sources(failed[start : start + ITEMS_AT_ONCE], batch)
            await record.add_batch(batch)
        await _read_links(walk, record)
    elif kind == "repair":
        await _read_damaged_items(walk, record)
    await record.add_batch(PlanBatch(reached=WalkUpdate(walk_ended=True)))


async def _read_links(walk: Walk, record: LedgerRecord) -> None:
    """Read the unreadable links of a tree again, and walk the documents below. Skipped with `--sample`."""
    task, call, run = walk.task, record.store.call, record.run
    links = await call(runs.unread_links, run)
    again = task.source.again(links) if links and task.selection.sample is None else None
    if again is None:
        return
    record.unread = unread = set[str]()
    matched = await call(runs.matched_by_walk, run)
    await Walk(task._replace(source=again), record, matched=matched).run()
    read = {link.href for link in links if link.href in again.finished} - unread
    await call(runs.forget_links, run, list(read))


async def _read_damaged_items(walk: Walk, record: LedgerRecord) -> None:
    """An item that cannot be read stays marked in the ledger: the next walk may find it."""
    task, call, after = walk.task, record.store.call, 0
    while items := await call(jobs.damaged_documents, after, ITEMS_AT_ONCE):
        hrefs = [href for _, _, href in items if href is not None]
        documents = dict(zip(hrefs, await task.reader.read_many(hrefs), strict=True))
        for row, item, href in items:
            document = documents.get(href or "")
            if isinstance(document, dict) and document.get("id") == item.item:
                await call(jobs.keep_document, row, clean_item(document, task.network.secrets))
                continue
            why = "Its URL is unknown." if document is None else "Its URL returns another item."
            if isinstance(document, Failure):
                why = document.message
            text = f"The JSON of {item.collection}/{item.item} cannot be restored. {why}"
            task.on_event(Notice("warning", text))
        after = items[-1][0]
