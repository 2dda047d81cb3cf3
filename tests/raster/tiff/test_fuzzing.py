"""Broken files of every kind: a header, or a TiffError; nothing else, in bounded time and memory.

`pytest --hypothesis-profile=long` tries each property 10,000 times.
"""

import time

from hypothesis import given
from hypothesis import strategies as st
from tests.raster.tiff import made
from tests.raster.tiff.reads import read

from stacpull_raster.tiff import Header, TiffError

MAX_SECONDS = 2.0
EXTREMES = [0, 1, 2, 7, 8, 16, 255, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]
GDAL = (
    '<GDALMetadata><Item name="a&amp;b" sample="0" role="scale">2</Item>'
    '<Item name="k">&amp;lt;</Item></GDALMetadata>'
)
RICH = made.image(
    t258=made.shorts(16, 16, 16),
    t277=made.shorts(3),
    t282=made.Value(5, [72, 1]),
    t306=made.ascii_field("2022:01:17 10:43:43"),
    t339=made.shorts(1, 1, 1),
    t33550=made.doubles(10, 10, 0),
    t33922=made.doubles(0, 0, 0, 500000, 4100000, 0),
    t34735=made.shorts(1, 1, 0, 3, 1024, 0, 1, 1, 1026, 34737, 6, 0, 3072, 0, 1, 32633),
    t34737=made.ascii_field("WGS84|"),
    t42112=made.ascii_field(GDAL),
    t42113=made.ascii_field("-128"),
)
MADE = [
    made.tiff(RICH, made.image(t254=made.Value(4, [1])), order=order, bigtiff=bigtiff)
    for order in "<>"
    for bigtiff in (False, True)
]


def judge(data: bytes) -> Header | None:
    """Read to the end; None where it is refused. Anything else that is raised fails the test."""
    began = time.process_time()
    try:
        header, message = read(data).header, "read"
    except TiffError as refusal:
        header, message = None, str(refusal)
    assert 0 < len(message) < 300
    assert time.process_time() - began < MAX_SECONDS
    return header


@st.composite
def damages(draw: st.DrawFn, data: bytes) -> bytes:
    """Flip bytes, write extreme numbers, move pieces, cut; mostly where the header is."""
    damaged = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(damaged) - 1))
        kind = draw(st.sampled_from(["byte", "number", "offset", "move", "cut"]))
        if kind == "byte":
            damaged[at] = draw(st.integers(0, 255))
        elif kind == "move":
            other, size = draw(st.integers(0, len(damaged) - 1)), draw(st.integers(1, 24))
            damaged[at : at + size] = damaged[other : other + size]
        elif kind == "cut":
            del damaged[max(at, 1) :]
        else:
            width = draw(st.sampled_from([2, 4, 8]))
            inside = st.integers(0, len(damaged))
            value = draw(inside if kind == "offset" else st.sampled_from(EXTREMES))
            order = draw(st.sampled_from(["little", "big"]))
            damaged[at : at + width] = (value % 256**width).to_bytes(width, order)
    return bytes(damaged)


@given(st.sampled_from(MADE).flatmap(damages))
def test_damaged_files_are_read_or_refused(data: bytes) -> None:
    judge(data)


def test_the_largest_header_allowed_takes_little_time() -> None:
    items = "".join(f'<Item name="k{n}" sample="{n}">v</Item>' for n in range(20_000))
    bands = made.image(
        t277=made.shorts(65_535), t42112=made.ascii_field(f"<GDALMetadata>{items}</GDALMetadata>")
    )
    header = judge(made.tiff(bands))
    assert header is not None
    assert header.band_tags[19_999] == {"k19999": "v"}
    assert len(header.scales) == 65_535
