"""The interface of filters on items (`ItemFilter`), and the filters on ids, properties, times and places."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Final, Self

from stacpull.arguments import finite_number
from stacpull.boxes import Box, split_at_antimeridian, with_nonzero_area
from stacpull.clock import in_utc, parse_instant, parse_interval, rfc3339
from stacpull.errors import quantity
from stacpull.models import Json
from stacpull.redact import public_url
from stacpull.selection import Selection

LeftOut = Mapping[str, int]
_LAST: Final = datetime(9999, 12, 31, 23, 59, 58, tzinfo=UTC)  # a second can be added
_INDEX: Final = re.compile(r"\d{1,9}", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?(?:\d{1,300}(?:\.\d{0,300})?|\.\d{1,300})", re.ASCII)


class ItemFilter:
    """A filter on items, which judges each item alone. `fields` of `Selection` turn it on."""

    fields: ClassVar[tuple[str, ...]]
    warned_reason = ""  # items that were left out for this reason are counted in a warning after the walk
    warning = ""

    def __init__(self, value: Any) -> None:
        """Compile the value of the only field. Raises `UsageError` if it is invalid."""
        self._value = value

    @classmethod
    def from_selection(cls, selection: Selection) -> Self | None:
        value = getattr(selection, cls.fields[0])
        is_off = value is False or value in (None, ())  # 0 is a value, although it is equal to False
        return None if is_off else cls(value)

    def __call__(self, item: Json, properties: Json) -> str | None:
        """Return in two or three words why an item is left out, or None. Never raises, for any item."""
        raise NotImplementedError

    def warnings(self, counts: LeftOut, *, complete: bool) -> list[str]:  # noqa: ARG002 - for some filters
        """Return messages after a walk that left out `counts`. If `complete`, it has judged all items."""
        number = counts.get(self.warned_reason, 0)
        return [f"{quantity(number, 'item')} left out: {self.warning}"] if number else []

    def pushed_down(self) -> Json:
        """Return conditions that every kept item meets, as fields of `PushedDown`, for APIs."""
        return {}


class IdsFilter(ItemFilter):
    """`--ids`: whole ids, or endings of ids after a separator: `5_45` is not an ending of `..._15_45`."""

    fields = ("ids",)

    def __init__(self, ids: Sequence[str]) -> None:
        self._wanted = dict.fromkeys(map(str.strip, ids))
        self._lengths = sorted({len(text) for text in self._wanted})
        self._found: dict[str, int] = {}  # ids, with the hash of the first item that each matched
        self._shared = ""

    def __call__(self, item: Json, _properties: Json) -> str | None:
        name = item.get("id")
        if not isinstance(name, str):
            return "ids"
        matches = {name} & self._wanted.keys()
        for length in self._lengths:
            if length >= len(name):
                break
            ending = name[-length:]
            if ending in self._wanted and name[-length - 1] in "_-/.:":
                matches.add(ending)
        for text in matches:
            if self._found.setdefault(text, hash(name)) != hash(name):
                self._shared = text
        return None if matches else "ids"

    def missing(self) -> list[str]:
        """Return the ids that no item had so far."""
        return sorted(self._wanted.keys() - self._found)

    def warnings(self, counts: LeftOut, *, complete: bool) -> list[str]:  # noqa: ARG002 - as in ItemFilter
        texts = [f"{self._shared!r} is the end of several ids: all match."] if self._shared else []
        missing = self.missing()
        if missing and complete:
            of_ids = f"{len(missing):,} of {quantity(len(self._wanted), 'id')}"
            hint = " Repeat --ids for each id." if "," in missing[0] else ""
            shown = ", ".join(missing[:3])[:200]
            texts.append(f"The source listed no item for {of_ids}, such as {shown}.{hint}")
        return texts

    def pushed_down(self) -> Json:
        return {"ids": tuple(self._wanted)}


class ShardFilter(ItemFilter):
    fields = ("shard",)

    def __call__(self, item: Json, _properties: Json) -> str | None:
        number, count = self._value
        rank = _hash(str(item.get("id")), b"shard")
        return None if rank % count + 1 == number else "shard"


def rank_of(seed: int, item_id: str) -> int:
    """Return the rank of an item for a seed: 63 bits. A sample consists of the lowest ranks."""
    return _hash(f"{seed}\0{item_id}", b"sample") >> 1


# only a hash of the id decides, so shards and samples are the same everywhere
def _hash(text: str, purpose: bytes) -> int:
    hasher = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=purpose)
    return int.from_bytes(hasher.digest(), "big")


class PropertyName:
    """A name in a filter: of a member of the item, a property, or a member of a property (`bands.0.name`)."""

    def __init__(self, name: str) -> None:
        self._name = name.removeprefix("properties.")
        self._is_of_the_item = name in {"id", "collection", "geometry", "bbox"}
        self._path = tuple(self._name.split("."))

    def value(self, item: Json, properties: Json) -> Any:
        owner = item if self._is_of_the_item else properties
        value = owner.get(self._name)
        if value is None and len(self._path) > 1:
            value = properties
            for name in self._path:
                if isinstance(value, dict):
                    value = value.get(name)
                elif isinstance(value, list) and _INDEX.fullmatch(name):
                    value = next(iter(value[int(name) :]), None)
                else:
                    value = None
        return value


class WhereFilter(ItemFilter):
    """`--where`: every property, or a member of its list, equals one of its values, as number or text."""

    fields = ("where",)

    def __init__(self, conditions: Sequence[str]) -> None:
        wanted: dict[str, list[str]] = {}
        for condition in conditions:
            name, _, value = condition.partition("=")
            wanted.setdefault(name.strip(), []).append(value.strip())
        self._tests = [(name, PropertyName(name), _test_of(values)) for name, values in wanted.items()]
        self._others: dict[str, str] = {}  # of items that were left out, some values, and their properties
        self._keeps_some = False

    def __call__(self, item: Json, properties: Json) -> str | None:
        for name, reference, is_wanted in self._tests:
            value = reference.value(item, properties)
            members = value if isinstance(value, list) else [value]
            if not any(map(is_wanted, members)):
                if value is None:
                    return f"no property {name}"
                if len(self._others) < 3:  # noqa: PLR2004 - examples
                    self._others[public_url(str(value))[:80]] = name
                return "where"
        self._keeps_some = True
        return None

    def warnings(self, counts: LeftOut, *, complete: bool) -> list[str]:  # noqa: ARG002 - as in ItemFilter
        found = ", ".join(f"{name}={value}" for value, name in self._others.items())
        is_reason = found and complete and not self._keeps_some
        return [f"--where kept no item. Items have {found}."] if is_reason else []


def _test_of(wanted: Sequence[str]) -> Callable[[Any], bool]:
    texts = frozenset(wanted)
    numeric = [text for text in wanted if finite_number(text) is not None]
    numbers = frozenset(map(Decimal, numeric))
    floats = frozenset(map(float, numbers))

    def is_wanted(value: Any) -> bool:
        if isinstance(value, bool):
            return str(value).lower() in texts or str(value) in texts
        if isinstance(value, float):  # also an integer of more than 64 bits, which JSON decoding rounds
            return value in floats or str(value) in texts
        if not isinstance(value, str | int):
            return False
        text = str(value).strip()
        is_number = isinstance(value, int) or _DECIMAL.fullmatch(text) is not None
        return text in texts or (is_number and Decimal(text) in numbers)

    return is_wanted


class BooleanFilter(ItemFilter):
    fields = ("cloud_and_shadow", "seasonal_snow")
    warned_reason = "unreadable flag"
    warning = "cloud_and_shadow or seasonal_snow is not a valid flag."

    @classmethod
    def from_selection(cls, selection: Selection) -> Self | None:
        values = {name: getattr(selection, name) for name in cls.fields}
        wanted = {name: value for name, value in values.items() if value is not None}
        return cls(wanted) if wanted else None

    def __call__(self, _item: Json, properties: Json) -> str | None:
        flags = {name: read_boolean(properties.get(name)) for name in self._value}
        if None in flags.values():
            return self.warned_reason
        for name, wanted in self._value.items():
            if flags[name] is not wanted:
                return str(name).replace("_", " ")
        return None


def read_boolean(value: object) -> bool | None:
    """Read a boolean, "true", "false", 0 or 1; None and absent mean False. None for any other value."""
    if value is None:
        return False
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    is_zero_or_one = isinstance(value, int | float) and value in (0, 1)
    return bool(value) if is_zero_or_one else None


class CloudCoverFilter(ItemFilter):
    fields = ("max_cloud_cover",)
    warned_reason = "unknown cloud cover"
    warning = "eo:cloud_cover is absent or not a number."

    def __call__(self, _item: Json, properties: Json) -> str | None:
        cover = finite_number(properties.get("eo:cloud_cover"))
        if cover is None:
            return self.warned_reason
        return None if cover <= self._value else "cloud cover"

    def pushed_down(self) -> Json:
        return {"condition": {"op": "<=", "args": [{"property": "eo:cloud_cover"}, self._value]}}


def _end_text(end: datetime | None) -> str:
    return ".." if end is None else rfc3339(in_utc(end).replace(microsecond=0))


class DatetimeFilter(ItemFilter):
    fields = ("datetime",)
    warned_reason = "unknown time"
    warning = "datetime is absent or not a valid time."

    def __init__(self, text: str) -> None:
        self._start, self._end = parse_interval(text)

    def __call__(self, _item: Json, properties: Json) -> str | None:
        value = properties.get("datetime")
        if value is not None:
            start = end = parse_instant(value)
        else:
            start = parse_instant(properties.get("start_datetime"))
            end = parse_instant(properties.get("end_datetime"))
        if start is None and end is None:
            return self.warned_reason
        is_early = self._start is not None and end is not None and end < self._start
        is_late = self._end is not None and start is not None and start > self._end
        return "datetime" if is_early or is_late else None

    def pushed_down(self) -> Json:
        """Return the interval, rounded outwards to whole seconds."""
        end = self._end
        if end is not None and end.microsecond:
            end = min(in_utc(end), _LAST) + timedelta(seconds=1)
        first = _end_text(self._start)
        last = _end_text(end)
        return {"datetime": first if first == last else f"{first}/{last}"}


class AreaFilter(ItemFilter):
    fields = ("intersects",)
    warned_reason = "no location"
    warning = "neither geometry nor bbox is valid."

    def __init__(self, value: Any) -> None:
        from stacpull.filters import shapes  # noqa: PLC0415 -- shapely is heavy

        super().__init__(value)
        self._shapes = shapes
        if isinstance(value, str):
            self._area = shapes.read_area(value, "--intersects")
        else:
            self._area = shapes.box_shape(value)
        shapes.prepare(self._area)
        self._exceeds = shapes.exceeds_the_globe(self._area)

    def __call__(self, item: Json, _properties: Json) -> str | None:
        shape = self._shapes.geometry_of(item)
        if shape is None:
            return self.warned_reason
        is_inside = self._shapes.intersects(self._area, shape, exceeds=self._exceeds)
        return None if is_inside else self.fields[0]

    def pushed_down(self) -> Json:
        """Return the box and the geometry, which is more precise: services accept one of them."""
        if self._exceeds:  # services reject longitudes beyond 180 degrees, and geometry collections
            return {}
        pushed: Json = {"bbox": Box(*self._area.bounds)}
        if self._area.geom_type != "GeometryCollection":
            pushed["area"] = self._area.__geo_interface__
        return pushed


class BboxFilter(AreaFilter):
    fields = ("bbox",)

    def pushed_down(self) -> Json:
        boxes = split_at_antimeridian(self._value)
        if len(boxes) == 1:
            return {"bbox": boxes[0]}
        polygons = []
        for west, south, east, north in map(with_nonzero_area, boxes):
            southern = [[west, south], [east, south]]
            northern = [[east, north], [west, north]]
            polygons.append([[*southern, *northern, southern[0]]])
        return {"area": {"type": "MultiPolygon", "coordinates": polygons}}
