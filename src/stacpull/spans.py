"""Ranges of bytes of one file, in order, none empty, touching or overlapping: equal sets are equal values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
    start: int
    end: int


Spans = tuple[Span, ...]


def merged(spans: Iterable[Span]) -> Spans:
    result: list[Span] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if result and start <= result[-1].end:
            result[-1] = Span(result[-1].start, max(end, result[-1].end))
        else:
            result.append(Span(start, end))
    return tuple(result)


def length(spans: Spans) -> int:
    return sum(end - start for start, end in spans)


def leading_length(spans: Spans) -> int:
    return spans[0].end if spans and spans[0].start == 0 else 0


def gaps_in(spans: Spans, total: int) -> Spans:
    edges = [0, *(edge for span in spans for edge in span), total]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return tuple(Span(start, min(end, total)) for start, end in gaps if start < min(end, total))
