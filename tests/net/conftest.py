from __future__ import annotations

import pytest
from tests.net.certificates import certificate

pytest.register_assert_rewrite("tests.net.conformance", "tests.net.conformance_objects")

__all__ = ["certificate"]
