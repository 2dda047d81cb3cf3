"""What holds for objects over `HttpTransport` holds over `LeanTransport`, which the product uses for them."""

from __future__ import annotations

import pytest
from tests.net import test_conformance_objects as over_http
from tests.net.test_lean import lean


@pytest.fixture(autouse=True)
def other_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_http, "transport", lean)


class TestLean(over_http.TestHttp):
    pass


class TestS3OverLean(over_http.TestS3):
    pass


class TestAzureOverLean(over_http.TestAzure):
    pass


class TestAzureAsOldAccountsSpeakOverLean(over_http.TestAzureAsOldAccountsSpeak):
    pass
