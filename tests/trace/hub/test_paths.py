from __future__ import annotations

import pytest

from stacpull_trace.hub.hub_paths import Family, HubService, Paths

BASE = "https://hub.example"


@pytest.mark.parametrize(
    ("service", "family", "url"),
    [
        (HubService.STATISTICS, Family.API_FIRST, "/api/v1/statistics"),
        (HubService.CATALOG, Family.API_FIRST, "/api/v1/catalog/1.0.0"),
        (HubService.BYOC, Family.API_FIRST, "/api/v1/byoc"),
        (HubService.STATISTICS, Family.VERSION_LAST, "/statistics/v1"),
        (HubService.CATALOG, Family.VERSION_LAST, "/catalog/v1"),
        (HubService.BYOC, Family.VERSION_LAST, "/byoc/v1"),
    ],
)
def test_the_paths_of_a_service(service: HubService, family: Family, url: str) -> None:
    assert Paths(BASE).url(service, family, "/x") == f"{BASE}{url}/x"


def test_the_family_is_remembered_for_each_service() -> None:
    paths = Paths(BASE)
    assert paths.candidates(HubService.BYOC) == (Family.API_FIRST, Family.VERSION_LAST)
    paths.settle(HubService.BYOC, Family.VERSION_LAST)
    paths.settle(HubService.BYOC, Family.API_FIRST)  # a later response to another task
    assert paths.candidates(HubService.BYOC) == (Family.VERSION_LAST,)
    assert paths.candidates(HubService.CATALOG) == (Family.API_FIRST, Family.VERSION_LAST)
    assert repr(paths) == f"<Paths of {BASE}: byoc: /…/v1>"
