"""`--clip` for the core: the entry point `clip` of `stacpull.fetchers`.

Heavy libraries (shapely, pyproj, numpy) are imported only when there is something to clip.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, BinaryIO

from stacpull.digests import text_hash
from stacpull.errors import MissingExtraError
from stacpull.models import ClippedPart, Job, Json
from stacpull.transfer.attempt import Downloader, FileFetcher
from stacpull_raster.ranged import Sender
from stacpull_raster.tiff import TiffError, may_be_tiff, parse_file

if TYPE_CHECKING:
    from stacpull_raster.clip_fetcher import ClipFetcher

_START = 16 * 1024
_DETAIL = re.compile(r"[0-9]+|b'[^']*'")
"""The file-specific part of what is reported about a file."""
_MAX_KINDS = 20
"""The most kinds of problems that are reported."""
_NOT_OF_THE_PART = dict.fromkeys(("proj:geometry", "proj:centroid"))


class Clipping:
    """Fetches the tiles of rasters that are in an area (`engine.fetchers.ClipFetching`).

    Args:
        area: `Selection.clip`.

    Raises:
        UsageError: The text is not an area, or pyproj is not installed.
    """

    def __init__(self, area: str) -> None:
        if find_spec("pyproj") is None:
            raise MissingExtraError("--clip", "pyproj", "clip")
        from stacpull_raster.clip_area import ClipArea, clip_geometry  # noqa: PLC0415

        self._area = ClipArea(clip_geometry(area), text_hash(area))
        self._reported: set[str] = set()

    def may_clip(self, media_type: str | None, href: str) -> bool:
        """Return True if an asset may be a TIFF."""
        return may_be_tiff(media_type, href)

    async def size(self, client: Sender, href: str, media_type: str | None) -> tuple[int, int] | None:
        """Return the bytes of the clipped file and the requests for its tiles; None: it is fetched whole."""
        from stacpull_raster.clip_fetcher import clip_size  # noqa: PLC0415

        return await clip_size(client, href, media_type, self._area)

    def fetcher(
        self, downloader: Downloader, unclipped: FileFetcher, warn: Callable[[str], None]
    ) -> ClipFetcher:
        """Return the fetcher. It reports each kind of problem once."""
        from stacpull_raster.clip_fetcher import ClipFetcher  # noqa: PLC0415

        def report(job: Job, problem: str, details: str) -> None:
            kind = _DETAIL.sub("", details)
            if kind not in self._reported and len(self._reported) < _MAX_KINDS:
                self._reported.add(kind)
                warn(f"Some assets {problem}. The first is {job.directory}/{job.key}: {details}.")

        return ClipFetcher(downloader, unclipped, self._area, report=report)

    @staticmethod
    def clip_in(file: BinaryIO) -> ClippedPart | None:
        """Return the clip that an open file describes, None if it is not clipped."""
        start = file.read(_START)
        if b"STACPULL_CLIP=" not in start[:300]:
            return None
        from stacpull_raster.clipped_file import read_note  # noqa: PLC0415

        try:
            note, header = read_note(start), parse_file(file, start)
        except TiffError:
            return None
        bounds = header.bounds
        if note is None or header.transform is None or bounds is None:
            return None
        extent: Json = {
            "proj:code": f"EPSG:{header.epsg}",
            "proj:shape": [header.height, header.width],
            "proj:transform": list(header.transform),
            "proj:bbox": [*map(min, bounds[:2], bounds[2:]), *map(max, bounds[:2], bounds[2:])],
        }
        return ClippedPart(note.area_hash, note.source_size, {**_NOT_OF_THE_PART, **extent})
