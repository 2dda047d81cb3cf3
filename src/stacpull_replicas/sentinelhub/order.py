"""A statistics request, read and checked: everything that can be wrong with it is said here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from stacpull_replicas.sentinelhub.captures import BANDS, MASK
from stacpull_replicas.sentinelhub.evalscript import Evalscript, Output
from stacpull_replicas.sentinelhub.evalscript.errors import ScriptError
from stacpull_replicas.sentinelhub.evalscript.script import read_script
from stacpull_replicas.sentinelhub.grid import Bounds, Grid
from stacpull_replicas.sentinelhub.intervals import BEHAVIOURS, Interval, Step, cut_up, moment_of
from stacpull_replicas.sentinelhub.refusals import bad_payload, bad_script
from stacpull_replicas.sentinelhub.summary import INTERPOLATIONS, Bins, Calculation

_ORDERS = ("mostRecent", "leastRecent")
_WHERE = "aggregation->aggregationInterval"


@dataclass(frozen=True)
class Order:
    """What is asked for: collection, grid, intervals, script, and the calculation of each output's band."""

    collection: str
    oldest_on_top: bool
    grid: Grid
    intervals: tuple[Interval, ...]
    script: Evalscript
    calculations: Mapping[tuple[str, str], Calculation]


def document_of(body: bytes) -> dict[str, Any]:
    """The JSON object of a request. Raises Refusal."""
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
    """Read a request. Raises Refusal."""
    document = document_of(body)
    given, aggregation = _member(document, "input"), _member(document, "aggregation")
    collection, oldest = _source(given.get("data"))
    grid = Grid.read(Bounds.read(given.get("bounds")), aggregation)
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
    """The collection, and whether its oldest tile lies on top."""
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


def _intervals(aggregation: Mapping[str, Any]) -> tuple[Interval, ...]:
    given = _member(aggregation, "timeRange")
    whole = Interval(
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


def _calculations(given: Any, script: Evalscript) -> dict[tuple[str, str], Calculation]:
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


def _calculation(given: Any, output: Output, band: str) -> Calculation:
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
        return Calculation(percentiles, interpolation)
    where = f"{place}->histograms->{band}"
    bins = Bins.read(histogram, where)
    if bins.whole is not None and bins.whole != output.whole:
        numbers = "whole" if output.whole else "decimal"
        raise bad_payload(
            f"Histogram of {output.id} must be given by {numbers} numbers: its type is {output.sample_type}.",
            where,
        )
    return Calculation(percentiles, interpolation, bins)


def _percentiles(of_band: Callable[[str], Any], place: str) -> tuple[tuple[float, ...], str]:
    given = (of_band("statistics") or {}).get("percentiles")
    if given is None:
        return (), INTERPOLATIONS[0]
    ranks, interpolation = given.get("k"), given.get("interpolation", INTERPOLATIONS[0])
    numbers = isinstance(ranks, list) and all(isinstance(k, int | float) and 0 <= k <= 100 for k in ranks)  # noqa: PLR2004 - percent
    if not numbers or interpolation not in INTERPOLATIONS:
        raise bad_payload("Percentiles must be numbers from 0 to 100.", place)
    return tuple(map(float, ranks)), interpolation
