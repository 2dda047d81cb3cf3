"""`stacpull classes SOURCE -C ID`: which label classes a collection has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote

import click

from stacpull.cli import parameters, printing
from stacpull.cli.help import Command
from stacpull.cli.running import run
from stacpull.config.options import Scope
from stacpull.errors import UsageError

if TYPE_CHECKING:
    from stacpull.engine.api import ClassInfo

__all__ = ["command"]

_NAMED_BY_URL = re.compile(r"/collections/([^/?#]+)")


@click.command(
    "classes",
    cls=Command,
    examples=["classes http://127.0.0.1:8801/mlhub/v1 -C bigearthnet_v1_labels"],
    params=[
        parameters.source(),
        *parameters.named("collection"),
        click.Option(["--count"], is_flag=True, help="Count the items per class; reads every item."),
        *parameters.options(
            Scope.TRANSFER,
            Scope.OUTPUT,
            unused=(*parameters.OF_FILES, "no-progress", "per-host", "concurrency"),
        ),
        parameters.config(),
    ],
)
@click.pass_context
def command(context: click.Context, /, source: str, count: bool, **raw: object) -> None:
    """List the label classes of a collection.

    Read from label:classes of its items, or from its summaries.
    """
    from stacpull.engine import api

    told = parameters.told(context, raw, source=source)
    collection = _only_collection(told.selection.collections, source)
    found = run(api.classes(source, collection, count=count, options=told.options))
    if told.output.json:
        printing.json_line({"collection": collection, "classes": [_json(info) for info in found]})
    else:
        printing.lines(line for info in found for line in _lines(info))


def _only_collection(named: tuple[str, ...], source: str) -> str:
    by_url = _NAMED_BY_URL.search(source)
    names = named or ((unquote(by_url[1]),) if by_url else ())
    if len(names) != 1:
        raise UsageError("classes are listed for one collection: name it with -C ID")
    return names[0]


def _json(info: ClassInfo) -> dict[str, object]:
    counts = None if info.counts is None else dict(info.counts)
    return {"name": info.name, "classes": list(info.classes), "counts": counts}


def _lines(info: ClassInfo) -> Iterator[str]:
    yield f"Classes for {info.name}"
    yield from (f"- {name}{_count(info, name)}" for name in _sorted(info.classes))


def _sorted(classes: Iterable[str]) -> list[str]:
    return sorted(classes, key=str.casefold)


def _count(info: ClassInfo, name: str) -> str:
    return "" if info.counts is None else f" ({info.counts.get(name, 0):,})"
