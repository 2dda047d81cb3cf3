"""A new provider of a known login kind is one file; a new kind needs a module and an entry point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.changed_copy import ChangedCopy, item_with
from tests.net.memory import Answer
from tests.net.wire_server import WireServer

pytestmark = pytest.mark.behaviour

MODULE = '''"""`kind = "badge"`: the number of a badge in a header field of every request."""

from collections.abc import Mapping

import attrs

from stacpull.arguments import named, whole
from stacpull_logins.logins import LoginKind, login_key
from stacpull.redact import Secret


@attrs.frozen(field_transformer=named)
class Badge(LoginKind):
    """A badge."""

    pin: Secret = login_key(secret=True)
    floor: int = login_key(default=1, read=whole(0))

    @property
    def headers(self) -> Mapping[str, Secret]:
        """The header field."""
        return {"X-Badge": Secret(f"{self.floor}-{self.pin.reveal()}")}
'''
PROFILE = '[login.door]\nkind = "badge"\nhosts = ["{host}"]\npin = "${{PIN}}"\nfloor = 3\n'


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> ChangedCopy:
    """A copy of the package beside a distribution with a kind of login."""
    copy = ChangedCopy(tmp_path_factory.mktemp("copy"))
    copy.add("../badge.py", MODULE)
    copy.add("../badge-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: badge\nVersion: 1.0\n")
    copy.add("../badge-1.0.dist-info/entry_points.txt", "[stacpull.logins]\nbadge = badge:Badge\n")
    return copy


def guarded(request: Any) -> Answer:
    is_right = request.headers.get("x-badge") == "3-s3cr3t"
    return Answer(body=b"open") if is_right else Answer(401, b"no")


def test_a_profile_of_the_kind_logs_in(copy: ChangedCopy, tmp_path: Path) -> None:
    with WireServer({"/a.bin": guarded}) as server:
        (tmp_path / "p.toml").write_text(PROFILE.format(host=server.url("")))
        (tmp_path / "item.json").write_text(item_with({"a": {"href": server.url("/a.bin")}}))
        arguments = [
            str(tmp_path / "item.json"), str(tmp_path / "m"), "--credentials", str(tmp_path / "p.toml"),
            "--allow-private-hosts", "--retries", "0",
        ]  # fmt: skip
        ran = copy.run("mirror", *arguments, PIN="s3cr3t")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert [request.headers.get("x-badge") for request in server.requests] == ["3-s3cr3t"]
        assert (tmp_path / "m/c/i/a.bin").read_bytes() == b"open"
        assert "s3cr3t" not in ran.stdout + ran.stderr


PROVIDER = """
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
        copy.add("configs/providers/door.toml", PROVIDER.format(host=host))
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
