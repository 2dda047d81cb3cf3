"""GDAL's metadata: the XML of tag 42112, the ghost area, and what GDAL makes of plain TIFF tags.

A document type is refused in the XML: no entities, so nothing can grow or point outside.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from xml.etree import ElementTree as ET

import msgspec

from stacpull_raster.tiff.directories import ByteLayout, Directory, Tag, label
from stacpull_raster.tiff.header import single
from stacpull_raster.tiff.segments import Reader, TiffError

GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE="
"""The start of the ghost area of a COG, right after the TIFF header (GDAL, COG driver)."""
_GHOST_HEAD = 43
"""Length of its first line: this text, six digits, ` bytes` and a line feed."""

_TEXTS = {
    Tag.DocumentName: "TIFFTAG_DOCUMENTNAME",
    Tag.ImageDescription: "TIFFTAG_IMAGEDESCRIPTION",
    Tag.Software: "TIFFTAG_SOFTWARE",
    Tag.DateTime: "TIFFTAG_DATETIME",
    Tag.Artist: "TIFFTAG_ARTIST",
    Tag.HostComputer: "TIFFTAG_HOSTCOMPUTER",
    Tag.Copyright: "TIFFTAG_COPYRIGHT",
    Tag.TIFF_RSID: "TIFF_RSID",
    Tag.GEO_METADATA: "GEO_METADATA",
}
_FLOATS = {Tag.XResolution: "TIFFTAG_XRESOLUTION", Tag.YResolution: "TIFFTAG_YRESOLUTION"}
_SHORTS = {Tag.MinSampleValue: "TIFFTAG_MINSAMPLEVALUE", Tag.MaxSampleValue: "TIFFTAG_MAXSAMPLEVALUE"}
_UNITS = {1: "1 (unitless)", 2: "2 (pixels/inch)", 3: "3 (pixels/cm)"}
_ENTITY = re.compile(r"&(?:(lt|gt|amp|apos|quot)|#(?:[xX]([0-9A-Fa-f]{1,6})|([0-9]{1,7})));")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "apos": "'", "quot": '"'}
_TEXT = re.compile(r">[^<>]*</Item>")
"""XML makes a carriage return a line feed, but GDAL keeps it."""
_WHITE_SPACE = " \t\n\v\f\r"
_LAST_CHARACTER = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)
"""Halves of a pair in UTF-16, not characters: UTF-8 cannot hold them (RFC 3629, section 3)."""


class Item(NamedTuple):
    """One `<Item>` of tag 42112; `sample` counts bands from 0 and is None for the dataset."""

    name: str
    value: str
    sample: int | None
    role: str
    domain: str


class BandMetadata(msgspec.Struct):
    tags: dict[str, str] = {}
    scale: float = 1.0
    offset: float = 0.0
    unit: str | None = None
    description: str | None = None


class Metadata(NamedTuple):
    tags: dict[str, str]
    domains: dict[str, dict[str, str]]
    bands: list[BandMetadata]


_NO_METADATA = BandMetadata()


def read_metadata(directory: Directory, bands: int, raster_type: object) -> Metadata:
    written = directory.text(Tag.GDAL_METADATA)
    items = _items_in(written) if written and written.strip() else []
    domains: dict[str, dict[str, str]] = {}
    by_band: dict[int, BandMetadata] = {}
    for item in items:
        if item.sample is None and item.domain:
            name = item.domain if item.domain.startswith("xml:") else item.name  # as rasterio
            domains.setdefault(item.domain, {})[name] = item.value
        elif item.sample is not None and item.sample < bands:
            _apply(by_band.setdefault(item.sample, BandMetadata()), item)
    tags = _dataset_tags(directory, items, raster_type)
    return Metadata(tags, domains, [by_band.get(band, _NO_METADATA) for band in range(bands)])


def _items_in(written: str) -> list[Item]:
    """Read the items of an XML document `<GDALMetadata><Item name=… sample=… role=… domain=…>`."""
    parser = ET.XMLParser(target=_TreeWithoutDoctype())  # noqa: S314 - nothing can be declared
    try:
        parser.feed(_TEXT.sub(lambda text: text[0].replace("\r", "&#13;"), written.lstrip()))
        root = parser.close()
    except ET.ParseError as error:
        raise TiffError(f"{label(Tag.GDAL_METADATA)} is not valid XML: {error}") from None
    listed = root.findall("Item") if root.tag == "GDALMetadata" else []
    # GDAL skips white space before a text, and items without one; one that holds elements is not an item
    texts = [(item.attrib, (item.text or "").lstrip(_WHITE_SPACE)) for item in listed if not len(item)]
    items = []
    for attributes, text in texts:
        if text and "name" in attributes:
            sample = attributes.get("sample")
            if sample is not None and not re.fullmatch(r"[0-9]{1,5}", sample):
                raise TiffError(f"{label(Tag.GDAL_METADATA)} has an item for the band {sample!r}")
            value = _ENTITY.sub(_character, text)  # GDAL escapes the text of an item twice
            place, role = None if sample is None else int(sample), attributes.get("role", "").lower()
            items.append(Item(attributes["name"], value, place, role, attributes.get("domain", "")))
    return items


class _TreeWithoutDoctype(ET.TreeBuilder):
    def doctype(self, *_: object) -> None:
        raise TiffError(f"{label(Tag.GDAL_METADATA)} declares a document type, which is not supported")


def _character(match: re.Match[str]) -> str:
    name, hexadecimal, decimal = match.groups()
    if name:
        return _NAMED[name]
    number = int(hexadecimal, 16) if hexadecimal else int(decimal)
    is_character = 0 < number <= _LAST_CHARACTER and number not in _SURROGATES
    return chr(number) if is_character else match.group()


def _dataset_tags(directory: Directory, items: list[Item], raster_type: object) -> dict[str, str]:
    tags = {name: text for tag, name in _TEXTS.items() if (text := directory.text(tag)) is not None}
    for tag, name in _FLOATS.items():
        for value in directory.numbers(tag)[:1]:
            tags[name] = f"{single(value):.8g}"  # as GDAL writes it
    for tag, name in _SHORTS.items():
        if (short := directory.integer(tag)) is not None:
            tags[name] = str(short)
    unit = directory.integer(Tag.ResolutionUnit)
    if unit is not None:
        tags["TIFFTAG_RESOLUTIONUNIT"] = _UNITS.get(unit, str(unit))
    tags.update((item.name, item.value) for item in items if item.sample is None and not item.domain)
    if isinstance(raster_type, int):
        tags["AREA_OR_POINT"] = "Point" if raster_type == 2 else "Area"  # noqa: PLR2004 -- RasterPixelIsPoint
    return tags


def _apply(band: BandMetadata, item: Item) -> None:
    if item.role == "scale":
        band.scale = _number(item)
    elif item.role == "offset":
        band.offset = _number(item)
    elif item.role == "unittype":
        band.unit = item.value
    elif item.role == "description":
        band.description = item.value
    elif item.role != "colorinterp" and not item.domain:
        band.tags[item.name] = item.value


def _number(item: Item) -> float:
    try:
        return float(item.value)
    except ValueError:
        what = f"{label(Tag.GDAL_METADATA)} has the {item.role} {item.value!r}, which is not a number"
        raise TiffError(what) from None


def read_ghost(reader: Reader, layout: ByteLayout, first: int) -> dict[str, str] | None:
    """Read the ghost area: keys and values, one per line."""
    start = 16 if layout.bigtiff else 8
    if start <= first < start + _GHOST_HEAD:
        return None
    head = reader.read(start, _GHOST_HEAD, "the ghost area")
    if head is None or not head.startswith(GHOST):
        return None
    digits = head[len(GHOST) :].partition(b" ")[0]
    if not digits.isdigit():
        raise TiffError("the ghost area states no length")
    area = reader.read(start + _GHOST_HEAD, int(digits), "the ghost area")
    pairs = (line.partition("=") for line in (area or b"").decode("latin-1").splitlines())
    return None if area is None else {key.strip(): value.strip() for key, is_pair, value in pairs if is_pair}
