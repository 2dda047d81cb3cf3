"""What holds for `HttpTransport` holds for `LeanTransport`: the same tests, with the other transport."""

from __future__ import annotations

import pytest
from tests.net import test_http
from tests.net.test_http import *  # noqa: F403 - all of its tests and fixtures
from tests.net.test_lean import lean


@pytest.fixture(autouse=True)
def other_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_http, "transport", lean)
