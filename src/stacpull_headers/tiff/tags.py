"""The tags that a header is read from, by their numbers.

Sources: TIFF 6.0; its technical note 1 (SubIFDs); GeoTIFF 1.1 (OGC 19-008r4); GDAL's private tags (42112,
42113); the registered tags of Esri's LERC (50674).
"""

from __future__ import annotations

from enum import IntEnum


class Tag(IntEnum):
    """Numbers of the tags, named as their specifications do."""

    NewSubfileType = 254
    SubfileType = 255
    ImageWidth = 256
    ImageLength = 257
    BitsPerSample = 258
    Compression = 259
    PhotometricInterpretation = 262
    DocumentName = 269
    ImageDescription = 270
    StripOffsets = 273
    SamplesPerPixel = 277
    RowsPerStrip = 278
    StripByteCounts = 279
    MinSampleValue = 280
    MaxSampleValue = 281
    XResolution = 282
    YResolution = 283
    PlanarConfiguration = 284
    ResolutionUnit = 296
    Software = 305
    DateTime = 306
    Artist = 315
    HostComputer = 316
    Predictor = 317
    TileWidth = 322
    TileLength = 323
    TileOffsets = 324
    TileByteCounts = 325
    SubIFDs = 330
    SampleFormat = 339
    Copyright = 33432
    ModelPixelScale = 33550
    ModelTiepoint = 33922
    ModelTransformation = 34264
    GeoKeyDirectory = 34735
    GeoDoubleParams = 34736
    GeoAsciiParams = 34737
    GDAL_METADATA = 42112
    GDAL_NODATA = 42113
    LercParameters = 50674
    TIFF_RSID = 50908
    GEO_METADATA = 50909


OF_BLOCKS = frozenset({Tag.StripOffsets, Tag.StripByteCounts, Tag.TileOffsets, Tag.TileByteCounts})
"""Where the pixels are: long lists that a header does not need, taken only if the directory holds them."""

OF_A_SUB_IMAGE = OF_BLOCKS | frozenset(
    {
        Tag.NewSubfileType,
        Tag.SubfileType,
        Tag.ImageWidth,
        Tag.ImageLength,
        Tag.RowsPerStrip,
        Tag.TileWidth,
        Tag.TileLength,
    }
)
"""What is read of an image that tag 330 names."""

OF_A_FURTHER_IMAGE = OF_A_SUB_IMAGE | {Tag.SubIFDs}
"""What is read of overviews, masks and further pages."""

ARRAYS = frozenset(
    {
        Tag.BitsPerSample,
        Tag.SampleFormat,
        Tag.SubIFDs,
        Tag.LercParameters,
        Tag.ModelPixelScale,
        Tag.ModelTiepoint,
        Tag.ModelTransformation,
        Tag.GeoKeyDirectory,
        Tag.GeoDoubleParams,
        Tag.GeoAsciiParams,
        Tag.DocumentName,
        Tag.ImageDescription,
        Tag.Software,
        Tag.DateTime,
        Tag.Artist,
        Tag.HostComputer,
        Tag.Copyright,
        Tag.GDAL_METADATA,
        Tag.GDAL_NODATA,
        Tag.TIFF_RSID,
        Tag.GEO_METADATA,
    }
)
"""Tags whose every value is read; of the others the first is all there should be."""

OF_THE_FIRST_IMAGE = frozenset(Tag)
"""What is read of the image that the file is about."""


def label(tag: int) -> str:
    """Name a tag in a message: `tag 322 (TileWidth)`."""
    return f"tag {tag} ({Tag(tag).name})"
