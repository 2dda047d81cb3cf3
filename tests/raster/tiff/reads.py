"""Reading a file like a ranged client: only the bytes that the parser requests."""

from pathlib import Path
from typing import NamedTuple

from stacpull_raster.tiff import MAX_BYTES, Header, Needs, Segments, parse


def parse_bytes(data: bytes) -> Header | Needs:
    segments = Segments()
    segments.add(0, data)
    return parse(segments)


class Read(NamedTuple):
    header: Header
    asks: list[Needs]


def read(data: bytes) -> Read:
    """Parse `data`, and fetch exactly the requested bytes."""
    segments = Segments(len(data))
    asks: list[Needs] = []
    while isinstance(found := parse(segments, max_bytes=MAX_BYTES), Needs):
        assert 0 <= found.start < found.stop <= len(data), "asks for bytes of the file"
        assert segments.read(found.start, found.start + 1) is None, "asks for what is not known"
        asks.append(found)
        assert len(asks) <= 300, "comes to an end"
        segments.add(found.start, data[found.start : found.stop])
    return Read(found, asks)


def real_files(shared_data: Path) -> list[Path]:
    found = sorted(path for path in shared_data.rglob("*") if path.suffix in {".tif", ".tiff"})
    assert found, shared_data
    return found
