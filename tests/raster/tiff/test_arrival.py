"""However the bytes arrive, the header is the same, and the requested bytes suffice."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.raster.tiff import made
from tests.raster.tiff.reads import parse_bytes, read, real_files

from stacpull_raster.tiff import FIRST_READ, Header, Needs, Segments, TiffError, parse


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


def test_from_any_prefix_of_a_real_file_at_most_three_more_reads_are_needed(shared_data: Path) -> None:
    for path in real_files(shared_data):
        data = path.read_bytes()
        whole = read(data).header
        for length in range(0, whole.header_size, 97):
            header, asks = read(data, known=length, most_asks=3)
            assert header == whole
            assert len(asks) <= (2 if path.name.startswith("planet") else 1), (path.name, length, asks)


SAMPLES = {
    "classic": made.tiff(made.image(t306=made.ascii_field("2022:01:17 10:43:43")), made.IMAGE),
    "big-endian": made.tiff(made.image(t33550=made.doubles(1, 1, 0)), made.IMAGE, order=">"),
    "bigtiff": made.tiff(made.image(t270=made.ascii_field("x" * 90)), made.IMAGE, bigtiff=True, gap=200),
    "far values": made.tiff(made.image(t270=made.ascii_field("x" * 90)), made.IMAGE, gap=6000),
}


@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_the_header_does_not_depend_on_the_order_of_arrival(name: str, data: st.DataObject) -> None:
    file = SAMPLES[name]
    whole = read(file).header
    cuts = data.draw(st.lists(st.integers(0, len(file)), max_size=12))
    edges = [0, *sorted(cuts), len(file)]
    pieces = data.draw(st.permutations(list(pairwise(edges))))
    segments = Segments(len(file))
    for start, stop in pieces:
        segments.add(start, file[start:stop])
        found = parse(segments)
        if isinstance(found, Header):
            assert found == whole
        else:
            assert segments.read(found.start, found.start + 1) is None
    assert parse(segments) == whole


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


def test_the_first_16_kib_are_requested_if_nothing_is_known() -> None:
    assert parse(Segments()) == Needs(0, FIRST_READ)
    assert parse(Segments(50_000)) == Needs(0, FIRST_READ)
    assert parse(Segments(700)) == Needs(0, 700)
    assert parse_bytes(b"") == Needs(0, FIRST_READ)


def test_a_short_prefix_needs_the_bytes_after_it() -> None:
    assert parse_bytes(b"II*") == Needs(3, FIRST_READ)


def test_directories_spread_over_a_long_file_cost_a_read_each() -> None:
    """Overviews added later (gdaladdo) are behind the pixels, each directory behind its own."""
    spread = made.tiff(*[made.IMAGE] * 4, gap=200_000)
    header, asks = read(spread)
    assert len(header.images) == 1 + 3
    assert len(asks) == 1 + 3


def test_values_near_together_are_one_read_and_values_apart_are_more() -> None:
    description = made.ascii_field("d" * 20)
    near = made.tiff(made.image(t270=description, t305=description), gap=40_000) + bytes(100_000)
    assert len(read(near).asks) == 2
    apart = made.image(t270=description, t305=made.Value(2, b"s" * 20 + b"\0", place=90_000))
    assert len(read(made.tiff(apart, gap=40_000) + bytes(100_000)).asks) == 3


@pytest.mark.parametrize("bigtiff", [False, True])
def test_5808_tiles_by_band_cost_one_more_read_and_none_of_the_tile_lists(*, bigtiff: bool) -> None:
    """A Sentinel-2 tile of 12 bands in 512 pixels: the lists are between directory and metadata."""
    data = _empty_tiles(bands=12, side=22 * 512, bigtiff=bigtiff)
    header, asks = read(data)
    assert header.images[0].blocks == 5808
    assert header.images[0].sparse is None
    assert header.tags["SCENE"] == "behind the lists"
    assert len(asks) == 2
    assert sum(span.stop - span.start for span in asks) < 30_000


def _empty_tiles(*, bands: int, side: int, bigtiff: bool) -> bytes:
    tiles = bands * (side // 512) ** 2
    lists = {
        324: made.Value(16 if bigtiff else 4, [0] * tiles),
        325: made.Value(4, [0] * tiles),
    }
    fields = made.image(
        t256=made.Value(4, [side]),
        t257=made.Value(4, [side]),
        t258=made.shorts(*[16] * bands),
        t273=None,
        t278=None,
        t279=None,
        t277=made.shorts(bands),
        t284=made.shorts(2),
        t322=made.shorts(512),
        t323=made.shorts(512),
        t42112=made.ascii_field('<GDALMetadata><Item name="SCENE">behind the lists</Item></GDALMetadata>'),
    )
    return made.tiff({**fields, **lists}, bigtiff=bigtiff) + bytes(200_000)


def test_a_directory_at_the_end_of_a_long_file_is_found_in_two_reads() -> None:
    at = 8 + 300_000
    size = len(made.tiff(made.image(t270=made.Value(2, b"moved to the end\0"))))
    reported = made.image(t270=made.Value(2, b"moved to the end\0", place=at + size - 8 - 18))
    data = b"II*\0" + at.to_bytes(4, "little") + bytes(300_000) + made.tiff(reported)[8:]
    header, asks = read(data)
    assert header.description == "moved to the end"
    assert [span.start for span in asks] == [0, at]
    assert header.header_size == len(data) - 1  # the value has 17 bytes, padded to 18


def test_an_unknown_total_may_be_set_when_a_reply_ends_early() -> None:
    data = made.tiff(made.IMAGE)
    segments = Segments()
    found = parse(segments)
    assert isinstance(found, Needs)
    segments.add(0, data[: found.stop])
    assert isinstance(parse(segments), Header)
    cut = Segments()
    cut.add(0, data[:100])
    assert isinstance(parse(cut), Needs)
    cut.total = 100
    with pytest.raises(TiffError, match="past the end of the file"):
        parse(cut)
