"""Ranges of bytes of one file, in order, none empty, touching or overlapping: equal sets are equal values."""

from collections.abc import Iterable
from typing import NamedTuple


class ByteRange(NamedTuple):
    start: int
    end: int


ByteRanges = tuple[ByteRange, ...]


def merged(ranges: Iterable[ByteRange]) -> ByteRanges:
    result: list[ByteRange] = []
    for start, end in sorted(ranges):
        if start >= end:
            continue
        before = result[-1] if result else None
        if before is None or start > before.end:
            result.append(ByteRange(start, end))
        elif end > before.end:
            result[-1] = ByteRange(before.start, end)
    return tuple(result)


def length(ranges: ByteRanges) -> int:
    return sum(end - start for start, end in ranges)


def leading_length(ranges: ByteRanges) -> int:
    return ranges[0].end if ranges and ranges[0].start == 0 else 0


def gaps_in(ranges: ByteRanges, total: int) -> ByteRanges:
    starts = [0, *(received.end for received in ranges)]
    ends = [*(min(received.start, total) for received in ranges), total]
    return tuple(gap for gap in map(ByteRange, starts, ends) if gap.start < gap.end)
