"""The same objects on real servers, over the lean transport."""

from __future__ import annotations

import pytest
from tests.net import test_conformance_objects as over_http
from tests.net.test_lean import lean
from tests.servers import test_conformance as over_aiohttp


@pytest.fixture(autouse=True)
def other_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_http, "transport", lean)


class TestRadosgwOverLean(over_aiohttp.TestRadosgw):
    pass


class TestMotoOverLean(over_aiohttp.TestMoto):
    pass


class TestNginxOverLean(over_aiohttp.TestNginx):
    pass
