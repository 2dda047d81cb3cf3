"""A new provider of a known login kind is one file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.changed_copy import ChangedCopy, item_with
from tests.logins.test_adding_a_login import guarded
from tests.net.wire_server import WireServer

pytestmark = pytest.mark.behaviour

PROFILE = """
about = "A door that asks for a badge"

[login.door]
kind = "header"
hosts = ["{host}"]
name = "X-Badge"
value = "${{BADGE}}"
"""


def test_it_is_listed_checked_and_logs_in(tmp_path: Path) -> None:
    copy = ChangedCopy(tmp_path / "copy")
    with WireServer({"/a.bin": guarded}) as server:
        host = server.url("")
        copy.add("configs/providers/door.toml", PROFILE.format(host=host))
        assert copy.changed == {"configs/providers/door.toml": None}
        assert "A door that asks for a badge" in copy.output("credentials", "list")
        (tmp_path / "item.json").write_text(item_with({"a": {"href": f"{host}/a.bin"}}))
        arguments = ("--credentials", "door", "--allow-private-hosts", "--retries", "0")
        ran = copy.run("mirror", tmp_path / "item.json", tmp_path / "m", *arguments)
        assert (ran.returncode, "set BADGE" in ran.stderr) == (3, True)
        ran = copy.run("mirror", tmp_path / "item.json", tmp_path / "m", *arguments, BADGE="3-s3cr3t")
        assert ran.returncode == 0, ran.stderr
        assert [request.headers.get("x-badge") for request in server.requests] == ["3-s3cr3t"]
        assert (tmp_path / "m/c/i/a.bin").read_bytes() == b"open"
