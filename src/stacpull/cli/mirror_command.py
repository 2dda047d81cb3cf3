"""`stacpull mirror SOURCE DEST`, the main job."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stacpull import child_process
from stacpull.cli import parameters, printing
from stacpull.cli.command import CommandSession, command
from stacpull.cli.summary import dest_of, mirror_lines, with_dest
from stacpull.errors import StacpullError
from stacpull.reports import MirrorReport

if TYPE_CHECKING:
    import asyncio


@command(
    "mirror",
    parameters.source(),
    parameters.dest(),
    *parameters.of("mirror"),
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
    from stacpull.dest_address import parse_dest

    place = parse_dest(dest, session.options)
    store = "stacpull.engine.store_process"
    with child_process.started_early(store, place.modules, shared="stacpull.engine.api"):
        from stacpull.engine import api

        report = run_mirroring(
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
    return session.finish(report, mirror_lines(report, session.show.failed), beside_json=True)


def run_mirroring(
    session: CommandSession, start: Callable[[asyncio.Event], Coroutine[Any, Any, MirrorReport]]
) -> MirrorReport:
    """Return the report of a run. With --json, that of a run that an error stops is printed.

    The commands in the message of such an error are completed with DEST, so that they can be copied.
    """
    try:
        return session.run(start)
    except StacpullError as error:
        if error.report is not None:
            if session.output.json:
                printing.json_line(error.report.to_json())
            error.args = (with_dest(str(error), dest_of(error.report)),)
        raise
