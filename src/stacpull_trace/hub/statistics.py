"""What the statistics service answers, read field by field. Pure.

The words "NaN" stand where a day had no valid sample; a day that failed has an `error`, a word in the plain
service and an object in the batch one, and the others are there all the same (`status` PARTIAL).
"""

from __future__ import annotations

from collections.abc import Mapping

from stacpull.models import Json
from stacpull_trace.hub.fields import array, count, mapping, moment, number, text, unreadable
from stacpull_trace.hub.values import (
    BandStatistics,
    Bin,
    Histogram,
    Interval,
    IntervalError,
    IntervalStatistics,
    StatisticsReply,
)

__all__ = ["parse_statistics"]


def parse_statistics(document: object, processing_units: float = 0.0) -> StatisticsReply:
    """Return the statistics of a reply.

    Args:
        document: Its JSON.
        processing_units: What it cost.

    Raises:
        SourceError: Something in it is not as it should be; the message says where.
    """
    reply = mapping(document, "the reply")
    data = reply.get("data")
    error = _error(reply.get("error"), "error")
    intervals = [] if data is None else array(data, "data")
    return StatisticsReply(
        status=text(reply.get("status") or ("FAILED" if error else None), "status"),
        intervals=tuple(_interval(one, f"data[{i}]") for i, one in enumerate(intervals)),
        error=error,
        processing_units=processing_units,
    )


def _interval(value: object, where: str) -> IntervalStatistics:
    document = mapping(value, where)
    span = mapping(document.get("interval"), f"{where}.interval")
    interval = Interval(
        moment(span.get("from"), f"{where}.interval.from"), moment(span.get("to"), f"{where}.interval.to")
    )
    error = _error(document.get("error"), f"{where}.error")
    if error is not None:
        return IntervalStatistics(interval, error=error)
    outputs = mapping(document.get("outputs"), f"{where}.outputs")
    return IntervalStatistics(
        interval, {name: _bands(output, f"{where}.outputs.{name}") for name, output in outputs.items()}
    )


def _error(value: object, where: str) -> IntervalError | None:
    if value is None:
        return None
    if isinstance(value, str):
        return IntervalError(text(value, where))
    document = mapping(value, where)
    kind = document.get("type") or document.get("code")
    return IntervalError(text(kind, f"{where}.type"), str(document.get("message") or ""))


def _bands(output: object, where: str) -> Mapping[str, BandStatistics]:
    bands = mapping(mapping(output, where).get("bands"), f"{where}.bands")
    return {
        name: _band(mapping(band, f"{where}.{name}"), f"{where}.bands.{name}") for name, band in bands.items()
    }


def _band(band: Json, where: str) -> BandStatistics:
    at = f"{where}.stats"
    stats = mapping(band.get("stats"), at)
    histogram = band.get("histogram")
    return BandStatistics(
        min=number(stats.get("min"), f"{at}.min"),
        max=number(stats.get("max"), f"{at}.max"),
        mean=number(stats.get("mean"), f"{at}.mean"),
        st_dev=number(stats.get("stDev"), f"{at}.stDev"),
        sample_count=count(stats.get("sampleCount"), f"{at}.sampleCount"),
        no_data_count=count(stats.get("noDataCount"), f"{at}.noDataCount"),
        percentiles=_percentiles(stats.get("percentiles"), f"{at}.percentiles"),
        histogram=None if histogram is None else _histogram(histogram, f"{where}.histogram"),
    )


def _percentiles(value: object, where: str) -> Mapping[float, float | None]:
    if value is None:
        return {}
    found = {}
    for key, figure in mapping(value, where).items():
        try:
            found[float(key)] = number(figure, f"{where}.{key}")
        except ValueError:
            raise unreadable(where, key, "a percentile") from None
    return found


def _histogram(value: object, where: str) -> Histogram:
    document = mapping(value, where)
    bins = array(document.get("bins"), f"{where}.bins")
    return Histogram(
        tuple(_bin(mapping(one, f"{where}.bins[{i}]"), f"{where}.bins[{i}]") for i, one in enumerate(bins)),
        underflow=count(document.get("underflowCount", 0), f"{where}.underflowCount"),
        overflow=count(document.get("overflowCount", 0), f"{where}.overflowCount"),
    )


def _bin(one: Json, where: str) -> Bin:
    low, high = (
        number(one.get("lowEdge"), f"{where}.lowEdge"),
        number(one.get("highEdge"), f"{where}.highEdge"),
    )
    if low is None or high is None:
        raise unreadable(where, one, "a bin with two edges")
    return Bin(low, high, count(one.get("count"), f"{where}.count"))
