"""`stacpull mirror SOURCE DEST`, the main job; `resume DEST` and `retry DEST`, which continue it."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import click

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.cli.summary import mirror_lines, nothing_to_do
from stacpull.errors import StacpullError
from stacpull.reports import MirrorReport

Work = Callable[..., Coroutine[Any, Any, MirrorReport]]


@command(
    "mirror",
    click.Argument(["source"]),
    parameters.dest(),
    *parameters.for_command("mirror"),
    examples=[
        (
            "mirror https://earth-search.aws.element84.com/v1 s2 \\\n"
            "      -C sentinel-2-l2a --asset red --bbox 7.4,46.9,7.5,47 --datetime 2024-06"
        ),
        "mirror catalog.json copy --exclude-asset B10",
        "mirror catalog.json s3://bucket/prefix --work ledger",
    ],
)
def mirror(session: CommandSession, source: str, dest: str) -> int:
    """DEST is a directory, or a bucket ({buckets}) with --work DIR.

    SOURCE is a URL (https://, {buckets}) or a path. It names one of these:

    \b
      a STAC API (its root, with -C ID), or one of its collections
      a static catalog, collection or item
      a file of items: an ItemCollection, NDJSON or Parquet
      - for NDJSON on standard input

    An unfinished mirror resumes where it stopped; a finished one is brought up to date.
    """  # noqa: D301 -- \b keeps the lines of click
    from stacpull.engine import mirror as engine

    return _finish(session, partial(engine.mirror, source, dest, selection=session.selection))


@command("resume", parameters.dest(), *parameters.for_command("resume"), examples=["resume s2"])
def resume(session: CommandSession, dest: str) -> int:
    """The selection and the layout are those that the run was started with.

    Transfer options and credentials can be given again. A config file sets only these, and DEST.
    """
    from stacpull.engine import mirror as engine

    return _finish(session, partial(engine.resume, dest))


@command(
    "retry",
    parameters.dest(),
    *parameters.for_command("retry"),
    click.Option(["--ordered"], is_flag=True, help="Request only assets that were not ready yet."),
    examples=["retry s2", "retry s2 --ordered"],
)
def retry(session: CommandSession, dest: str, ordered: bool) -> int:
    """Source items that could not be read are also read again.

    Transfer options and credentials can be given again. A config file sets only these, and DEST.
    """
    from stacpull.engine import mirror as engine

    return _finish(session, partial(engine.retry, dest, ordered=ordered), "retry", "retried file")


def _finish(session: CommandSession, work: Work, command: str = "resume", noun: str = "file") -> int:
    work = partial(work, options=session.options, on_event=session.display)
    try:
        report = session.run(lambda stop: work(stop=stop))
    except StacpullError as error:
        if isinstance(error.report, MirrorReport):
            has_result = error.report.assets_planned > 0
            lines = mirror_lines(error.report, session.display.failures, noun) if has_result else ()
            session.finish(error.report, lines, on_stderr=session.output.json, code=error.exit_code)
        raise
    lines = mirror_lines(report, session.display.failures, noun)
    if report.nothing_to_resume:
        lines = nothing_to_do(report, command)
    return session.finish(report, lines, on_stderr=session.output.json)
