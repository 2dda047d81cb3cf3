"""Measure time and memory of `export -f geoparquet` for as many items as BigEarthNet has.

python -m scripts.benchmarks.export [--items N] [--collection ID] [--keep DIRECTORY]

The script mirrors one patch from the replica. It then copies the item N times under other names, in the
ledger and as documents, so that the export reads a ledger and one file per item as in any mirror. The export
runs as a separate command; its memory is the sum over its processes (`yardstick.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import orjson
from scripts.benchmarks.measuring import measured

import stacpull
from stacpull.ledger.database import ledger_path
from stacpull.ledger.schema import item_hash
from stacpull.models import ItemId
from stacpull.planning.item_plan import item_directory, item_json_name
from stacpull_replicas import MlhubReplica, run_in_thread

_BIGEARTHNET = 590_326
_MICROSECONDS, _MEGABYTES = 80, 300
"""The limits: wall time per item, and MiB of all processes together."""


def _path(item: ItemId) -> str:
    return f"{item_directory(item)}/{item_json_name(item.item)}"


def make_mirror(dest: Path, collection: str, count: int) -> None:
    """Make a mirror with `count` copies of one item, in the ledger and as documents."""
    with run_in_thread(MlhubReplica(items=1)) as replica:
        os.environ.update(replica.exports())
        options = stacpull.Options()
        selection = stacpull.Selection(collections=(collection,), exclude_assets=("B10",))
        asyncio.run(stacpull.mirror(replica.base_url, dest, selection=selection, options=options))
    with closing(sqlite3.connect(ledger_path(dest), isolation_level=None)) as db:
        number, name = db.execute(
            "SELECT i.id, i.name FROM items i JOIN collections c ON c.id = i.collection "
            "WHERE c.name = ? AND i.name <> ''",
            (collection,),
        ).fetchone()
        document = orjson.loads((dest / _path(ItemId(collection, name))).read_bytes())
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        fixed = ("id", "hash", "name")
        columns = [row[1] for row in db.execute("PRAGMA table_info(items)") if row[1] not in fixed]
        listed = ", ".join(columns)
        for copy in range(count - 1):
            one = f"{name}_{copy}"
            path = _path(ItemId(collection, one))
            db.execute(
                f"INSERT INTO items(hash, name, {listed}) "  # noqa: S608 - column names
                f"SELECT ?, ?, {listed} FROM items WHERE id = ?",
                (item_hash(ItemId(collection, one)), one, number),
            )
            (dest / path).parent.mkdir(parents=True)
            (dest / path).write_bytes(_copied(document, copy))
        db.execute("COMMIT")


def _copied(document: dict[str, object], copy: int) -> bytes:
    """Return a copy of an item with another place, time and patch name."""
    west, south = -10 + copy % 4000 * 0.01, 36 + copy // 4000 * 0.01
    east, north = west + 0.01, south + 0.01
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    properties = document["properties"]
    assert isinstance(properties, dict)
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_496_000_000 + copy * 53))
    moved = {
        **document,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, east, north],
        "properties": {**properties, "datetime": moment},
    }
    patch = str(document["id"]).partition("_S2")[2]
    return orjson.dumps(moved).replace(patch.encode(), f"{patch}_{copy}".encode())


def measure(dest: Path, count: int) -> bool:
    """Export the mirror, print time and memory, and return whether both are within the limits."""
    out = dest.parent / "items.parquet"
    command = [sys.executable, "-m", "stacpull", "export", str(dest), str(out), "--json"]
    load = os.getloadavg()[0]
    figure = measured(command, dest.parent, 7200)
    clock = figure.wall / count * 1e6
    megabytes = figure.memory / (1 << 20)
    sys.stdout.write(
        f"{count:,} items: {clock:.1f} us per item (at most {_MICROSECONDS}), "
        f"{figure.cpu / count * 1e6:.1f} us of processor time, {figure.wall:.1f} s, "
        f"{megabytes:.0f} MiB in all processes (of {_MEGABYTES}), "
        f"{out.stat().st_size / 1e6:.1f} MB written, load {load:.1f} before\n"
    )
    return clock <= _MICROSECONDS and megabytes <= _MEGABYTES


def main() -> int:
    """Make the mirror if it does not exist, and measure its export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=_BIGEARTHNET)
    parser.add_argument("--collection", default="bigearthnet_v1_labels")
    parser.add_argument("--keep", type=Path, help="Make the mirror here and reuse it in later runs.")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        dest = (given.keep or Path(folder)).absolute() / "mirror"
        if not dest.exists():
            make_mirror(dest, given.collection, given.items)
        return 0 if measure(dest, given.items) else 1


if __name__ == "__main__":
    sys.exit(main())
