"""What the numbers of a directory say of its pixels: sample types, and the names of codes.

Numpy's and rasterio's names; codes from TIFF 6.0, its technical notes, and the registrations of libtiff.
"""

from __future__ import annotations

from stacpull_headers.tiff.directories import Directory
from stacpull_headers.tiff.segments import TiffError
from stacpull_headers.tiff.tags import Tag

_LERC = 34887
COMPRESSIONS = {
    1: "none",
    2: "ccittrle",
    3: "ccittfax3",
    4: "ccittfax4",
    5: "lzw",
    6: "ojpeg",
    7: "jpeg",
    8: "deflate",
    32773: "packbits",
    32946: "deflate",
    33003: "jpeg2000",
    33005: "jpeg2000",
    34661: "jbig",
    34712: "jpeg2000",
    _LERC: "lerc",
    34925: "lzma",
    50000: "zstd",
    50001: "webp",
    50002: "jxl",
    52546: "jxl_dng_1_7",
}
_LERC_PACKED = {1: "lerc_deflate", 2: "lerc_zstd"}
PHOTOMETRICS = {
    0: "miniswhite",
    1: "minisblack",
    2: "rgb",
    3: "palette",
    4: "mask",
    5: "cmyk",
    6: "ycbcr",
    8: "cielab",
    9: "icclab",
    10: "itulab",
    32803: "cfa",
    32844: "logl",
    32845: "logluv",
    34892: "linear_raw",
}
_WIDTHS = {
    1: ("uint", (8, 16, 32, 64)),
    2: ("int", (8, 16, 32, 64)),
    3: ("float", (16, 32, 64)),
    4: ("uint", (8, 16, 32, 64)),  # "undefined": whole numbers to every reader
    5: ("complex_int", (32, 64)),
    6: ("complex", (32, 64, 128)),
}
"""By SampleFormat (TIFF 6.0, section 19; 5 and 6 of libtiff): the name and the bits that exist of it."""


def compression_name(directory: Directory, code: int) -> str:
    """Name a compression; that of LERC tells also what packs it (its second parameter)."""
    parameters = directory.integers(Tag.LercParameters) if code == _LERC else ()
    if len(parameters) > 1:
        return _LERC_PACKED.get(parameters[1], "lerc")
    return COMPRESSIONS.get(code, str(code))


def sample_types(directory: Directory, bands: int) -> tuple[str, int]:
    """Give the type of the samples (the different ones joined by `+`) and the bits of the widest.

    Raises:
        TiffError: Bits and formats that no type has, or not one for each band.
    """
    bits = _for_each_band(directory, Tag.BitsPerSample, bands)
    formats = _for_each_band(directory, Tag.SampleFormat, bands)
    if len(bits) == len(formats) == 1:
        return sample_type(bits[0], formats[0]), bits[0]
    wide = bits * bands if len(bits) == 1 else bits
    kinds = formats * bands if len(formats) == 1 else formats
    return "+".join(dict.fromkeys(map(sample_type, wide, kinds))), max(bits)


def sample_type(bits: int, sample_format: int) -> str:
    """Name the smallest type that holds a sample.

    Raises:
        TiffError: There is none.
    """
    name, widths = _WIDTHS.get(sample_format, ("", ()))
    width = next((width for width in widths if bits <= width), None)
    # an exponent has no spare bits: half, single and double (24 bits are read as single) are all there are
    if not bits or width is None or (sample_format in {3, 5, 6} and bits not in {24, width}):
        raise TiffError(f"no sample type has {bits} bits and the SampleFormat {sample_format}")
    return f"{name}{width // 2 if sample_format == 5 else width}"  # noqa: PLR2004 -- complex_int16 has two of 16


def _for_each_band(directory: Directory, tag: Tag, bands: int) -> tuple[int, ...]:
    """Give one value for all bands, or one for each where they differ; 1 is the default of both tags."""
    values = directory.integers(tag) or (1,)
    if 1 < len(values) < bands:
        raise TiffError(f"{tag.name} has {len(values)} values for {bands} bands")
    values = values[:bands]
    return values[:1] if len(set(values)) == 1 else values
