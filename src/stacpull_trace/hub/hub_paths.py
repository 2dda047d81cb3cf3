"""The paths of the services on a deployment, which has one or both of two families of paths.

The first answer other than 404 shows which family a service has; it is remembered. Until then, a 404 can mean
that the service has the other family, so that one is tried too. `/api/v1/…` comes first: sentinelhub-py 3.12
uses no other, so every deployment has it.
"""

from __future__ import annotations

import enum


class HubService(enum.Enum):
    """The services of a deployment."""

    STATISTICS = "statistics"
    CATALOG = "catalog"
    BYOC = "byoc"


class Family(enum.Enum):
    """A layout of the paths of all services."""

    API_FIRST = "/api/v1/…"
    VERSION_LAST = "/…/v1"


_PREFIXES = {
    (Family.API_FIRST, HubService.STATISTICS): "/api/v1/statistics",
    (Family.API_FIRST, HubService.CATALOG): "/api/v1/catalog/1.0.0",
    (Family.API_FIRST, HubService.BYOC): "/api/v1/byoc",
    (Family.VERSION_LAST, HubService.STATISTICS): "/statistics/v1",
    (Family.VERSION_LAST, HubService.CATALOG): "/catalog/v1",
    (Family.VERSION_LAST, HubService.BYOC): "/byoc/v1",
}


class Paths:
    """The known paths of one deployment."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._settled: dict[HubService, Family] = {}

    def __repr__(self) -> str:
        known = ", ".join(f"{service.value}: {family.value}" for service, family in self._settled.items())
        return f"<Paths of {self._base_url}: {known or 'none known yet'}>"

    def candidates(self, service: HubService) -> tuple[Family, ...]:
        """Return the families to try, in order: only one when it is known."""
        known = self._settled.get(service)
        return tuple(Family) if known is None else (known,)

    def settle(self, service: HubService, family: Family) -> None:
        """Record that `service` answers under `family`."""
        self._settled.setdefault(service, family)

    def url(self, service: HubService, family: Family, rest: str = "") -> str:
        return self._base_url + _PREFIXES[family, service] + rest
