"""Everything that holds for `HttpTransport` holds for `LeanTransport`: the same tests, on the other transport."""

from __future__ import annotations

from typing import Any

import pytest
from tests.net import test_http
from tests.net.test_http import *  # noqa: F403 - all of its tests and fixtures

from stacpull.net.http import HttpTransport
from stacpull.net.lean import LeanTransport


def lean(**options: Any) -> LeanTransport:
    told: dict[str, Any] = {"policy": test_http.LOCAL, "stall_timeout": 0.3, "trust_env": False} | options
    return LeanTransport(fallback=HttpTransport(**told), **told)


@pytest.fixture(autouse=True)
def other_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_http, "transport", lean)
