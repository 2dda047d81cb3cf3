"""However the bytes arrive, the header is the same, and the requested bytes suffice."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.raster.tiff import made
from tests.raster.tiff.reads import parse_bytes, read, real_files

from stacpull_raster.tiff import Header, Needs, Segments, parse


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


SAMPLES = {
    "classic": made.tiff(made.image(t306=made.ascii_field("2022:01:17 10:43:43")), made.IMAGE),
    "big-endian": made.tiff(made.image(t33550=made.doubles(1, 1, 0)), made.IMAGE, order=">"),
    "bigtiff": made.tiff(made.image(t270=made.ascii_field("x" * 90)), made.IMAGE, bigtiff=True, gap=200),
    "far values": made.tiff(made.image(t270=made.ascii_field("x" * 90)), made.IMAGE, gap=6000),
}


@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_requested_bytes_complete_the_header_from_any_knworker_parts(name: str, data: st.DataObject) -> None:
    file = SAMPLES[name]
    segments = Segments(len(file))
    for start in data.draw(st.lists(st.integers(0, len(file) - 1), max_size=6)):
        segments.add(start, file[start : start + data.draw(st.integers(0, 400))])
    asks = 0
    while isinstance(found := parse(segments), Needs):
        asks += 1
        assert asks <= 6
        segments.add(found.start, file[found.start : found.stop])
    assert found == read(file).header
