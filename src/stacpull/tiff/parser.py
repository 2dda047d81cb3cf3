"""From bytes of a file to its `Header`, or to the bytes that lack."""

from __future__ import annotations

from stacpull.tiff.header import Header
from stacpull.tiff.segments import Needs, Segments

MOST_BYTES = 1 << 20
"""Directories and values a header may have, in bytes (protocols: a cap of 1 MiB)."""


def parse(segments: Segments, *, most_bytes: int = MOST_BYTES) -> Header | Needs:
    """Read the header of a file, or say which bytes lack.

    Fetching exactly the bytes of `Needs`, adding them and parsing again comes to an end.

    Args:
        segments: What is known of the file.
        most_bytes: What directories and values may take in all.

    Raises:
        TiffError: The file is no TIFF, contradicts itself, or its header is larger than `most_bytes`.
    """
    raise NotImplementedError


def parse_bytes(data: bytes) -> Header | Needs:
    """Read the header of a file that begins with `data`.

    Raises:
        TiffError: As `parse`.
    """
    segments = Segments()
    segments.add(0, data)
    return parse(segments)
