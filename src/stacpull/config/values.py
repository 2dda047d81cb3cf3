"""How one value of an option is read, be it from a flag (text), the environment (text) or TOML (typed).

Each reader takes the raw value and returns the one that `Selection` or `Options` holds. It raises ValueError
with half a sentence ("must be …"); who calls knows where the value stood and says so.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

from stacpull.arguments import MOST_AT_ONCE
from stacpull.config.id_lists import ids_in

__all__ = [
    "Reader",
    "area",
    "auto_or_at_once",
    "auto_or_whole",
    "byte_count",
    "byte_rate",
    "choice",
    "duration",
    "existing_file",
    "expression",
    "item_ids",
    "metres",
    "percentage",
    "rate",
    "relation",
    "schemes",
    "seconds",
    "shard",
    "spatial_extent",
    "switch",
    "text",
    "web_address",
    "whole",
]

Reader = Callable[[object], object]

_WKT = re.compile(r"(MULTI)?(POINT|LINESTRING|POLYGON)\s*Z?M?\s*\(|GEOMETRYCOLLECTION\s*\(", re.IGNORECASE)
_TRUE = frozenset({"true", "yes", "on", "1"})
_SCHEMES = frozenset({"http", "https", "s3"})
_MULTIPLES = {"K": 1e3, "M": 1e6, "G": 1e9}
_STRUCTURAL = frozenset(
    {"self", "root", "parent", "collection", "child", "item", "items", "next", "prev", "search", "license"}
)
"""Relations of the tree that an item is in, and of its licence."""
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?"
)
_UNIT_SECONDS = (86400.0, 3600.0, 60.0, 1.0)
_FALSE = frozenset({"false", "no", "off", "0"})


def text(raw: object) -> str:
    """Read any text that is not empty."""
    if not isinstance(raw, str):
        raise ValueError(f"must be text in quotes, not {raw!r}")  # noqa: TRY004 - readers raise one thing
    if not raw.strip():
        raise ValueError("must not be empty")
    return raw


def switch(raw: object) -> bool:
    """Read on or off: a TOML boolean, or true/false, yes/no, on/off, 1/0 in any case."""
    if isinstance(raw, bool):
        return raw
    word = raw.strip().lower() if isinstance(raw, str) else ""
    if word in _TRUE | _FALSE:
        return word in _TRUE
    raise ValueError(f"must be true or false, not {raw!r}")


def choice(*allowed: str) -> Reader:
    """Return a reader that takes one of `allowed`."""

    def read(raw: object) -> str:
        if raw not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}, not {raw!r}")
        return str(raw)

    return read


def schemes(raw: object) -> tuple[str, ...]:
    """Read schemes of URLs that are fetched, separated by commas."""
    parts = raw.split(",") if isinstance(raw, str) else raw
    names = [str(part).strip().lower() for part in parts] if isinstance(parts, list) else []
    if not names or not _SCHEMES.issuperset(names):
        raise ValueError(f"must be some of {', '.join(sorted(_SCHEMES))} with commas between, not {raw!r}")
    return tuple(dict.fromkeys(names))


def relation(raw: object) -> str:
    """Read the relation of a link that can lead from one item to another."""
    name = text(raw).strip()
    if name.lower() in _STRUCTURAL:
        raise ValueError(f"must be a relation that leads to another item, not {name!r}")
    return name


def whole(least: int) -> Reader:
    """Return a reader of whole numbers from `least` on."""

    def read(raw: object) -> int:
        number = _integer(raw)
        if number is None or number < least:
            raise ValueError(f"must be a whole number from {least} on, not {raw!r}")
        return number

    return read


def auto_or_at_once(raw: object) -> int | None:
    """Read how many transfers may go on at once: a whole number from 1 to 4096; None stands for `auto`."""
    number = auto_or_whole(raw)
    if number is not None and number > MOST_AT_ONCE:
        raise ValueError(f"must be auto or a whole number from 1 to {MOST_AT_ONCE}, not {raw!r}")
    return number


def auto_or_whole(raw: object) -> int | None:
    """Read a whole number from 1 on; None stands for `auto`."""
    if raw == "auto":
        return None
    number = _integer(raw)
    if number is None or number < 1:
        raise ValueError(f"must be auto or a whole number from 1 on, not {raw!r}")
    return number


def seconds(raw: object) -> float:
    """Read a time in seconds, more than none."""
    number = _number(raw)
    if number is None or number <= 0:
        raise ValueError(f"must be a number of seconds above 0, not {raw!r}")
    return number


def duration(raw: object) -> float:
    """Read a time in seconds: a number above 0, or text like 3h50m, 90m, 1d12h or 45s."""
    found = _DURATION.fullmatch(raw.strip().lower()) if isinstance(raw, str) else None
    if found is not None and found[0]:
        total = sum(
            float(part) * unit for part, unit in zip(found.groups(), _UNIT_SECONDS, strict=True) if part
        )
    else:
        total = _number(raw) or 0.0
    if total <= 0:
        raise ValueError(f"must be a time above 0, like 3h50m, 90m or a number of seconds, not {raw!r}")
    return total


def rate(raw: object) -> float:
    """Read how often something may happen in a second: a number above 0."""
    number = _number(raw)
    if number is None or number <= 0:
        raise ValueError(f"must be a number above 0, not {raw!r}")
    return number


def byte_count(raw: object) -> int:
    """Read a size in bytes: a number from 1 on, or text of one with K (a thousand bytes), M or G."""
    number = _bytes(raw)
    if number is None or number < 1:
        raise ValueError(f"must be a number of bytes, like 500M or 2G, not {raw!r}")
    return int(number)


def byte_rate(raw: object) -> float:
    """Read bytes per second: a number from 0 on, or text of one with K (a thousand bytes), M or G."""
    number = _bytes(raw)
    if number is None or number < 0:
        raise ValueError(f"must be a number of bytes a second, like 500K or 2M, not {raw!r}")
    return number


def _bytes(raw: object) -> float | None:
    plain = raw.strip() if isinstance(raw, str) else raw
    factor = 1.0
    if isinstance(plain, str) and plain[-1:].upper() in _MULTIPLES:
        factor, plain = _MULTIPLES[plain[-1:].upper()], plain[:-1]
    number = _number(plain)
    return None if number is None else number * factor


def metres(raw: object) -> float:
    """Read a length in metres, more than none."""
    number = _number(raw)
    if number is None or number <= 0:
        raise ValueError(f"must be a number of metres above 0, not {raw!r}")
    return number


def existing_file(raw: object) -> Path:
    """Read the path of a file that is there."""
    path = Path(text(raw)).expanduser()
    if not path.is_file():
        raise ValueError(f"names no file: {path}")
    return path


def web_address(raw: object) -> str:
    """Read an http or https address."""
    address = text(raw)
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"must begin with http:// or https://, not {raw!r}")
    return address


def spatial_extent(raw: object) -> tuple[float, ...]:
    """Read W,S,E,N in degrees (RFC 7946, 5: west may exceed east, across the antimeridian).

    Six numbers are a box with heights, W,S,low,E,N,high; the heights are not compared.
    """
    parts = raw.split(",") if isinstance(raw, str) else raw
    numbers = [_number(part) for part in parts] if isinstance(parts, list) else []
    if len(numbers) not in (4, 6) or None in numbers:
        raise ValueError(f"must be four numbers W,S,E,N (or six, with heights), not {raw!r}")
    sides = tuple(number for number in numbers if number is not None)
    half = len(sides) // 2
    west, south, east, north = sides[0], sides[1], sides[half], sides[half + 1]
    if not (abs(west) <= 180 and abs(east) <= 180):  # noqa: PLR2004 - degrees
        raise ValueError("has a longitude outside of -180 to 180")
    if not -90 <= south <= north <= 90:  # noqa: PLR2004 - degrees
        raise ValueError("must have its latitudes in order, within -90 to 90: W,S,E,N")
    return sides


def item_ids(raw: object) -> tuple[str, ...]:
    """Read one item id, or with @FILE those of a list (`config.id_lists`)."""
    name = text(raw)
    if not name.startswith("@"):
        return (name,)
    try:
        ids = ids_in(_contents(name[1:]))
    except csv.Error as problem:
        raise ValueError(f"finds no list of ids in {name[1:]}: {problem}") from problem
    if not ids:
        raise ValueError(f"finds no id in {name[1:]}")
    return ids


def area(raw: object) -> str:
    """Read GeoJSON: its text, a table of TOML, or the file that holds it (@FILE, or its path alone)."""
    if isinstance(raw, dict):
        return json.dumps(raw, separators=(",", ":"))
    told = text(raw).strip()
    if _WKT.match(told):
        raise ValueError("must be GeoJSON (text, or a file of it), not WKT: WKT goes into --filter")
    if not told.startswith(("{", "[")):
        told = _contents(told.removeprefix("@"))
    try:
        document = json.loads(told)
    except (json.JSONDecodeError, RecursionError) as problem:
        raise ValueError(f"is not GeoJSON: {problem}") from problem
    return json.dumps(document, separators=(",", ":"))


def expression(raw: object) -> str:
    """Read CQL2: text, JSON as text or as a table of TOML, or the file that holds it (@FILE)."""
    if isinstance(raw, dict):
        return json.dumps(raw)
    told = text(raw).strip()
    if not told.startswith("@"):
        return told
    found = _contents(told[1:]).strip()
    if not found:
        raise ValueError(f"finds nothing in {told[1:]}")
    return found


def percentage(raw: object) -> float:
    """Read a number from 0 to 100; a sign of percent may stand behind it."""
    number = _number(raw.strip().removesuffix("%") if isinstance(raw, str) else raw)
    if number is None or not 0 <= number <= 100:  # noqa: PLR2004 - percent
        raise ValueError(f"must be a number from 0 to 100, not {raw!r}")
    return number


def shard(raw: object) -> tuple[int, int]:
    """Read I/N, the I-th of N parts."""
    number, _, count = text(raw).partition("/")
    first, last = _integer(number), _integer(count)
    if first is None or last is None or not 1 <= first <= last:
        raise ValueError(f"must be I/N with I from 1 to N, not {raw!r}")
    return first, last


def _contents(name: str) -> str:
    try:
        return Path(name).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as problem:
        raise ValueError(f"cannot read {name}: {_reason(problem)}") from problem


def _reason(problem: OSError | ValueError) -> str:
    if isinstance(problem, OSError):
        return problem.strerror or str(problem)
    return "it is not UTF-8 text" if isinstance(problem, UnicodeDecodeError) else str(problem)


def _integer(raw: object) -> int | None:
    if isinstance(raw, bool):
        return None
    if isinstance(raw, int):
        return raw
    plain = raw.strip() if isinstance(raw, str) else ""
    return int(plain) if plain.isascii() and plain.removeprefix("-").isdigit() else None


def _number(raw: object) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        return None
    try:
        number = float(raw)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
