"""`report`: one HTML page about a mirror, without any request to the network.

The page holds numbers, not items: its size does not grow with the mirror.
"""

import asyncio
import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import msgspec

from stacpull.arguments import or_default
from stacpull.boxes import is_bbox, to_2d
from stacpull.catalog.item import ANY_TIME, asset_origin
from stacpull.config.options import Options
from stacpull.dest_address import DestAddress, resolve_dest
from stacpull.errors import InterruptedRunError, UsageError, destination_errors
from stacpull.events import Listener, Stage
from stacpull.filters.labels import fold_label, item_labels
from stacpull.json_values import object_or_empty
from stacpull.ledger import queries
from stacpull.ledger.runs import run_totals
from stacpull.models import FailureKind, Json
from stacpull.store.staging import make_with_parents
from stacpull.threads import StoppableExecutor
from stacpull.urls import parts_of
from stacpull_export.atomic_file import atomic_file, output_path
from stacpull_export.formats import ExportReport
from stacpull_export.html_page import PageTemplate, shown
from stacpull_export.ledger_queries import run_summaries
from stacpull_export.mirrored_items import MirrorContents, MirroredItem, open_contents
from stacpull_export.tables import refuse_directory
from stacpull_export.training_samples import local_files

_MAX_LABELS = 60
"""Labels that the charts show, the most frequent ones."""
_CELLS_ACROSS = 90
"""Cells of the map along its longer side, at most."""
_MAX_COUNTED = 10_000
"""The most names counted per kind; later ones are ignored. A source can have any number."""
_MAX_PAIRED = 100
"""Labels of an item that are counted in pairs."""
_MAX_PAIRS = 100_000
_MAX_NAME_LENGTH = 300
"""Characters of a name by which it is counted."""
_MAX_NAMED = 3
"""Collections that the title names."""
_MAX_ROWS = 200
"""Rows of a table: collections, asset keys, hosts, months, runs."""
_FINEST = 0.01
"""The edge of a cell of the finest grid, in degrees."""
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Edges of a map cell in cells of the finest grid."""
_MAX_CELLS = (5 * _CELLS_ACROSS) ** 2
"""More do not fit into a map with an edge of 5: the next ones are multiples of 10."""


async def report(
    dest: str | Path,
    out: str | Path | None = None,
    *,
    options: Options | None = None,
    on_event: Listener | None = None,
    stop: asyncio.Event | None = None,
) -> ExportReport:
    """Write an HTML page about the mirror at `dest`: contents, sizes, runs, failures.

    The mirror is only read, and a run may be active. The page appears when it is complete.

    Args:
        dest: The mirror: a directory, or a bucket.
        out: The file; None writes report.html into the working directory.
        options: As for `status`.
        on_event: Called with `Stage`.
        stop: Set it to end gracefully, without a page.
    """
    path = output_path("report.html" if out is None else out)
    if path.suffix.lower() in {".pdf", ".csv", ".json", ".parquet"}:
        raise UsageError(f"A report is HTML: use a name such as {path.stem}.html.")
    thread = StoppableExecutor(stop)
    opened = or_default("options", Options, options)
    return await thread.run(lambda: _report(resolve_dest(dest, opened), path, on_event, thread.is_stopped))


def _report(
    dest: DestAddress, out: Path, on_event: Listener | None, is_stopped: Callable[[], bool]
) -> ExportReport:
    def on_progress(items: int) -> None:
        if is_stopped():
            raise InterruptedRunError("Interrupted before the page was written: run the same command again.")
        if on_event is not None:
            on_event(Stage("reading items", items, total))

    with destination_errors(out), open_contents(dest, on_event) as contents:
        refuse_directory(out)
        contents.refuse_inside(out)
        make_with_parents(out.parent)
        total = sum(1 for _ in contents.names())
        data = page_data(contents, on_progress)
        page, _ = PageTemplate("html_report.js").page(data["title"], data, "form-action 'none'")
        with atomic_file(out) as file:
            file.write(page)
    return ExportReport(data["items"], (out.name,), len(page), tuple(data["notes"]))


def page_data(contents: MirrorContents, on_progress: Callable[[int], None]) -> Json:
    """Return what the page shows: counts by collection, label, place, month, asset key, host and failure."""
    tally, checksum = Tally(), hashlib.sha256()
    for item in contents.items():
        checksum.update(tally.add(item))
        if tally.items % 500 == 0:
            on_progress(tally.items)
    on_progress(tally.items)
    totals, runs = run_totals(contents.db), run_summaries(contents.db)
    for number, run in enumerate(runs, 1):
        run["started"] = _moment(run["started"])
        is_live = run["state"] == contents.state == "running" and number == len(runs)
        run["state"] = queries.state_now(run["state"], live=is_live)  # one that was killed is still "running"
    named, more = [*map(shown, contents.collections)], len(contents.collections) - _MAX_NAMED
    title = f"Mirror of {', '.join(named[:_MAX_NAMED]) or 'nothing yet'}"
    if more > 0:
        title += f" and {more} more"
    return {
        "title": title,
        "source": runs[-1]["source"],
        "state": contents.state,
        "written": _moment(time.time()),
        "items": tally.items,
        "files": sum(files for _, files, _ in tally.collections.values()),
        "failed": totals["assets_failed"],
        "pending": totals["assets_pending"],
        "bytes": sum(size for _, _, size in tally.collections.values()),
        **tally.charts(contents.collections),
        "checksum": checksum.hexdigest() if tally.is_proven else "",
        "runs": runs[-_MAX_ROWS:],
        "failures": _failures(contents),
        "notes": [*contents.notes(), *tally.notes()],
    }


class _NameCounts(Counter[Any]):
    is_complete = True

    def add(self, name: object, number: int = 1, *, limit: int = _MAX_COUNTED) -> None:
        if name in self or len(self) < limit:
            self[name] += number
        else:
            self.is_complete = False


class Tally(msgspec.Struct):
    items: int = 0
    is_proven: bool = True
    collections: dict[str, list[int]] = {}
    labels: _NameCounts = msgspec.field(default_factory=_NameCounts)
    spelled: dict[str, str] = {}
    """Labels as an item spells them, by what is counted."""
    pairs: _NameCounts = msgspec.field(default_factory=_NameCounts)
    cells: Counter[tuple[int, int]] = msgspec.field(default_factory=Counter)
    cell_edge: int = 1
    """Of the cells that are counted, in cells of the finest grid."""
    months: _NameCounts = msgspec.field(default_factory=_NameCounts)
    files: _NameCounts = msgspec.field(default_factory=_NameCounts)
    sizes: _NameCounts = msgspec.field(default_factory=_NameCounts)
    hosts: _NameCounts = msgspec.field(default_factory=_NameCounts)

    def add(self, item: MirroredItem) -> bytes:
        """Count one item; return a line with SHA-256 and path for each of its files, as `sha256sum` does."""
        self.items += 1
        properties = object_or_empty(item.document.get("properties"))
        names = (label[:_MAX_NAME_LENGTH].strip() for label in item_labels(properties))
        spelled = {fold_label(name): name for name in names}
        labels = sorted(spelled)
        for label in labels:
            self.labels.add(label)
            if label in self.labels:
                self.spelled.setdefault(label, spelled[label])
        for pair in combinations(labels[:_MAX_PAIRED], 2):
            self.pairs.add(pair, limit=_MAX_PAIRS)
        if len(labels) > _MAX_PAIRED:
            self.pairs.is_complete = False
        start = properties.get("datetime") or properties.get("start_datetime")
        if isinstance(start, str) and start != ANY_TIME["start_datetime"]:
            self.months.add(start[:7])
        if (cell := _cell(item.document.get("bbox"), self.cell_edge)) is not None:
            self.cells[cell] += 1
            if len(self.cells) > _MAX_CELLS:
                self.cell_edge *= 10
                self.cells = _coarser(self.cells, self.cell_edge)
        collection = self.collections.setdefault(item.collection, [0, 0, 0])
        collection[0] += 1
        assets = item.document.get("assets") or {}
        lines = list[str]()
        for file in sorted(local_files(item.path, item.document)):
            collection[1] += 1
            collection[2] += file.size
            key = file.key[:_MAX_NAME_LENGTH]
            self.files.add(key)
            self.sizes.add(key, file.size)
            host = parts_of(str(asset_origin(assets[file.key]).get("href"))).netloc or "unknown"
            self.hosts.add(host[:_MAX_NAME_LENGTH], file.size)
            self.is_proven = self.is_proven and bool(file.sha256)
            lines.append(f"{file.sha256}  {file.path}\n")
        return "".join(lines).encode("utf-8", "surrogateescape")

    def notes(self) -> list[str]:
        counts: dict[str, _NameCounts] = {
            "labels": self.labels, "pairs of labels": self.pairs, "months": self.months,
            "asset keys": self.files,
            "hosts": self.hosts,
        }  # fmt: skip
        names = ", ".join(name for name, counted in counts.items() if not counted.is_complete)
        if not names:
            return []
        return [f"Too many to count all: {names}. Only the first ones are counted."]

    def charts(self, collections: Mapping[str, Json]) -> Json:
        labels = self.labels.most_common(_MAX_LABELS)
        rank = {name: number for number, (name, _) in enumerate(labels)}
        hosts = self.hosts.most_common(_MAX_ROWS)
        pairs = self.pairs.items()
        sizes = self.sizes.most_common(_MAX_ROWS)
        return {
            "collections": [
                {
                    "id": shown(name),
                    "title": shown(collections.get(name, {}).get("title") or ""),
                    "licence": shown(collections.get(name, {}).get("license") or ""),
                    "items": items,
                    "files": files,
                    "bytes": size,
                }
                for name, (items, files, size) in list(self.collections.items())[:_MAX_ROWS]
            ],
            "collections_left_out": max(0, len(self.collections) - _MAX_ROWS),
            "labels": [(shown(self.spelled[name]), count) for name, count in labels],
            "labels_left_out": len(self.labels) - len(labels),
            "pairs": [[rank[a], rank[b], n] for (a, b), n in pairs if a in rank and b in rank],
            "months": sorted(self.months.items())[-_MAX_ROWS:],
            "keys": [[shown(key), self.files[key], size] for key, size in sizes],
            "hosts": [(shown(host), count) for host, count in hosts],
            "map": _map(self.cells),
        }


def _cell(box: object, edge: int) -> tuple[int, int] | None:
    if not is_bbox(box):
        return None
    west, south, east, north = to_2d(box)
    if west > east:  # across the antimeridian (RFC 7946, 5.2)
        east += 360
    longitude, latitude = ((west + east) / 2 + 180) % 360 - 180, (south + north) / 2
    if not (math.isfinite(longitude) and -90 <= latitude <= 90):  # noqa: PLR2004 - degrees
        return None
    x, y = math.floor(longitude / _FINEST), math.floor(latitude / _FINEST)
    return x // edge * edge, y // edge * edge


def _coarser(cells: Mapping[tuple[int, int], int], edge: int) -> Counter[tuple[int, int]]:
    counts: Counter[tuple[int, int]] = Counter()
    for (x, y), count in cells.items():
        counts[x // edge * edge, y // edge * edge] += count
    return counts


def _map(finest: Mapping[tuple[int, int], int]) -> Json:
    if not finest:
        return {"degrees": _FINEST, "box": [-180, -90, 180, 90], "cells": []}
    xs, ys = [x for x, _ in finest], [y for _, y in finest]
    extent = max(max(xs) - min(xs), max(ys) - min(ys)) + 1
    per = next((size for size in _SIZES if extent <= size * _CELLS_ACROSS), _SIZES[-1])
    west, south = ((min(edges) - 2 * per) * _FINEST for edges in (xs, ys))
    east, north = ((max(edges) + 3 * per) * _FINEST for edges in (xs, ys))
    box = [max(-180, west), max(-90, south), min(180, east), min(90, north)]
    listed = [
        [round(x * _FINEST, 2), round(y * _FINEST, 2), count]
        for (x, y), count in sorted(_coarser(finest, per).items())
    ]
    return {"degrees": round(per * _FINEST, 2), "box": [round(edge, 2) for edge in box], "cells": listed}


def _failures(contents: MirrorContents) -> list[Json]:
    found: dict[FailureKind, Json] = {}
    for failure in queries.failures(contents.db):
        kind = FailureKind(failure.kind)
        if kind not in found:
            found[kind] = {"what": kind.meaning, "advice": kind.advice, "example": shown(failure.message)}
            found[kind] |= {"count": 0, "keys": set()}
        found[kind]["count"] += 1
        if len(found[kind]["keys"]) < 20:  # noqa: PLR2004 - names in a cell of a table
            found[kind]["keys"].add(failure.key)
    for row in found.values():
        row["keys"] = ", ".join(map(shown, sorted(filter(None, row["keys"]))))
    return sorted(found.values(), key=lambda row: -row["count"])


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
