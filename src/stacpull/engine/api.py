"""The public functions that mirror. The commands call the same functions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from stacpull.arguments import instance
from stacpull.config.options import Options
from stacpull.engine.item_input import SourceLike, source_text, store_input
from stacpull.engine.lookups import check_syntax
from stacpull.engine.mirror import on_ledger, opened_call
from stacpull.engine.mirror_status import status
from stacpull.entry_points import require
from stacpull.errors import UsageError, require_pyarrow
from stacpull.events import Listener
from stacpull.ledger import runs
from stacpull.ledger.runs import RunSpec
from stacpull.reports import Counts, MirrorReport
from stacpull.selection import Selection
from stacpull.sources.source_url import STANDARD_INPUT


async def mirror(
    source: SourceLike,
    dest: str | Path,
    *,
    selection: Selection | None = None,
    options: Options | None = None,
    on_event: Listener | None = None,
    stop: asyncio.Event | None = None,
    client: Any = None,
) -> MirrorReport:
    """Mirror the items of `source` that match `selection` into `dest`. An unfinished run is resumed.

    Args:
        source: A STAC API: its root (`selection.collections` then names the collections) or a collection's
            URL; a static catalog, collection or item, an ItemCollection, NDJSON or Parquet (URL or path); `-`
            for NDJSON on standard input; or items: a `pystac.Item` or `ItemCollection`, a search of
            pystac-client, dicts, or an iterable of these. Standard input and items are stored in `dest`.
        dest: A directory, created if it does not exist; or a bucket, `s3://bucket/prefix`, with `work` in
            `options`.
        selection: The items and assets to mirror; None for all.
        options: How to transfer; None uses the defaults.
        on_event: Called with progress, notices and failures, a few times per second.
        stop: Set it to end the run gracefully; the mirror can be resumed.
        client: A `distributed.Client`, synchronous or asynchronous. The workers of its cluster do the
            transfers.

    Returns:
        The counters of the run, and its final state.

    Raises:
        UsageError: The selection or layout is wrong, or a label or collection does not exist.
        CredentialsError: Credentials are missing or refused.
        SourceError: The source cannot be read.
        DestinationError: The destination cannot be written, or another process is using it.
        InterruptedRunError: `stop` was set before the source was opened.
    """
    selection = instance("selection", Selection, selection)
    async with opened_call(dest, options, on_event, stop, client, exists=False) as call:
        if call.options.items_parquet:
            if call.options.metadata == "none":
                raise UsageError("--items-parquet needs the documents of items: remove --metadata none.")
            await asyncio.to_thread(require_pyarrow, "--items-parquet")
            await asyncio.to_thread(require, "stacpull.outputs", "items-parquet", "--items-parquet")
        text = source_text(source)
        if text is not None and text != STANDARD_INPUT:
            return await call.run_from_source(text, selection)
        check_syntax(selection, call.options)
        workspace = await call.open_workspace()
        stored = await store_input(workspace.store.staged.work, call.stop, source)
        names = call.options.credential_names if call.options.filled_profile else ()
        return await call.run_from_ledger(workspace, RunSpec(stored, selection, call.options.fixed, names))


async def resume(
    dest: str | Path,
    *,
    options: Options | None = None,
    on_event: Listener | None = None,
    stop: asyncio.Event | None = None,
    client: Any = None,
) -> MirrorReport:
    """Resume the last unfinished run in `dest`, with its own selection and layout.

    The arguments are those of `mirror`; a mirror in a bucket can also be named by its work directory.

    Returns:
        The counters of the run. If no run is unfinished, `nothing_to_resume` is True.

    Raises:
        NotAMirrorError: `dest` is not a mirror.
        CredentialsError: The credentials of the run must be given again; the message names them.
        SourceError, DestinationError, InterruptedRunError: As for `mirror`.
    """
    async with opened_call(dest, options, on_event, stop, client, exists=True) as call:
        workspace = await call.open_workspace()
        run = await on_ledger(workspace, runs.last_unfinished)
        if run is not None:
            return await call.with_kept(run.kept).run_from_ledger(workspace, run.spec)
    there = await asyncio.to_thread(status, dest, call.options)  # DEST is no longer locked
    counts = {name: getattr(there, name) for name in Counts.__struct_fields__}
    counts |= {"bytes_fetched": 0, "seconds": 0.0, "requests": 0, "retries": 0, "reason": None}
    return MirrorReport(
        **{**counts, "assets_skipped": there.assets_done},
        walk_ended=there.walk_ended,
        nothing_to_resume=True,
        assets_accepted=there.assets_missing if call.options.missing in {"known", "ok"} else 0,
    )


async def retry(
    dest: str | Path,
    *,
    ordered: bool = False,
    options: Options | None = None,
    on_event: Listener | None = None,
    stop: asyncio.Event | None = None,
    client: Any = None,
) -> MirrorReport:
    """Try every failed asset of `dest` again, and read source items that could not be read.

    The arguments are those of `resume`. With `ordered`, only assets that were not ready yet are requested
    (`FailureRecord.kind` "ordered").

    Returns:
        The counters of the run, and its final state.

    Raises:
        NotAMirrorError: `dest` is not a mirror.
        CredentialsError, SourceError, DestinationError, InterruptedRunError: As for `resume`.
    """
    async with opened_call(dest, options, on_event, stop, client, exists=True) as call:
        workspace = await call.open_workspace()
        last = await on_ledger(workspace, runs.last)
        before = {name: value for name, value in last.kept.items() if name == "missing"}
        spec = replace(last.spec, kind="ordered" if ordered else "retry")
        return await call.with_kept(before).run_from_ledger(workspace, spec)
