"""`stacpull collections SOURCE` and `stacpull classes SOURCE`: list collections, and their label classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import click

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.errors import UsageError
from stacpull.json_values import object_or_empty

_NAMED_BY_URL = re.compile(r"/collections/([^/?#]+)")


@command(
    "collections",
    parameters.source(),
    *parameters.of("collections"),
    examples=["collections https://earth-search.aws.element84.com/v1"],
)
def collections(session: CommandSession, source: str) -> None:
    """List the collections of SOURCE.

    Prints id, title, licence, citation, extent and, where the API reports it, the number of items.
    """
    from stacpull.engine import source_contents

    documents = session.run_cancelled(source_contents.collections(source, options=session.options))
    found = [describe(document) for document in documents]
    session.print({"collections": found}, (line for collection in found for line in _lines(collection)))


def describe(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a STAC collection that are printed; None where it has none."""
    extent = object_or_empty(document.get("extent"))
    count = document.get("item_count")
    return {
        "id": document.get("id"),
        "title": document.get("title"),
        "license": document.get("license"),
        "citation": document.get("sci:citation"),
        "doi": document.get("sci:doi"),
        "bbox": _first(object_or_empty(extent.get("spatial")).get("bbox")),
        "interval": _first(object_or_empty(extent.get("temporal")).get("interval")),
        "items": count if isinstance(count, int) else None,
    }


def _first(value: object) -> Any:
    """Return the first box or interval, which is that of the whole collection (STAC collection, extent)."""
    return value[0] if isinstance(value, list) and value else None


def _lines(collection: Mapping[str, Any]) -> Iterator[str]:
    yield f"{collection['id']}"
    for label, name, between in _SHOWN:
        value = collection[name]
        if isinstance(value, list):  # an open end of an interval is null, written `..` as in STAC's intervals
            value = between.join(".." if one is None else str(one) for one in value)
        if value not in (None, ""):
            yield f"  {label:<8} {value}"


_SHOWN = (
    ("title", "title", ""),
    ("licence", "license", ""),
    ("cite as", "citation", ""),
    ("doi", "doi", ""),
    ("bbox", "bbox", ", "),
    ("time", "interval", " to "),
    ("items", "items", ""),
)


@command(
    "classes",
    parameters.source(),
    *parameters.named("collection"),
    click.Option(["--count"], is_flag=True, help="Count the items per class; reads every item."),
    *parameters.of("classes"),
    examples=["classes http://127.0.0.1:8801/mlhub/v1 -C bigearthnet_v1_labels"],
)
def classes(session: CommandSession, source: str, count: bool) -> None:
    """List the label classes of a collection.

    Read from label:classes of its items, or from its summaries.
    """
    from stacpull.engine import source_contents

    by_url = _NAMED_BY_URL.search(source)
    names = session.selection.collections or ((unquote(by_url[1]),) if by_url else ())
    if len(names) != 1:
        raise UsageError("Classes are listed for one collection: name it with -C ID.")
    work = source_contents.classes(source, names[0], count=count, options=session.options)
    found = session.run_cancelled(work)
    lines = []
    for info in found:
        lines.append(f"Classes for {info.name}")
        for name in sorted(info.classes, key=str.casefold):
            counted = "" if info.counts is None else f" ({info.counts.get(name, 0):,})"
            lines.append(f"- {name}{counted}")
    session.print({"collection": names[0], "classes": [info.to_json() for info in found]}, lines)
