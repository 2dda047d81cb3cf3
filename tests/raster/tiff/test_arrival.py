"""However the bytes arrive, the header is the same, and the requested bytes suffice."""

from __future__ import annotations

from pathlib import Path

from tests.raster.tiff.reads import parse_bytes, real_files

from stacpull_raster.tiff import Header, Needs


def test_every_prefix_of_a_real_file_needs_more_until_the_header_is_whole(shared_data: Path) -> None:
    """Cut at every byte: no error, no half a header, and always bytes that truly lack."""
    seen = 0
    for path in real_files(shared_data):
        data = path.read_bytes()
        whole = parse_bytes(data)
        assert isinstance(whole, Header)
        for length in range(whole.header_size):
            found = parse_bytes(data[:length])
            assert isinstance(found, Needs), (path.name, length)
            assert length <= found.start < whole.header_size, (path.name, length, found)
            assert found.start < found.stop
            seen += 1
        assert parse_bytes(data[: whole.header_size]) == whole
    assert seen > 80_000
