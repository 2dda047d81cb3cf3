"""`--clip` as the core sees it: an entry point of `stacpull.fetchers` that fetches a part of some assets.

The ledger keeps a `models.Clip` for each of them. A file itself states whether it is clipped, so that only
the file has to survive a kill (`store.part_files`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Protocol

from stacpull.entry_points import load, require
from stacpull.models import Arrival, Clip, Job
from stacpull.net.client import Client
from stacpull.store.parts import FileParts
from stacpull.transfer.attempt import AssetFetcher, Fetcher


class PartialFetching(Protocol):
    """Fetches the part of an asset that is in an area. Its factory is registered as `clip`."""

    def may_clip(self, media_type: str | None, href: str) -> bool: ...

    async def size(self, client: Client, href: str, media_type: str | None) -> tuple[int, int] | None:
        """Return the bytes and requests of the part of an asset, None if it would be fetched whole.

        Raises `TransferError` if its header cannot be read.
        """
        ...

    def fetcher(
        self,
        fetcher: Fetcher,
        whole: AssetFetcher[Job, Arrival | None],
        parts: FileParts,
        warn: Callable[[str], None],
    ) -> AssetFetcher[Job, Arrival | None]:
        """Return what makes an attempt at the part of an asset; `whole` fetches what cannot be clipped."""
        ...


def clipping(area: str | None) -> PartialFetching | None:
    if area is None:
        return None
    made: PartialFetching = require("stacpull.fetchers", "clip", "--clip")(area)
    return made


def clip_in(opened: Callable[[], BinaryIO]) -> Clip | None:
    """Return the clip that a file describes, None if it is not clipped or there is no package for it."""
    kind = load("stacpull.fetchers", "clip")
    try:
        with opened() as file:
            clip: Clip | None = None if kind is None else kind.clip_in(file)
            return clip
    except OSError:
        return None
