"""A parsed and checked statistics request: area, samples, intervals, evalscript, calculations.

The area is a box or a geometry in any supported CRS. Its box is divided into width by height samples, each at
the centre of its cell; a sample has the value of the pixel at its position (NEAREST). Samples outside the
geometry have no data. The time range is divided into intervals by an ISO 8601 duration.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from stacpull_replicas.sentinelhub.band_statistics import INTERPOLATIONS, BandCalculation, Bins
from stacpull_replicas.sentinelhub.captures import BANDS, MASK, Places
from stacpull_replicas.sentinelhub.evalscript import Evalscript, ScriptOutput, read_script
from stacpull_replicas.sentinelhub.script_evaluation import ScriptError
from stacpull_replicas.sentinelhub.sentinelhub_service import Refusal, bad_payload, bad_script
from stacpull_replicas.sentinelhub.tile_grid import EPSG, METRES, NORTH, WEST, epsg_of, to_utm

_DURATION = re.compile(
    r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?)?", re.ASCII
)
BEHAVIOURS = ("SKIP", "SHORTEN", "EXTEND")
_MOST = 10_000


@dataclass(frozen=True)
class StatisticsInterval:
    """A time range without its end."""

    start: datetime
    end: datetime

    def document(self) -> dict[str, str]:
        return {"from": written(self.start), "to": written(self.end)}


def written(moment: datetime) -> str:
    """Return a time as `2023-11-02T00:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment_of(text: Any, parameter: str) -> datetime:
    """Parse a time or a date; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise bad_payload(f"Invalid date: {text}", parameter) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Step:
    """A duration: months, and a part of fixed length."""

    months: int
    rest: timedelta

    @classmethod
    def read(cls, text: Any) -> Step:
        """Parse an ISO 8601 duration of at least a day."""
        match = _DURATION.fullmatch(text) if isinstance(text, str) else None
        years, months, weeks, days, hours, minutes = (
            (int(part or 0) for part in match.groups()) if match else [0] * 6
        )
        step = cls(12 * years + months, timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes))
        if not step.months and step.rest < timedelta(days=1):
            raise _not_a_step(text)
        return step

    def after(self, start: datetime, times: int) -> datetime:
        """Return the time `times` steps after `start`; days beyond the end of a month are limited."""
        month = start.month - 1 + self.months * times
        year, month = start.year + month // 12, month % 12 + 1
        day = min(start.day, calendar.monthrange(year, month)[1])
        return start.replace(year=year, month=month, day=day) + self.rest * times


def _not_a_step(text: Any) -> Refusal:
    return bad_payload(f"Invalid aggregation interval: {text}", "aggregation->aggregationInterval->of")


def cut_up(whole: StatisticsInterval, step: Step, behaviour: str) -> Iterator[StatisticsInterval]:
    """Yield the intervals of a range; `behaviour` applies to an incomplete last one."""
    start = whole.start
    for number in range(1, _MOST):
        if start >= whole.end:
            return
        end = step.after(whole.start, number)
        if end > whole.end:
            if behaviour == "SHORTEN":
                yield StatisticsInterval(start, whole.end)
            elif behaviour == "EXTEND":
                yield StatisticsInterval(start, end)
            return
        yield StatisticsInterval(start, end)
        start = end


MOST = 2500
"""Greatest width and height of a request."""
_DEFAULT_SIDE = 256
_AT_ONCE = 1 << 18
_OUTLINE_POINTS = 64
_FAR = 1e6


@dataclass(frozen=True)
class RequestedArea:
    """The area of a request: a box (west, south, east, north) in a CRS, and the geometry, if any."""

    box: tuple[float, float, float, float]
    crs: int
    geometry: BaseGeometry | None

    @classmethod
    def read(cls, given: Any) -> RequestedArea:
        if not isinstance(given, Mapping) or not (given.get("bbox") or given.get("geometry")):
            raise bad_payload("Either bbox or geometry must be set.", "input->bounds")
        name = (given.get("properties") or {}).get("crs", "OGC:CRS84")
        crs = epsg_of(str(name))
        if crs is None:
            raise bad_payload(f"Unknown or unsupported CRS: {name}", "input->bounds->properties->crs")
        geometry = (
            geometry_of(given["geometry"], "input->bounds->geometry") if given.get("geometry") else None
        )
        box = given.get("bbox") or geometry.bounds  # type: ignore[union-attr]
        return cls(box_of(box, "input->bounds->bbox"), crs, geometry)

    def outline(self) -> BaseGeometry:
        """Return the box or geometry in metres of the tiles' UTM zone, with curved edges."""
        area = self.geometry if self.geometry is not None else shapely.box(*self.box)
        longest = max(self.box[2] - self.box[0], self.box[3] - self.box[1]) / _OUTLINE_POINTS
        points = shapely.segmentize(area, longest)

        def moved(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.column_stack(to_utm(xy[:, 0], xy[:, 1], self.crs, EPSG))

        bent: BaseGeometry = shapely.make_valid(shapely.transform(points, moved))
        return bent


def box_of(given: Any, place: str) -> tuple[float, float, float, float]:
    """Read four numbers as west, south, east, north."""
    try:
        west, south, east, north = map(float, given)
    except (TypeError, ValueError) as error:
        raise bad_payload("A bbox must be four numbers.", place) from error
    if not (np.isfinite([west, south, east, north]).all() and west < east and south < north):
        raise bad_payload("A bbox must be west, south, east, north.", place)
    return west, south, east, north


def geometry_of(given: Any, place: str) -> BaseGeometry:
    """Read a GeoJSON polygon or multipolygon."""
    try:
        geometry = shape(given)
        whole = not geometry.is_empty and np.isfinite(geometry.bounds).all()
    except (
        AttributeError,
        IndexError,
        KeyError,
        TypeError,
        ValueError,
        shapely.errors.ShapelyError,
    ) as error:
        raise bad_payload("The geometry cannot be read.", place) from error
    if geometry.geom_type not in {"Polygon", "MultiPolygon"} or not whole:
        raise bad_payload("The geometry must be a Polygon or MultiPolygon.", place)
    return geometry


@dataclass(frozen=True)
class SampleBlock:
    """Some samples of a grid: column and row of their pixels in the tile grid, and a mask of the area."""

    columns: Places
    rows: Places
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class SampleGrid:
    """Bounds divided into `width` by `height` samples."""

    bounds: RequestedArea
    width: int
    height: int

    @classmethod
    def read(cls, bounds: RequestedArea, aggregation: Mapping[str, Any]) -> SampleGrid:
        """Read width and height, or resx and resy in units of the CRS."""
        size = [aggregation.get(name) for name in ("width", "height")]
        resolution = [aggregation.get(name) for name in ("resx", "resy")]
        if any(part is not None for part in size) and any(part is not None for part in resolution):
            raise bad_payload(
                "Only width and height or resx and resy can be set at the same time.", "aggregation"
            )
        west, south, east, north = bounds.box
        if resolution[0] is not None or resolution[1] is not None:
            given = [part if part is not None else next(filter(None, resolution)) for part in resolution]
            sides = [
                _side(extent / _positive(step, f"aggregation->{name}"), name)
                for extent, step, name in zip(
                    (east - west, north - south), given, ("resx", "resy"), strict=True
                )
            ]
            return cls(bounds, sides[0], sides[1])
        sides = [
            _whole(part, name) if part is not None else _DEFAULT_SIDE
            for part, name in zip(size, ("width", "height"), strict=True)
        ]
        return cls(bounds, sides[0], sides[1])

    @property
    def samples(self) -> int:
        return self.width * self.height

    def blocks(self) -> Iterator[SampleBlock]:
        """Yield all samples, from the north, a quarter of a million at a time."""
        west, south, east, north = self.bounds.box
        x = west + (np.arange(self.width) + 0.5) * ((east - west) / self.width)
        y = north - (np.arange(self.height) + 0.5) * ((north - south) / self.height)
        rows = max(1, _AT_ONCE // self.width)
        if self.bounds.geometry is not None:
            shapely.prepare(self.bounds.geometry)
        for first in range(0, self.height, rows):
            across, down = (part.ravel() for part in np.meshgrid(x, y[first : first + rows]))
            yield self._block(across, down)

    def _block(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> SampleBlock:
        geometry = self.bounds.geometry
        inside = np.ones(len(x), bool) if geometry is None else shapely.contains_xy(geometry, x, y)
        easting, northing = to_utm(x, y, self.bounds.crs, EPSG)
        columns, rows = np.floor((easting - WEST) / METRES), np.floor((NORTH - northing) / METRES)
        far = ~((np.abs(columns) < _FAR) & (np.abs(rows) < _FAR))  # also NaN
        columns[far], rows[far] = -1, -1
        return SampleBlock(columns.astype(np.int32), rows.astype(np.int32), inside)


def _positive(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise bad_payload("A resolution must be a positive number.", place)
    return float(value)


def _side(cells: float, name: str) -> int:
    side, which = max(1, round(cells)), {"resx": "width", "resy": "height"}[name]
    if side > MOST:
        message = f"`{which} = {side}`, calculated from {name}, is larger than allowed {MOST}."
        raise bad_payload(message, f"aggregation->{name}")
    return side


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST:
        raise bad_payload(f"`{name}` must be a whole number from 1 to {MOST}.", f"aggregation->{name}")
    return value


_ORDERS = ("mostRecent", "leastRecent")
_WHERE = "aggregation->aggregationInterval"


@dataclass(frozen=True)
class Order:
    """A statistics request: collection, grid, intervals, script, and a calculation per output band."""

    collection: str
    oldest_on_top: bool
    grid: SampleGrid
    intervals: tuple[StatisticsInterval, ...]
    script: Evalscript
    calculations: Mapping[tuple[str, str], BandCalculation]


def document_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request."""
    if not body:
        raise bad_payload("Request body should be non-empty.")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_payload("Request body is not valid JSON.") from error
    if not isinstance(document, dict):
        raise bad_payload("Request body must be a JSON object.")
    return document


def read_order(body: bytes) -> Order:
    document = document_of(body)
    given, aggregation = _member(document, "input"), _member(document, "aggregation")
    collection, oldest = _source(given.get("data"))
    grid = SampleGrid.read(RequestedArea.read(given.get("bounds")), aggregation)
    text = aggregation.get("evalscript")
    if not isinstance(text, str):
        raise bad_payload("Evalscript must be set.", "aggregation->evalscript")
    try:
        script = read_script(text, (*BANDS, MASK))
    except ScriptError as error:
        raise bad_script(str(error)) from error
    calculations = _calculations(document.get("calculations") or {}, script)
    return Order(collection, oldest, grid, _intervals(aggregation), script, calculations)


def _member(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    if not isinstance(found, Mapping):
        raise bad_payload(f"{name} must be set.", name)
    return found


def _source(data: Any) -> tuple[str, bool]:
    """Return the collection, and True if its oldest tile is on top."""
    if not isinstance(data, list) or len(data) != 1 or not isinstance(data[0], Mapping):
        raise bad_payload("data must be a list of one data source.", "input->data")
    kind = str(data[0].get("type", ""))
    if not kind.lower().startswith("byoc-"):
        raise bad_payload(f"Unknown data source type: {kind}", "input->data[0]->type")
    order = (data[0].get("dataFilter") or {}).get("mosaickingOrder", _ORDERS[0])
    if order not in _ORDERS:
        raise bad_payload(f"mosaickingOrder {order} is not supported.", "input->data[0]->dataFilter")
    for name, method in (data[0].get("processing") or {}).items():
        if name in {"upsampling", "downsampling"} and method != "NEAREST":
            raise bad_payload(f"{name} {method} is not supported.", "input->data[0]->processing")
    return kind[5:], order == _ORDERS[1]


def _intervals(aggregation: Mapping[str, Any]) -> tuple[StatisticsInterval, ...]:
    given = _member(aggregation, "timeRange")
    whole = StatisticsInterval(
        moment_of(given.get("from"), "aggregation->timeRange->from"),
        moment_of(given.get("to"), "aggregation->timeRange->to"),
    )
    if whole.start >= whole.end:
        raise bad_payload("timeRange must end after it begins.", "aggregation->timeRange")
    cutting = _member(aggregation, "aggregationInterval")
    behaviour = cutting.get("lastIntervalBehavior", BEHAVIOURS[0])
    if behaviour not in BEHAVIOURS:
        raise bad_payload(f"lastIntervalBehavior must be one of {', '.join(BEHAVIOURS)}.", _WHERE)
    return tuple(cut_up(whole, Step.read(cutting.get("of")), behaviour))


def _calculations(given: Any, script: Evalscript) -> dict[tuple[str, str], BandCalculation]:
    if not isinstance(given, Mapping):
        raise bad_payload("calculations must be an object.", "calculations")
    known = {output.id for output in script.outputs}
    for name in given:
        if name not in {*known, "default"}:
            raise bad_payload(f"There is no output {name} in the evalscript.", "calculations")
    return {
        (output.id, band): _calculation(given.get(output.id, given.get("default")) or {}, output, band)
        for output in script.outputs
        for band in output.bands
    }


def _calculation(given: Any, output: ScriptOutput, band: str) -> BandCalculation:
    place = f"calculations->{output.id}"
    if not isinstance(given, Mapping):
        raise bad_payload("A calculation must be an object.", place)

    def of_band(kind: str) -> Any:
        members = given.get(kind) or {}
        if not isinstance(members, Mapping):
            raise bad_payload(f"{kind} must be an object.", f"{place}->{kind}")
        return members.get(band, members.get("default"))

    percentiles, interpolation = _percentiles(of_band, f"{place}->statistics->{band}")
    histogram = of_band("histograms")
    if histogram is None:
        return BandCalculation(percentiles, interpolation)
    where = f"{place}->histograms->{band}"
    bins = Bins.read(histogram, where)
    if bins.whole is not None and bins.whole != output.whole:
        numbers = "whole" if output.whole else "decimal"
        raise bad_payload(
            f"Histogram of {output.id} must be given by {numbers} numbers: its type is {output.sample_type}.",
            where,
        )
    return BandCalculation(percentiles, interpolation, bins)


def _percentiles(of_band: Callable[[str], Any], place: str) -> tuple[tuple[float, ...], str]:
    given = (of_band("statistics") or {}).get("percentiles")
    if given is None:
        return (), INTERPOLATIONS[0]
    ranks, interpolation = given.get("k"), given.get("interpolation", INTERPOLATIONS[0])
    numbers = isinstance(ranks, list) and all(isinstance(k, int | float) and 0 <= k <= 100 for k in ranks)  # noqa: PLR2004 - percent
    if not numbers or interpolation not in INTERPOLATIONS:
        raise bad_payload("Percentiles must be numbers from 0 to 100.", place)
    return tuple(map(float, ranks)), interpolation
