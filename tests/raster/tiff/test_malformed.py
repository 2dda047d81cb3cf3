"""Files that contradict themselves: each ends as one sentence that names what and where."""

import io

import pytest
from tests.raster.tiff import made
from tests.raster.tiff.made import Value, ascii_field, doubles, image, shorts, tiff
from tests.raster.tiff.reads import read

from stacpull_raster.tiff import Needs, Segments, TiffError, parse, parse_file

HUGE = 2**32 - 1


def xml(text: str) -> bytes:
    return tiff(image(t42112=ascii_field(text)))


MALFORMED = {
    "empty": (b"", "the TIFF header at byte 0 reaches past the end of the file"),
    "seven bytes": (b"II*\0\x08\0\0", "the TIFF header at byte 0 reaches past"),
    "odd offsets of BigTIFF": (b"II+\0\x04\0\0\0" + bytes(99), "the file is not a TIFF"),
    "no image": (b"II*\0" + bytes(99), "the file has no image"),
    "directory outside": (
        b"II*\0\xff\xff\xff\x7f" + bytes(99),
        "the directory at byte 2147483647 reaches past",
    ),
    "directory without fields": (b"II*\0\x08\0\0\0" + bytes(99), "the directory at byte 8 has no fields"),
    "fields of BigTIFF beyond count": (
        b"II+\0\x08\0\0\0\x10" + bytes(7) + b"\xff" * 8 + bytes(99),
        "the directory at byte 16 reaches past",
    ),
    "loop to itself": (tiff(made.IMAGE, loop_to=8), "the directory at byte 8 is listed twice"),
    "loop through SubIFDs": (tiff(image(t330=Value(4, [8]))), "the directory at byte 8 is listed twice"),
    "SubIFD outside": (tiff(image(t330=Value(13, [HUGE]))), "the directory at byte 4294967295 reaches past"),
    "no width": (tiff(image(t256=None)), r"the directory at byte 8 has no tag 256 \(ImageWidth\)"),
    "width of nothing": (tiff(image(t256=Value(4, []))), r"tag 256 \(ImageWidth\) has no value"),
    "width 0": (tiff(image(t256=Value(4, [0]))), r"tag 256 \(ImageWidth\) of the directory at byte 8 is 0"),
    "width a fraction": (tiff(image(t256=Value(5, [1, 2]))), r"tag 256 .* is of type 5 and does not hold wh"),
    "unknown type": (
        tiff(image(t258=Value(99, [8]))),
        r"tag 258 \(BitsPerSample\) is of the unknown type 99",
    ),
    "no bands": (tiff(image(t277=shorts(0))), r"tag 277 \(SamplesPerPixel\) .* is 0"),
    "bits for two of three bands": (tiff(image(t277=shorts(3), t258=shorts(8, 8))), "2 values for 3 bands"),
    "no bits": (tiff(image(t258=shorts(0))), "no sample type has 0 bits and the SampleFormat 1"),
    "unknown sample format": (
        tiff(image(t339=shorts(9))),
        "no sample type has 8 bits and the SampleFormat 9",
    ),
    "tile width alone": (tiff(image(t322=shorts(16))), r"has no tag 323 \(TileLength\)"),
    "tile height 0": (tiff(image(t322=shorts(16), t323=shorts(0))), r"tag 323 \(TileLength\) .* is 0"),
    "strips of 0 rows": (tiff(image(t278=shorts(0))), r"tag 278 \(RowsPerStrip\) .* is 0"),
    "value outside": (
        tiff(image(t270=Value(2, b"text", count=2000))),
        r"tag 270 \(ImageDescription\) at byte \d+ reaches past the end of the file \(\d+ bytes\)",
    ),
    "value at absurd offset": (
        tiff(image(t42112=Value(2, b"x" * 9, place=HUGE))),
        r"tag 42112 \(GDAL_METADATA\) at byte 4294967295 reaches past",
    ),
    "scale not finite": (tiff(image(t33550=doubles(float("nan"), 1, 0))), "tag 33550 .* not finite"),
    "geokeys of version 2": (tiff(image(t34735=shorts(2, 1, 0, 0))), "not with version 1"),
    "too few geokeys": (tiff(image(t34735=shorts(1, 1, 0, 9, 1024, 0, 1, 1))), "too short for the 9 keys"),
    "geokey without its text": (
        tiff(image(t34735=shorts(1, 1, 0, 1, 1026, 34737, 5, 0))),
        "GeoKey 1026 has 5 values from 0 on in tag 34737, which does not have them",
    ),
    "metadata no XML": (xml("garbage"), r"tag 42112 \(GDAL_METADATA\) is not valid XML: syntax error"),
    "metadata with a DTD": (
        xml(
            '<!DOCTYPE GDALMetadata [<!ENTITY a "b">]><GDALMetadata><Item name="n">&a;</Item></GDALMetadata>'
        ),
        "declares a document type",
    ),
    "metadata with an entity from outside": (
        xml('<!DOCTYPE x SYSTEM "file:///etc/passwd"><GDALMetadata/>'),
        "declares a document type",
    ),
    "metadata of a band that is not a number": (
        xml('<GDALMetadata><Item name="n" sample="x">1</Item></GDALMetadata>'),
        "an item for the band 'x'",
    ),
    "a scale that is not a number": (
        xml('<GDALMetadata><Item name="SCALE" sample="0" role="scale">much</Item></GDALMetadata>'),
        "has the scale 'much', which is not a number",
    ),
    "ghost area without a length": (
        b"II*\0\x40\0\0\0GDAL_STRUCTURAL_METADATA_SIZE=ABCDEF bytes\n" + bytes(99),
        "the ghost area states no length",
    ),
    "ghost area too long": (
        b"II*\0\x40\0\0\0GDAL_STRUCTURAL_METADATA_SIZE=999999 bytes\n" + bytes(99),
        "the ghost area at byte 51 reaches past",
    ),
}


@pytest.mark.parametrize(("data", "message"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_contradictory_file_is_refused_with_a_message(data: bytes, message: str) -> None:
    with pytest.raises(TiffError, match=message):
        read(data)


def test_a_header_larger_than_the_limit_is_refused_before_it_is_requested() -> None:
    data = tiff(image(t270=Value(2, b"x", count=3_000_000)))
    segments = Segments(10_000_000)
    segments.add(0, data)
    with pytest.raises(TiffError, match=r"tag 270 \(ImageDescription\) makes the header larger than 1048576"):
        parse(segments)
    assert isinstance(parse(segments, max_bytes=4_000_000), Needs)


LEGAL = {
    "no compression tag": (tiff(image(t259=None)), {"compression": "none", "compression_code": 1}),
    "unknown compression": (tiff(image(t259=shorts(12345))), {"compression": "12345"}),
    "no rows per strip": (tiff(image(t278=None)), {"block_height": 30}),
    "5-6-5 bits": (
        tiff(image(t277=shorts(3), t258=shorts(5, 6, 5))),
        {"dtype": "uint8", "bits_per_sample": 6},
    ),
    "mixed types": (
        tiff(image(t277=shorts(3), t258=shorts(8, 16, 8))),
        {"dtype": "uint8+uint16", "bits_per_sample": 16},
    ),
    "12 bits": (tiff(image(t258=shorts(12))), {"dtype": "uint16", "bits_per_sample": 12}),
    "float of 24 bits": (tiff(image(t258=shorts(24), t339=shorts(3))), {"dtype": "float32"}),
    "text in Latin-1": (tiff(image(t305=Value(2, b"caf\xe9 \0"))), {"software": "caf\xe9 "}),
    "empty nodata": (tiff(image(t42113=Value(2, b"\0"))), {"nodata": None, "nodata_value": None}),
    "nodata that is not a number": (
        tiff(image(t42113=ascii_field("none"))),
        {"nodata": "none", "nodata_value": None},
    ),
    "user-defined CRS": (
        tiff(image(t34735=shorts(1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32767))),
        {"epsg": None, "crs_kind": "projected"},
    ),
    "no model, but a projected CRS": (
        tiff(image(t34735=shorts(1, 1, 0, 1, 3072, 0, 1, 32633))),
        {"epsg": 32633, "crs_kind": "projected"},
    ),
    "scale without a tiepoint": (tiff(image(t33550=doubles(1, 1, 0))), {"transform": None, "gcps": 0}),
    "scale below 0": (
        tiff(image(t33550=doubles(10, -10, 0), t33922=doubles(1, 2, 0, 100, 200, 0))),
        {"transform": (10, 0, 90, 0, -10, 220)},
    ),
    "an absurd count where one value is read": (
        tiff(image(t256=Value(4, [40], count=HUGE, place=122))),
        {"width": 40},
    ),
    "38 bytes": (tiff({256: Value(4, [40]), 257: Value(4, [30])}), {"width": 40, "header_size": 38}),
    "nodata beyond single precision": (
        tiff(image(t258=shorts(32), t339=shorts(3), t42113=ascii_field("-1e39"))),
        {"nodata": "-1e39", "nodata_value": float("-inf")},
    ),
    "a GeoKey that counts the NUL of its text": (
        tiff(image(t34735=shorts(1, 1, 0, 1, 1026, 34737, 7, 0), t34737=ascii_field("WGS84|"))),
        {"geokeys": {"GTCitationGeoKey": "WGS84"}},
    ),
    "GeoKeys of several numbers": (
        tiff(
            image(
                t34735=shorts(1, 1, 0, 2, 2062, 34736, 3, 1, 2057, 34736, 1, 0),
                t34736=doubles(6378137, 1, 2, 3),
            )
        ),
        {"geokeys": {"GeogTOWGS84GeoKey": (1, 2, 3), "EllipsoidSemiMajorAxisGeoKey": 6378137}},
    ),
    "metadata of a band that is not there": (
        xml('<GDALMetadata><Item name="n" sample="7">1</Item></GDALMetadata>'),
        {"band_tags": ({},)},
    ),
    "metadata with a declaration, a comment and CDATA": (
        xml(
            '\n<?xml version="1.0"?><GDALMetadata><!----><Item name="n"><![CDATA[a<b]]></Item></GDALMetadata>'
        ),
        {"tags": {"n": "a<b"}},
    ),
    "items without name or text, or with elements": (
        xml('<GDALMetadata><Item>x</Item><Item name="a"> </Item><Item name="b">x<i/>y</Item></GDALMetadata>'),
        {"tags": {}},
    ),
    "numbers of half characters": (
        xml('<GDALMetadata><Item name="a">&amp;#xD800;&amp;#57343;&amp;#xE000;</Item></GDALMetadata>'),
        {"tags": {"a": "&#xD800;&#57343;\ue000"}},
    ),
    "the most bands there can be": (tiff(image(t277=shorts(65535))), {"bands": 65535}),
    "resolution over 0": (tiff(image(t282=Value(5, [72, 0]))), {"tags": {"TIFFTAG_XRESOLUTION": "0"}}),
    "an older kind of overview": (tiff(made.IMAGE, image(t255=shorts(2))), {"overviews": ((40, 30),)}),
    "a mask of an overview": (
        tiff(made.IMAGE, image(t254=Value(4, [5]))),
        {"masks": ((40, 30),), "overviews": ()},
    ),
}


@pytest.mark.parametrize(("data", "expected"), LEGAL.values(), ids=LEGAL.keys())
def test_unusual_but_valid_files_are_read(data: bytes, expected: dict[str, object]) -> None:
    header = read(data).header
    assert {field: getattr(header, field) for field in expected} == expected


def test_a_file_that_became_shorter_than_its_known_start_is_an_error() -> None:
    start = b"II*\0" + (1000).to_bytes(4, "little") + bytes(92)
    with pytest.raises(TiffError, match="reaches past the end of the file"):
        parse_file(io.BytesIO(start[:50]), start)
