from __future__ import annotations

import os

import pytest

from stacpull.child_process import python_environment
from stacpull.system import take_over


def test_a_worker_gets_no_credentials_from_the_environment() -> None:
    environ = {
        "PATH": "/bin", "PYTHONPATH": "x", "LC_ALL": "C", "LD_LIBRARY_PATH": "/lib", "HOME": "/h",
        "AWS_SECRET_ACCESS_KEY": "s", "MLHUB_API_KEY": "k", "HTTPS_PROXY": "http://u:p@h", "MY_WORD": "w",
    }  # fmt: skip
    assert set(python_environment(environ)) == {"PATH", "PYTHONPATH", "LC_ALL", "LD_LIBRARY_PATH", "HOME"}


def test_the_environment_is_replaced_completely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environb", {b"OLD": b"1"})
    take_over({b"NEW": b"2\xe9"})
    assert os.environb == {b"NEW": b"2\xe9"}
