"""`stacpull mirror SOURCE DEST`: the main job."""

from __future__ import annotations

from pathlib import Path

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.cli.summary import mirror_lines
from stacpull.config.options import MIRRORING


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

    SOURCE is the root of a STAC API (name a collection with -C), or one of its collections; a static catalog,
    collection or item, or a file of items (ItemCollection, NDJSON, Parquet), as URL, s3:// or path; or - for
    NDJSON on standard input. An unfinished mirror resumes where it stopped; a finished one is brought up to
    date.
    """
    from stacpull.engine import api

    report = session.run(
        lambda stop: api.mirror(
            source,
            dest,
            selection=session.selection,
            options=session.options,
            on_event=session.show,
            stop=stop,
        )
    )
    return session.finish(report, mirror_lines(report, session.show.failed))
