"""`stacpull collections SOURCE` and `stacpull classes SOURCE`: list collections, and their label classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import click

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command
from stacpull.errors import UsageError
from stacpull.json_values import object_or_empty

if TYPE_CHECKING:
    from stacpull.engine.source_contents import ClassInfo

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
    shown = {
        "title": collection["title"],
        "licence": collection["license"],
        "cite as": collection["citation"],
        "doi": collection["doi"],
        "bbox": _joined(collection["bbox"], ", "),
        "time": _joined(collection["interval"], " to "),
        "items": collection["items"],
    }
    yield from (f"  {name:<8} {value}" for name, value in shown.items() if value not in (None, ""))


def _joined(values: object, between: str) -> str:
    """Join a box or an interval; an open end (null) is written `..` as in STAC's intervals."""
    if not isinstance(values, list):
        return ""
    return between.join(".." if value is None else str(value) for value in values)


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

    collection = _only_collection(session.selection.collections, source)
    found = session.run_cancelled(
        source_contents.classes(source, collection, count=count, options=session.options)
    )
    session.print(
        {"collection": collection, "classes": [_json(info) for info in found]},
        (line for info in found for line in _class_lines(info)),
    )


def _only_collection(named: tuple[str, ...], source: str) -> str:
    by_url = _NAMED_BY_URL.search(source)
    names = named or ((unquote(by_url[1]),) if by_url else ())
    if len(names) != 1:
        raise UsageError("Classes are listed for one collection: name it with -C ID.")
    return names[0]


def _json(info: ClassInfo) -> dict[str, object]:
    counts = None if info.counts is None else dict(info.counts)
    return {"name": info.name, "classes": list(info.classes), "counts": counts}


def _class_lines(info: ClassInfo) -> Iterator[str]:
    yield f"Classes for {info.name}"
    for name in sorted(info.classes, key=str.casefold):
        yield f"- {name}" if info.counts is None else f"- {name} ({info.counts.get(name, 0):,})"
