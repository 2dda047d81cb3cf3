"""`stacpull headers SOURCE [-o OUT]`: the headers of TIFFs, without their pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from stacpull.cli import parameters, printing
from stacpull.cli.help import Command
from stacpull.cli.progress import display
from stacpull.cli.running import run_until_stopped
from stacpull.cli.summary import headers_lines
from stacpull.cli.table import Table
from stacpull.config.options import Scope

__all__ = ["command"]

_SCOPES = (Scope.SELECTION, Scope.TRANSFER, Scope.OUTPUT)


@click.command(
    "headers",
    cls=Command,
    examples=[
        (
            "headers https://earth-search.aws.element84.com/v1 -C sentinel-2-l2a "
            "--max-items 3 --asset red -o headers.csv"
        ),
    ],
    params=[
        parameters.source(),
        click.Option(
            ["-o", "--output"],
            metavar="OUT",
            type=click.Path(path_type=Path),
            help="Write the table to this .parquet, .csv or .ndjson file instead of the terminal.",
        ),
        click.Option(["--refresh"], is_flag=True, help="Read all headers again and replace OUT."),
        *parameters.options(
            *_SCOPES,
            unused=(
                "checksum",
                "revalidate",
                "prune",
                "yes",
                "adopt",
                "processes",
                "expand-prefix",
                "collection-assets",
            ),
        ),
        parameters.config(),
    ],
)
@click.pass_context
def command(context: click.Context, /, source: str, output: Path | None, refresh: bool, **raw: object) -> int:
    """Read only the headers of COG and TIFF assets, as a table.

    Uses range requests, a few kB per asset. SOURCE and the selection are those of mirror. Results are kept
    in OUT.stacpull: an interrupted command resumes when it is run again, a finished one retries failures.
    """
    from stacpull_headers.header_table import headers

    told = parameters.told(context, raw, source=source, scopes=frozenset(_SCOPES))
    show = display(told.output, noun="headers", source=source)
    table = Table(_SHOWN, lambda line: printing.lines([line]))
    shown = output is None and not (told.output.json or told.output.quiet)

    def on_row(row: Mapping[str, Any]) -> None:
        show.close()  # all rows are read, and progress bars would mix with the table
        table.add(_cells(row))

    try:
        report = run_until_stopped(
            lambda stop: headers(
                source,
                output,
                selection=told.selection,
                options=told.options,
                refresh=refresh,
                on_row=on_row if shown else None,
                on_event=show,
                stop=stop,
            ),
            show,
        )
    finally:
        show.close()
    table.close()
    if not told.output.quiet:
        for text in headers_lines(report, show.failed):
            show.write(text) if output is None or told.output.json else printing.lines([text])
    if told.output.json:
        printing.json_line(report.to_json())
    return report.exit_code


_SHOWN = ("item", "asset", "size", "type", "layout", "crs", "overviews", "nodata")


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of a row for the table on the terminal."""
    asset = (row["item"], row["asset"] or "")
    if row["failure"] is not None:
        return (*asset, f"{row['failure']}: {row['error']}")
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
