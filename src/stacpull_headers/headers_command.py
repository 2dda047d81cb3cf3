"""`stacpull headers SOURCE [-o OUT]`: the headers of TIFFs, without their pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from stacpull.cli import parameters, printing
from stacpull.cli.command import CommandSession, command
from stacpull.cli.printing import Table
from stacpull.cli.summary import headers_lines
from stacpull.config.options import Scope

_SCOPES = (Scope.SELECTION, Scope.TRANSFER, Scope.OUTPUT)
_UNUSED = (
    "checksum", "revalidate", "prune", "yes", "adopt", "processes", "expand-prefix", "collection-assets",
)  # fmt: skip


@command(
    "headers",
    parameters.source(),
    click.Option(
        ["-o", "--output"],
        metavar="OUT",
        type=click.Path(path_type=Path),
        help="Write the table to this .parquet, .csv or .ndjson file instead of the terminal.",
    ),
    click.Option(["--refresh"], is_flag=True, help="Read all headers again and replace OUT."),
    *parameters.options(*_SCOPES, unused=_UNUSED),
    parameters.config(),
    examples=[
        (
            "headers https://earth-search.aws.element84.com/v1 -C sentinel-2-l2a "
            "--max-items 3 --asset red -o headers.csv"
        ),
    ],
    noun="headers",
    scopes=_SCOPES,
)
def headers_command(session: CommandSession, source: str, output: Path | None, refresh: bool) -> int:
    """Read only the headers of COG and TIFF assets, as a table.

    Uses range requests, a few kB per asset. SOURCE and the selection are those of mirror. Results are kept
    in OUT.stacpull: an interrupted command resumes when it is run again, a finished one retries failures.
    """
    from stacpull_headers.header_table import headers

    table = Table(_SHOWN, lambda line: printing.lines([line]))
    is_shown = output is None and not (session.output.json or session.output.quiet)

    def on_row(row: Mapping[str, Any]) -> None:
        session.close()  # all rows are read, and progress bars would mix with the table
        table.add(_cells(row))

    report = session.run(
        lambda stop: headers(
            source,
            output,
            selection=session.selection,
            options=session.options,
            refresh=refresh,
            on_row=on_row if is_shown else None,
            on_event=session.show,
            stop=stop,
        )
    )
    table.close()
    lines = headers_lines(report, session.show.failed)
    return session.finish(report, lines, aside=True if output is None else None)


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
