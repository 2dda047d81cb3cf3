"""Bytes received over time, by host: the data of the chart in `report`.

A run adds a row every few seconds. There are never more than `MOST_INTERVALS` rows: the two neighbours with
the shortest total length become one row. So the chart of a long run keeps an even resolution, and a mirror
that is updated by many short runs needs no more space than one run.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import orjson

MOST_INTERVALS = 360
MOST_HOSTS = 12
"""The hosts of an interval that are stored by name: those that sent the most bytes."""
_MOST_BYTES = 1 << 53


class RateInterval(NamedTuple):
    """An interval of time during a run.

    Attributes:
        started: Seconds since 1970.
        seconds: Its length. After a pause the next interval starts later than this one ends. The length of a
            joined interval does not include the pauses.
        hosts: Bytes by host; the empty name has the sum of all other hosts.
    """

    started: float
    seconds: float
    hosts: Mapping[str, int]


def add(db: sqlite3.Connection, now: float, seconds: float, hosts: Mapping[str, int]) -> None:
    """Add the interval that ends at `now`, within a transaction."""
    if seconds <= 0:
        return
    new = (now - seconds, seconds, orjson.dumps(_largest(hosts)).decode())
    db.execute("INSERT INTO rates(started, seconds, hosts) VALUES (?, ?, ?)", new)
    rows = db.execute("SELECT id, started, seconds, hosts FROM rates ORDER BY id").fetchall()
    if len(rows) <= MOST_INTERVALS:
        return
    at = _shortest([row[2] for row in rows])
    first, second = rows[at], rows[at + 1]
    one = join(_interval(*first[1:]), _interval(*second[1:]))
    db.execute("DELETE FROM rates WHERE id = ?", (second[0],))
    db.execute(
        "UPDATE rates SET seconds = ?, hosts = ? WHERE id = ?",
        (one.seconds, orjson.dumps(one.hosts).decode(), first[0]),
    )


def intervals(db: sqlite3.Connection) -> list[RateInterval]:
    """Return the intervals, oldest first."""
    return [_interval(*row) for row in db.execute("SELECT started, seconds, hosts FROM rates ORDER BY id")]


def bounded(found: list[RateInterval], most: int) -> list[RateInterval]:
    """Return at most `most` intervals: the shortest neighbours are joined."""
    kept = list(found)
    while len(kept) > most:
        at = _shortest([span.seconds for span in kept])
        kept[at : at + 2] = [join(kept[at], kept[at + 1])]
    return kept


def join(one: RateInterval, other: RateInterval) -> RateInterval:
    """Return one interval that joins two neighbours."""
    hosts = Counter(one.hosts)
    hosts.update(other.hosts)
    return RateInterval(one.started, one.seconds + other.seconds, _largest(hosts))


def _shortest(seconds: list[float]) -> int:
    """Return the index of the first of the two neighbours with the shortest total length."""
    return min(range(len(seconds) - 1), key=lambda at: seconds[at] + seconds[at + 1])


def _largest(hosts: Mapping[str, int]) -> dict[str, int]:
    """Return the hosts that sent the most bytes, and the sum of the others under the empty name."""
    named = sorted(((host, count) for host, count in hosts.items() if host), key=lambda one: -one[1])
    others = hosts.get("", 0) + sum(count for _, count in named[MOST_HOSTS:])
    return dict(named[:MOST_HOSTS]) | ({"": others} if others else {})


def _interval(started: float, seconds: float, hosts: str) -> RateInterval:
    """Return a row as an interval.

    Raises:
        sqlite3.DatabaseError: The row is not an interval.
    """
    try:
        by_host: dict[str, int] = orjson.loads(hosts)
        if all(0 <= count <= _MOST_BYTES for count in by_host.values()):
            return RateInterval(float(started), float(seconds), by_host)
    except (ValueError, AttributeError, TypeError) as error:
        raise sqlite3.DatabaseError(f"Could not decode the rates of an interval: {error}") from error
    raise sqlite3.DatabaseError("Could not decode the rates of an interval: a count is out of range")
