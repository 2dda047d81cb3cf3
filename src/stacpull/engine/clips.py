"""`--clip` in a run: the area for the fetcher, and the clip that a received file describes.

The file itself states whether it is clipped, so that only the file has to survive a kill
(`store.complete_parts`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, BinaryIO

from stacpull.digests import text_digest
from stacpull.errors import UsageError
from stacpull.models import Clip

if TYPE_CHECKING:
    from stacpull.tiff.clip_area import ClipArea  # heavy: shapely, pyproj

_START = 16 * 1024


def clip_area(text: str | None) -> ClipArea | None:
    """Return the area of `Selection.clip`, None if there is none.

    Raises:
        UsageError: The text is not an area, or pyproj is not installed.
    """
    if text is None:
        return None
    if find_spec("pyproj") is None:
        raise UsageError("--clip needs pyproj, which is not installed: pip install 'stacpull[clip]'")
    from stacpull.filters.places import clip_geometry  # noqa: PLC0415 -- rarely needed
    from stacpull.tiff.clip_area import ClipArea  # noqa: PLC0415 -- heavy: shapely, pyproj

    return ClipArea(clip_geometry(text), text_digest(text))


def clip_in(opened: Callable[[], BinaryIO]) -> Clip | None:
    """Return the clip that a file describes, None if it is not clipped.

    Args:
        opened: Opens the file; it may raise OSError.
    """
    from stacpull.tiff import TiffError  # noqa: PLC0415 -- seldom needed

    try:
        with opened() as file:
            start = file.read(_START)
            return _clip(file, start) if b"STACPULL_CLIP=" in start[:300] else None
    except (OSError, TiffError):
        return None


def _clip(file: BinaryIO, start: bytes) -> Clip | None:
    from stacpull.tiff import parse_file  # noqa: PLC0415 -- seldom needed
    from stacpull.tiff.clipped_file import read_note  # noqa: PLC0415 -- heavy: shapely, numpy

    note, header = read_note(start), parse_file(file, start)
    if note is None or header.transform is None:
        return None
    return Clip(note.area, note.source_size, (header.height, header.width), tuple(header.transform))
