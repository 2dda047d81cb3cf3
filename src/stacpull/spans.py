"""Ranges of bytes of one file, in order, none empty, touching or overlapping: equal sets are equal values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
    start: int
    end: int


Spans = tuple[Span, ...]


def joined(spans: Iterable[Span]) -> Spans:
    found: list[Span] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if found and start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(end, found[-1].end))
        else:
            found.append(Span(start, end))
    return tuple(found)


def length(spans: Spans) -> int:
    return sum(end - start for start, end in spans)


def beginning(spans: Spans) -> int:
    return spans[0].end if spans and spans[0].start == 0 else 0


def missing(spans: Spans, total: int) -> Spans:
    edges = [0, *(edge for span in spans for edge in span), total]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return tuple(Span(start, min(end, total)) for start, end in gaps if start < min(end, total))
