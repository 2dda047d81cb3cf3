from __future__ import annotations

import pytest

from stacpull_trace.hub.paths import Family, Paths, Service

BASE = "https://hub.example"


@pytest.mark.parametrize(
    ("service", "family", "url"),
    [
        (Service.STATISTICS, Family.API_FIRST, "/api/v1/statistics"),
        (Service.CATALOG, Family.API_FIRST, "/api/v1/catalog/1.0.0"),
        (Service.BYOC, Family.API_FIRST, "/api/v1/byoc"),
        (Service.STATISTICS, Family.VERSION_LAST, "/statistics/v1"),
        (Service.CATALOG, Family.VERSION_LAST, "/catalog/v1"),
        (Service.BYOC, Family.VERSION_LAST, "/byoc/v1"),
    ],
)
def test_where_a_service_is(service: Service, family: Family, url: str) -> None:
    assert Paths(BASE).url(service, family, "/x") == f"{BASE}{url}/x"


def test_what_is_known_is_known_for_each_service() -> None:
    paths = Paths(BASE)
    assert paths.candidates(Service.BYOC) == (Family.API_FIRST, Family.VERSION_LAST)
    paths.settle(Service.BYOC, Family.VERSION_LAST)
    paths.settle(Service.BYOC, Family.API_FIRST)  # another task's answer that came later
    assert paths.candidates(Service.BYOC) == (Family.VERSION_LAST,)
    assert paths.candidates(Service.CATALOG) == (Family.API_FIRST, Family.VERSION_LAST)
    assert repr(paths) == f"<Paths of {BASE}: byoc: /…/v1>"
