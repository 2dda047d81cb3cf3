"""The client: what can be asked of Sentinel Hub, in typed questions and answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from stacpull.clock import Clock
from stacpull.config.sentinelhub import HubSettings
from stacpull.models import Json
from stacpull.net.retry import RetryPolicy
from stacpull.net.transport import Transport
from stacpull.trace.hub.request import StatisticsRequest
from stacpull.trace.hub.values import ByocTile, CatalogTile, Interval, StatisticsReply

__all__ = ["Hub", "open_hub"]


def open_hub(
    settings: HubSettings,
    transport: Transport,
    clock: Clock,
    *,
    policy: RetryPolicy | None = None,
    per_host: int = 8,
) -> AbstractAsyncContextManager[Hub]:
    """Open a client on `transport`, which is closed with it."""
    raise NotImplementedError


class Hub:
    """A client of one deployment. All its methods may be called by many tasks at once."""

    @property
    def processing_units(self) -> float:
        """What all replies so far cost, by what they said themselves."""
        raise NotImplementedError

    def search(
        self,
        collection: str,
        interval: Interval,
        *,
        bbox: tuple[float, float, float, float] | None = None,
        intersects: Json | None = None,
    ) -> AsyncIterator[CatalogTile]:
        """Yield the tiles of a collection in a period and an area (longitude, latitude), page by page."""
        raise NotImplementedError

    async def tile(self, collection: str, tile: str) -> ByocTile:
        """Return what is known of a tile of a collection of one's own."""
        raise NotImplementedError

    def tiles(self, collection: str) -> AsyncIterator[ByocTile]:
        """Yield all tiles of a collection of one's own."""
        raise NotImplementedError

    async def files(self, collection: str, tile: str) -> tuple[str, ...]:
        """Return the names of all files of a tile."""
        raise NotImplementedError

    async def statistics(self, request: StatisticsRequest) -> StatisticsReply:
        """Return the statistics of an area over a period."""
        raise NotImplementedError

    async def header(self, collection: str, tile: ByocTile, file: str) -> bytes:
        """Return the header of a file of a tile, by ranged reads."""
        raise NotImplementedError
