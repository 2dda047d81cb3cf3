from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from tests.logins.login_world import client_for, get, profile_of
from tests.logins.services import DATA, PlanetApi, json_answer
from tests.net.memory import Answer
from tests.net.wire_server import WireServer
from tests.virtual_clock import VirtualClock

from stacpull.models import FailureKind
from stacpull.net.client import Client
from stacpull.net.transport import TransferError
from stacpull.redact import Secret
from stacpull_logins.activation import Activation


@dataclass
class World:
    clock: VirtualClock
    api: PlanetApi
    files: WireServer
    client: Client

    @property
    def url(self) -> str:
        return self.api.url("/data/v1/assets/QS1")


@asynccontextmanager
async def world(looks: int = 3) -> AsyncIterator[World]:
    clock = VirtualClock()
    async with WireServer({"/file": [Answer(body=DATA)]}) as files, PlanetApi(looks=looks) as api:
        api.files = files.url("/file")
        kind = Activation(path="/data/v1/assets/", user=Secret(api.key), every=10, patience=1800)
        async with client_for(profile_of(kind, api.url("")), clock) as client:
            yield World(clock, api, files, client)


async def test_the_status_is_polled_every_ten_seconds() -> None:
    async with world(looks=6) as w:
        assert await get(w.client, w.url, Range="bytes=0-99") == DATA
        assert w.clock.sleeps == [10] * 7
        targets = [one.target for one in w.api.requests]
        assert targets.count("/data/v1/assets/QS1/activate") == 1
        assert w.client.counters.requests == len(w.api.requests) + len(w.files.requests)
        assert all("range" not in one.headers for one in w.api.requests)
        (fetched,) = w.files.requests  # the file request has the range, but not the key
        assert fetched.headers["range"] == "bytes=0-99"
        assert "authorization" not in fetched.headers


INACTIVE = {"status": "inactive", "_links": {"activate": "https://evil.example/activate"}}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (json_answer(INACTIVE), FailureKind.HTTP),
        (json_answer({"status": "inactive"}), FailureKind.HTTP),
        (json_answer({"status": "inactive", "_links": []}), FailureKind.HTTP),
        (json_answer({"status": "active"}), FailureKind.HTTP),
        (json_answer({"status": "melted"}), FailureKind.HTTP),
        (Answer(200, b'{"x":' + b"[" * 9_000 + b"]" * 9_000 + b"}"), FailureKind.HTTP),
        (Answer(200, b"<html>"), FailureKind.HTTP),
        (Answer(404), FailureKind.GONE),
        (Answer(429, headers={"Retry-After": "1"}), FailureKind.THROTTLED),
        (json_answer({"status": "active", "location": "ftp://h/x"}), FailureKind.SCHEME),
    ],
)
async def test_an_invalid_description_is_a_failure(answer: Answer, kind: FailureKind) -> None:
    async with world() as w:
        w.api.respond = lambda *_: answer
        with pytest.raises(TransferError) as caught:
            await get(w.client, w.url)
        assert caught.value.failure.kind is kind
        assert w.clock.sleeps == []
        assert len(w.api.requests) == 1
