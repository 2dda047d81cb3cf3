"""Keys go to the host that they were given for, also if DEST has several sources."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.command import environment, run
from tests.items import feature
from tests.net.memory import Answer
from tests.net.wire_server import ReceivedRequest, WireServer

KEY = "Bearer for-a-only"


class Host(WireServer):
    """An API of one item with one asset, which fails while `is_down`."""

    def __init__(self, name: str) -> None:
        super().__init__({})
        self.name = name
        self.is_down = True

    def _turn(self, request: ReceivedRequest) -> Answer:
        if request.target == "/data":
            return Answer(500 if self.is_down else 200, b"data")
        item = feature(self.name, {"data": self.url("/data")}, collection=self.name)
        return Answer(200, json.dumps(item).encode(), {"Content-Type": "application/json"})

    def keys(self) -> set[str | None]:
        """Return the keys of the requests since the last call."""
        keys = {request.headers.get("authorization") for request in self.requests}
        self.requests.clear()
        return keys


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    with Host("a") as first, Host("b") as second:
        yield first, second


def test_a_retry_and_a_repair_do_not_send_the_key_of_another_source(hosts, tmp_path: Path) -> None:
    first, second = hosts
    config = tmp_path / "a.toml"
    config.write_text(f'source = "{first.url("/a.json")}"\nheader = "Authorization: {KEY}"\n')
    dest = str(tmp_path / "m")
    once = ["--retries", "0"]
    with_header = [*once, "--header", f"Authorization: {KEY}"]
    run(["mirror", "--config", str(config), first.url("/a.json"), dest, *once], environment())
    run(["mirror", second.url("/b.json"), dest, *once], environment())
    assert (first.keys(), second.keys()) == ({KEY}, {None})
    for given, why in (
        (["--config", str(config), *once], "The config has credentials for 127.0.0.1:"),
        (with_header, "/b.json. The credentials are for http://127.0.0.1:"),
    ):
        refused = run(["retry", dest, *given], environment())
        assert (refused.code, why in refused.err, second.keys()) == (2, True, set()), refused.err
    second.is_down = False
    assert run(["retry", dest, *once], environment()).code == 1  # the asset of `a` is still missing
    assert second.keys() == {None}
    first.is_down = False
    assert run(["retry", dest, *with_header], environment()).code == 0
    assert (first.keys(), second.keys()) == ({KEY}, set())
    shutil.rmtree(tmp_path / "m/b")
    repaired = run(["verify", dest, "--repair", *with_header], environment())
    assert (repaired.code, second.keys()) == (2, set())
    assert run(["verify", dest, "--repair"], environment()).code == 0
