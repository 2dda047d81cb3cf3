"""`stacpull headers SOURCE [-o OUT]`: the headers of TIFFs, without their pixels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from stacpull.cli import parameters, printing
from stacpull.cli.command import CommandSession, command
from stacpull.cli.printing import duration, size
from stacpull.cli.summary import FailureCounts
from stacpull.errors import quantity
from stacpull.models import FailureKind

if TYPE_CHECKING:
    from stacpull_raster.headers_report import HeadersReport

_LOOKED_AT = 200
"""Lines that are held to find the widths."""
_WIDEST = 60
"""Characters of a cell that count for the width of its column."""


def _parameters() -> Iterator[click.Parameter]:
    """Yield the options; those without an effect here are accepted, as in all commands with a selection."""
    for param in parameters.for_command("headers"):
        if isinstance(param, click.Option) and param.name in {"clip", "expand_prefix"}:
            param.hidden = True
        if param.name != "missing":
            yield param


class TextTable:
    """Lines of cells, printed one below the other. A line may have fewer cells; its last one has no width."""

    def __init__(self, titles: Sequence[str], write: Callable[[str], None]) -> None:
        self._write = write
        self._held = [tuple(titles)]
        self._widths: list[int] = []

    def add(self, cells: Sequence[str]) -> None:
        self._held.append(tuple(cells))
        if self._widths or len(self._held) > _LOOKED_AT:
            self.close()

    def close(self) -> None:
        """Print the lines that are held, if there is more than the titles."""
        if not self._widths and len(self._held) > 1:
            lengths = [[len(cell) for cell in line[:-1]] for line in self._held]
            columns = itertools.zip_longest(*lengths, fillvalue=0)
            self._widths = [min(max(column), _WIDEST) for column in columns]
        held, self._held = (self._held, []) if self._widths else ([], self._held)
        for *first, last in held:
            cells = [cell.ljust(width) for cell, width in zip(first, self._widths, strict=False)]
            self._write("  ".join([*cells, last]).rstrip())


@command(
    "headers",
    click.Argument(["source"]),
    click.Option(
        ["-o", "--output"],
        metavar="OUT",
        type=click.Path(),
        help="Write the table to this .parquet, .csv or .ndjson file instead of the terminal.",
    ),
    click.Option(["--refresh"], is_flag=True, help="Read all headers again and replace OUT."),
    *_parameters(),
    parameters.with_help(
        "missing", "Exit with 1 if files are missing from the source.", choices=("fail", "ok")
    ),
    examples=[
        (
            "headers https://earth-search.aws.element84.com/v1 \\\n"
            "      -C sentinel-2-l2a --max-items 3 --asset red -o headers.csv"
        ),
    ],
)
def headers_command(session: CommandSession, source: str, output: str | None, refresh: bool) -> int:
    """The command requests a few kB per asset.

    SOURCE and the selection are as for mirror. Rows are kept in
    OUT.stacpull: run an interrupted command again to resume it, or a finished command to retry failures.
    """
    from stacpull_raster.header_table import headers

    table = TextTable(_SHOWN, lambda line: printing.lines([line]))
    is_shown = output is None and not (session.output.json or session.output.quiet)

    reasons = set[str]()

    def on_row(row: Mapping[str, Any]) -> None:
        session.close()  # all rows are read, and progress bars would mix with the table
        table.add(_cells(row, reasons))

    report = session.run(
        lambda stop: headers(
            source,
            output,
            selection=session.selection,
            options=session.options,
            refresh=refresh,
            on_row=on_row if is_shown else None,
            on_event=session.display,
            stop=stop,
        )
    )
    table.close()
    lines = headers_lines(report, session.display.failures)
    return session.finish(report, lines, on_stderr=output is None or session.output.json)


_SHOWN = ("item", "asset", "size", "type", "layout", "crs", "overviews", "nodata")


def _cells(row: Mapping[str, Any], reasons: set[str]) -> tuple[str, ...]:
    """Return the cells of a row; a reason that is in `reasons`, of an earlier row, is not repeated."""
    asset = (row["item"], row["asset"] or "")
    if row["failure"] is not None:
        is_known = row["error"] in reasons
        reasons.add(row["error"])
        return (*asset, row["failure"] if is_known else f"{row['failure']}: {row['error']}")
    bands = f"{row['bands']} x {row['dtype']}"
    blocks = "tiles" if row["tiled"] else "strips"
    return (
        *asset,
        f"{row['width']} x {row['height']}",
        bands,
        f"{row['compression']}, {blocks} {row['block_width']} x {row['block_height']}",
        f"EPSG:{row['epsg']}" if row["epsg"] is not None else row["crs_kind"] or "-",
        " ".join(str(width) for width, _ in row["overviews"]) or "-",
        row["nodata"] if row["nodata"] is not None else "-",
    )


def headers_lines(report: HeadersReport, failures: FailureCounts) -> Iterator[str]:
    """Yield the summary of a job: the headers read, the failures and their reasons, and the next step."""
    done = f"{report.headers_done:,} of {quantity(report.headers_done + report.headers_failed, 'header')}"
    where = f" in {report.out}" if report.out else ""
    if report.state == "interrupted":  # OUT is not written yet, and their number is not known
        done, where = f"{quantity(report.headers_done, 'header')} read", ""
    accepted = report.headers_missing if report.missing_ok else 0
    counts = {"failed": report.headers_failed - accepted, FailureKind.GONE.meaning: accepted}
    failed = "".join(f"; {number:,} {what}" for what, number in counts.items() if number)
    state = "" if report.state == "complete" and failed else f"{report.state}: "
    if report.reason:
        state = f"{report.state} ({report.reason.rstrip('.')}): "
    yield f"{state}{done}{where}{failed}"
    before = f"; {report.headers_skipped:,} were read before" if report.headers_skipped else ""
    yield (
        f"  fetched  {size(report.bytes_fetched)} of headers and documents in {duration(report.seconds)}, "
        f"{quantity(report.requests, 'request')}, {quantity(report.retries, 'retry', 'retries')}{before}"
    )
    yield f"  items    {report.items_seen:,} read, {report.items_matched:,} matched"
    if report.assets_not_tiff:
        yield f"  left out {quantity(report.assets_not_tiff, 'non-TIFF asset')}"
    if report.assets_excluded:
        yield f"  left out {quantity(report.assets_excluded, 'asset')} (asset filters)"
    if report.items_unseen:
        yield f"  unseen   {quantity(report.items_unseen, 'item')} that the source announced but did not list"
    of_assets = report.headers_failed - failures.of_items  # items have rows, too
    yield from failures.lines(of_assets - accepted, report.headers_missing - accepted, accepted)
    if report.out and report.state != "complete":
        yield "to resume: run the same command again"
    elif report.out and report.headers_failed and report.exit_code:
        yield "to retry failed headers: run the same command again"
