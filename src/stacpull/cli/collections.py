"""`stacpull collections SOURCE`: which collections there are, under which licence, and how to cite them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from stacpull.cli import parameters, printing
from stacpull.cli.help import Command
from stacpull.cli.running import run
from stacpull.config.options import Scope

__all__ = ["command"]


@click.command(
    "collections",
    cls=Command,
    examples=["collections https://earth-search.aws.element84.com/v1"],
    params=[
        parameters.source(),
        *parameters.options(
            Scope.TRANSFER,
            Scope.OUTPUT,
            unused=(*parameters.OF_FILES, "page-size", "no-progress", "per-host", "concurrency"),
        ),
        parameters.config(),
    ],
)
@click.pass_context
def command(context: click.Context, /, source: str, **raw: object) -> None:
    """List the collections of SOURCE.

    Prints id, title, licence, citation, extent and, where the API reports it, the number of items.
    """
    from stacpull.engine import api

    told = parameters.told(context, raw, source=source)
    found = [describe(document) for document in run(api.collections(source, options=told.options))]
    if told.output.json:
        printing.json_line({"collections": found})
    else:
        printing.lines(line for collection in found for line in _lines(collection))


def describe(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what matters of a STAC collection; what it does not say is None."""
    extent = _object(document.get("extent"))
    count = document.get("item_count")
    return {
        "id": document.get("id"),
        "title": document.get("title"),
        "license": document.get("license"),
        "citation": document.get("sci:citation"),
        "doi": document.get("sci:doi"),
        "bbox": _first(_object(extent.get("spatial")).get("bbox")),
        "interval": _first(_object(extent.get("temporal")).get("interval")),
        "items": count if isinstance(count, int) else None,
    }


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(value: object) -> Any:
    """Return the first box or interval: the one of the whole (STAC collection, spatial extent)."""
    return value[0] if isinstance(value, list) and value else None


def _lines(collection: Mapping[str, Any]) -> Iterator[str]:
    yield f"{collection['id']}"
    told = {
        "title": collection["title"],
        "licence": collection["license"],
        "cite as": collection["citation"],
        "doi": collection["doi"],
        "bbox": _joined(collection["bbox"], ", "),
        "time": _joined(collection["interval"], " to "),
        "items": collection["items"],
    }
    yield from (f"  {name:<8} {value}" for name, value in told.items() if value not in (None, ""))


def _joined(values: object, between: str) -> str:
    """Join a box or an interval; an open end (null) is written `..` as in STAC's intervals."""
    if not isinstance(values, list):
        return ""
    return between.join(".." if value is None else str(value) for value in values)
