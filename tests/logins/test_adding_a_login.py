"""A new kind of login needs a module and an entry point. A copy of the code proves it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.changed_copy import ChangedCopy, item_with
from tests.serving import serving

MODULE = '''"""`kind = "badge"`: the number of a badge in a header field of every request."""

from collections.abc import Mapping

import attrs

from stacpull.arguments import named, whole
from stacpull_logins.logins import Fixed, login_key
from stacpull.redact import Secret


@attrs.frozen(field_transformer=named)
class Badge(Fixed):
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


@contextmanager
def guarded() -> Iterator[tuple[str, list[str | None]]]:
    """Serve a file to requests with the right badge. Yield the address and the received badges."""
    shown: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers.get("X-Badge"))
            body = b"open" if shown[-1] == "3-s3cr3t" else b"no"
            self.send_response(200 if body == b"open" else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url, shown


def test_a_profile_of_the_kind_logs_in(copy: ChangedCopy, tmp_path: Path) -> None:
    with guarded() as (host, shown):
        (tmp_path / "p.toml").write_text(PROFILE.format(host=host))
        (tmp_path / "item.json").write_text(item_with({"a": {"href": f"{host}/a.bin"}}))
        arguments = [
            str(tmp_path / "item.json"), str(tmp_path / "m"), "--credentials", str(tmp_path / "p.toml"),
            "--allow-private-hosts", "--retries", "0",
        ]  # fmt: skip
        ran = copy.run("mirror", *arguments, PIN="s3cr3t")
        assert (ran.returncode, shown) == (0, ["3-s3cr3t"]), ran.stdout + ran.stderr
        assert (tmp_path / "m/c/i/a.bin").read_bytes() == b"open"
        assert "s3cr3t" not in ran.stdout + ran.stderr
