"""`stacpull mirror SOURCE DEST`, the main job; `resume DEST` and `retry DEST` continue it.

A run that is continued keeps its own selection and layout.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stacpull import child_process
from stacpull.cli import parameters, printing
from stacpull.cli.command import CommandSession, command
from stacpull.cli.summary import mirror_lines, resumed_nothing
from stacpull.config.dest import bucket_url
from stacpull.config.options import MIRRORING, Scope
from stacpull.errors import StacpullError
from stacpull.reports import MirrorReport
from stacpull.schemes import SCHEMES

if TYPE_CHECKING:
    import asyncio


@command(
    "mirror",
    parameters.source(),
    parameters.dest(),
    *parameters.options(*MIRRORING),
    parameters.config(),
    examples=[
        (
            "mirror https://earth-search.aws.element84.com/v1 s2 -C sentinel-2-l2a --asset red "
            "--bbox 7.4,46.9,7.5,47 --datetime 2024-06-01/2024-06-07"
        ),
        "mirror catalog.json copy --exclude-asset B10",
        "mirror catalog.json s3://bucket/prefix --work ledger --dest-profile NAME",
    ],
)
def mirror(session: CommandSession, source: str, dest: Path | str) -> int:
    """Mirror the selected items of SOURCE into DEST.

    DEST is a directory, or a bucket: s3://bucket/prefix with --work DIR.

    SOURCE is a URL (https://, s3://) or a path. It names one of these:

    \b
      the root of a STAC API (name a collection with -C), or one of its collections
      a static catalog, collection or item
      a file of items: an ItemCollection, NDJSON or Parquet
      - for NDJSON on standard input

    An unfinished mirror resumes where it stopped; a finished one is brought up to date.
    """  # noqa: D301 -- \b keeps the lines of click
    bucket = bucket_url(dest)
    modules = () if bucket is None else SCHEMES[bucket.scheme].dest_modules
    with child_process.started_early("stacpull.engine.store_server", modules):
        from stacpull.engine import api

        report = _run(
            session,
            lambda stop: api.mirror(
                source,
                dest,
                selection=session.selection,
                options=session.options,
                on_event=session.show,
                stop=stop,
            ),
        )
    return session.finish(report, mirror_lines(report, session.show.failed))


def _source_of(own: Mapping[str, Any]) -> str:
    """Return the source of the run: it decides which built-in credentials are used."""
    from stacpull.engine import api

    return api.status(own["dest"]).source


@command(
    "resume",
    *parameters.of_a_started_run(),
    examples=["resume s2"],
    scopes=(Scope.TRANSFER, Scope.OUTPUT),
    continues=True,
    source=_source_of,
)
def resume(session: CommandSession, dest: Path) -> int:
    """Resume the unfinished run in DEST.

    The selection and the layout are those that the run was started with. Transfer options and
    credentials can be given again; only these are read from a config file.
    """
    from stacpull.engine import api

    return _continued(session, dest, api.resume)


@command(
    "retry",
    *parameters.of_a_started_run(unused=("revalidate", "prune", "yes", "page-size")),
    click.Option(["--ordered"], is_flag=True, help="Request only assets that were not ready yet."),
    examples=["retry s2", "retry s2 --ordered"],
    scopes=(Scope.TRANSFER, Scope.OUTPUT),
    continues=True,
    source=_source_of,
)
def retry(session: CommandSession, dest: Path, ordered: bool) -> int:
    """Retry the failed assets of DEST.

    Items and catalogs that could not be read are also read again.

    Transfer options and credentials can be given again; only these are read from a config file.
    """
    from stacpull.engine import api

    return _continued(session, dest, api.retry, ordered=ordered)


def _continued(
    session: CommandSession, dest: Path, work: Callable[..., Coroutine[Any, Any, MirrorReport]], **how: bool
) -> int:
    report = _run(
        session, lambda stop: work(dest, options=session.options, on_event=session.show, stop=stop, **how)
    )
    if report.nothing_to_resume:
        return session.finish(report, resumed_nothing(report))
    return session.finish(report, mirror_lines(report, session.show.failed))


def _run(
    session: CommandSession, start: Callable[[asyncio.Event], Coroutine[Any, Any, MirrorReport]]
) -> MirrorReport:
    """Return the report of a run. With --json, that of a run that an error stops is printed."""
    try:
        return session.run(start)
    except StacpullError as error:
        if session.output.json and error.report is not None:
            printing.json_line(error.report.to_json())
        raise
