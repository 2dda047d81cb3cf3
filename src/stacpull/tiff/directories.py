"""The chain of image file directories, with the bytes of every field that a header is read from.

TIFF 6.0, section 2; BigTIFF: 8 bytes for offsets and counts. Every count and offset is checked
before it is followed: against the end of the file, the limits on bytes and directories, and for loops.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from stacpull.tiff.segments import Reader, TiffError
from stacpull.tiff.tags import (
    ARRAYS,
    OF_A_FURTHER_IMAGE,
    OF_A_SUB_IMAGE,
    OF_BLOCKS,
    OF_THE_FIRST_IMAGE,
    ByteLayout,
    Tag,
    TagField,
    decode_integers,
    decode_numbers,
    decode_text,
    decode_unsigned,
    label,
)

FIRST_READ = 16 * 1024
"""Bytes to request from an unknown file: most headers are within them (COG: IFDs before data)."""
MOST_DIRECTORIES = 256
_AHEAD = 4096
"""Values usually follow their directory, and overviews the image, so they are requested together."""
_MAGIC = {b"II*\0": ByteLayout("<", False), b"MM\0*": ByteLayout(">", False)}
_MAGIC_BIG = {b"II+\0\x08\0\0\0": ByteLayout("<", True), b"MM\0+\0\x08\0\0": ByteLayout(">", True)}
ENTRIES = {
    ByteLayout(order, bigtiff): struct.Struct(f"{order}HH{'Q8s' if bigtiff else 'I4s'}")
    for order in "<>"
    for bigtiff in (False, True)
}
"""One entry: tag, type, number of values, and the values or where they are."""


class Directory(NamedTuple):
    """One image file directory with the values read of it.

    Attributes:
        layout: Of the file.
        offset: Where it begins.
        sub: Tag 330 of another directory lists it.
        fields: By tag: those a header is read from, and those of the blocks.
        values: Bytes of their values by tag; lists of blocks only where the directory itself holds them, or
            where they were requested.
    """

    layout: ByteLayout
    offset: int
    sub: bool
    fields: Mapping[int, TagField]
    values: Mapping[int, bytes]

    def integers(self, tag: Tag) -> tuple[int, ...]:
        """Return whole numbers, none if the tag is missing.

        Raises:
            TiffError: It has another type.
        """
        data = self.values.get(tag)
        return decode_integers(self.layout.order, self.fields[tag], data) if data is not None else ()

    def unsigned(self, tag: Tag, most: int) -> tuple[int, ...]:
        """Return whole numbers without a sign, `most` of them at most, none if the tag is missing.

        Raises:
            TiffError: It has another type.
        """
        data = self.values.get(tag)
        if data is None:
            return ()
        field = self.fields[tag]
        return decode_unsigned(self.layout.order, field, data[: field.size(most)])

    def integer(self, tag: Tag) -> int | None:
        """Return the first of the whole numbers, None if the tag is missing.

        Raises:
            TiffError: It has another type, or no value.
        """
        data = self.values.get(tag)
        if data is None:
            return None
        found = decode_integers(self.layout.order, self.fields[tag], data)
        if not found:
            raise TiffError(f"{label(tag)} has no value")
        return found[0]

    def numbers(self, tag: Tag) -> tuple[float, ...]:
        """Return numbers of any type, none if the tag is missing.

        Raises:
            TiffError: It has another type.
        """
        data = self.values.get(tag)
        return decode_numbers(self.layout.order, self.fields[tag], data) if data is not None else ()

    def text(self, tag: Tag) -> str | None:
        """Return a text, None if the tag is missing.

        Raises:
            TiffError: It has another type.
        """
        data = self.values.get(tag)
        return decode_text(self.fields[tag], data) if data is not None else None


def read_start(reader: Reader) -> tuple[ByteLayout, int] | None:
    """Read byte order, width of offsets and the first directory's offset; None if bytes are missing.

    Raises:
        TiffError: The file is not a TIFF.
    """
    head = reader.take(0, 8, "the TIFF header", ahead=FIRST_READ - 8)
    if head is None:
        return None
    layout = _MAGIC.get(head[:4])
    if layout is not None:
        return layout, layout.unsigned(head[4:])
    layout = _MAGIC_BIG.get(head)
    if layout is None:
        raise TiffError(f"the file is not a TIFF: it begins with {head[:4]!r}")
    first = reader.take(8, 8, "the BigTIFF header", ahead=FIRST_READ - 16)
    return None if first is None else (layout, layout.unsigned(first))


def read_directories(
    reader: Reader, layout: ByteLayout, first: int, *, tiles: bool = False
) -> list[Directory]:
    """Read the chain from the directory at `first`, with the SubIFDs of each, as far as the bytes are known.

    Args:
        reader: Gives the bytes.
        layout: Of the file.
        first: Where the first directory begins.
        tiles: True to read the lists of tiles or strips of the first image too.

    Raises:
        TiffError: A loop, too many directories, a value past the end of the file, or too many bytes.
    """
    found: list[Directory] = []
    seen: set[int] = set()
    offset: int | None = first
    while offset:
        _visit(offset, seen)
        main = not found
        directory, offset = _read_directory(reader, layout, offset, main=main, tiles=tiles and main)
        if directory is None:
            break
        found.append(directory)
        found.extend(_read_subdirectories(reader, directory, seen))
    if not seen:
        raise TiffError("the file has no image: the offset of its first directory is 0")
    return found


def _visit(offset: int, seen: set[int]) -> None:
    if offset in seen:
        raise TiffError(f"the directory at byte {offset} is listed twice: the directories form a loop")
    seen.add(offset)
    if len(seen) > MOST_DIRECTORIES:
        raise TiffError(f"the file has more than {MOST_DIRECTORIES} directories")


def _read_subdirectories(reader: Reader, parent: Directory, seen: set[int]) -> Iterator[Directory]:
    """Read the directories that tag 330 names; a chain that starts at one of them is not followed."""
    for offset in parent.integers(Tag.SubIFDs):
        _visit(offset, seen)
        directory, _ = _read_directory(reader, parent.layout, offset, main=False, sub=True)
        if directory is not None:
            yield directory


def _read_directory(
    reader: Reader, layout: ByteLayout, offset: int, *, main: bool, sub: bool = False, tiles: bool = False
) -> tuple[Directory | None, int | None]:
    """Read a directory and the offset of the next one; None if bytes are missing."""
    width = 8 if layout.bigtiff else 2
    counted = reader.take(offset, width, "the directory", ahead=_AHEAD, rest=True)
    if counted is None:
        return None, None
    count, entry = layout.unsigned(counted), ENTRIES[layout]
    if not count:
        raise TiffError(f"the directory at byte {offset} has no fields")
    size = width + count * entry.size + layout.offset_size
    whole = reader.take(offset, size, "the directory", ahead=_AHEAD, rest=True)
    if whole is None:
        return None, None
    body, following = whole[width : -layout.offset_size], whole[-layout.offset_size :]
    wanted = OF_THE_FIRST_IMAGE if main else OF_A_SUB_IMAGE if sub else OF_A_FURTHER_IMAGE
    listed: dict[int, TagField] = {}
    for tag, kind, claimed, cell in entry.iter_unpack(body):
        if tag in wanted and tag not in listed:  # a second one is ignored, as by libtiff
            listed[tag] = TagField(tag, kind, claimed, cell)
    values = dict(_read_values(reader, layout, listed, tiles=tiles))
    return Directory(layout, offset, sub, listed, values), layout.unsigned(following)


def _read_values(
    reader: Reader, layout: ByteLayout, listed: Mapping[int, TagField], *, tiles: bool
) -> Iterator[tuple[int, bytes]]:
    for tag, field in listed.items():
        count = field.claimed if tag in ARRAYS or tag in OF_BLOCKS else min(field.claimed, 1)
        size = field.size(count)
        if field.size(field.claimed) <= layout.offset_size:
            yield tag, field.cell[:size]
        elif tiles or tag not in OF_BLOCKS:
            data = reader.take(layout.unsigned(field.cell), size, label(tag))
            if data is not None:
                yield tag, data
