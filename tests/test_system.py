from __future__ import annotations

import os

import pytest

from stacpull.child_process import python_environment


def test_a_worker_gets_no_credentials_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {
        "PATH": "/bin", "PYTHONPATH": "x", "LC_ALL": "C", "LD_LIBRARY_PATH": "/lib", "HOME": "/h",
        "AWS_SECRET_ACCESS_KEY": "s", "MLHUB_API_KEY": "k", "HTTPS_PROXY": "http://u:p@h", "MY_WORD": "w",
    }  # fmt: skip
    monkeypatch.setattr(os, "environ", environ)
    assert set(python_environment()) == {"PATH", "PYTHONPATH", "LC_ALL", "LD_LIBRARY_PATH", "HOME"}
