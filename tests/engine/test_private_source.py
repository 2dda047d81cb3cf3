"""Which private addresses a run may connect to: those of the hosts that the user chose, and no others.

Names resolve as a test defines. 127.0.0.1, where the test's servers are, stands for a public address where a
test defines it; 127.0.0.2 and the like for private ones.
"""

import asyncio
import copy
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.events import stopping_at
from tests.net.memory import Answer
from tests.net.names import Names, watched_connections
from tests.net.wire_server import WireServer
from tests.security.sources import Source, feature, json_answer

from stacpull import StacpullError, failures, mirror, resume
from stacpull.config.options import Options, S3Options
from stacpull.engine.network import open_network, resolve_source
from stacpull.events import RunStarted
from stacpull.models import FailureKind
from stacpull.net import addresses
from stacpull.net.addresses import AddressPolicy, AddressRefusedError
from stacpull.net.transport import Request, TransferError

pytestmark = pytest.mark.usefixtures("threaded_store")

FAR = "127.0.0.1"  # public, where `far` is used
INSIDE, OTHER = "127.0.0.2", "127.0.0.3"


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have 127.0.0.1 count as a public address."""
    judged = addresses.not_public_reason

    def not_public_reason(address: str) -> str | None:
        return None if address == FAR else judged(address)

    monkeypatch.setattr(addresses, "not_public_reason", not_public_reason)


def tried(connections: list[Any]) -> set[str]:
    return {str(address[0]) for address in connections}


async def addresses_tried(
    source: str, names: dict[str, list[list[str]]], target: str, **options: Any
) -> list[str]:
    """Return the addresses that a run on `source` tries for `target`, after one request to SOURCE."""
    Names(**names)
    given, address = resolve_source(source, Options(retries=0, **options))
    async with open_network(address, given) as network:
        for url in (source, target):
            with watched_connections() as found, suppress(TransferError):
                async with network.client.stream(Request(url)):
                    pass
        return sorted(tried(found))


@pytest.mark.parametrize(
    ("source", "names", "target", "expected"),
    [
        ("http://127.0.0.2:1/", {}, "http://127.0.0.2:2/x", [INSIDE]),
        ("http://127.0.0.2:1/", {}, "http://[::ffff:127.0.0.2]:2/x", ["::ffff:127.0.0.2"]),
        ("http://127.0.0.2:1/", {}, "http://127.0.0.3:1/x", []),
        ("http://127.0.0.2:1/", {}, "http://10.0.0.1:1/x", []),
        ("http://localhost:1/", {}, "http://127.0.0.1:2/x", ["127.0.0.1"]),
        ("http://localhost:1/", {}, "http://127.0.0.2:2/x", []),
        ("http://127.0.0.2:1/", {"a_lan": [[INSIDE]]}, "http://a.lan:2/x", [INSIDE]),
        ("http://127.0.0.2:1/", {"a_lan": [[OTHER]]}, "http://a.lan:2/x", []),
    ],
)  # fmt: skip
async def test_a_private_source_allows_only_its_own_address(source, names, target, expected):
    assert await addresses_tried(source, names, target) == expected
    names, endpoint = {"gone_invalid": [[]], **names}, S3Options(endpoint_url=source)
    assert await addresses_tried("http://gone.invalid/", names, target, s3=endpoint) == expected


@pytest.mark.parametrize("answer", [[INSIDE], [INSIDE, OTHER], ["169.254.1.1", INSIDE]])
async def test_a_name_opens_the_address_that_was_connected_to(answer: list[str]) -> None:
    server = await asyncio.start_server(lambda _r, w: w.close(), INSIDE, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        Names(src_lan=[answer])
        given, address = resolve_source(f"http://src.lan:{port}/", Options(retries=0))
        found: set[str] = set()
        async with open_network(address, given) as network:
            for url in (address.url, f"http://{INSIDE}:1/", f"http://{OTHER}:1/"):
                with watched_connections() as connections, suppress(TransferError):
                    async with network.client.stream(Request(url)):
                        pass
                found |= tried(connections) if url != address.url else set()
    assert found == {INSIDE}


@pytest.mark.parametrize("answers", [[[FAR], [INSIDE]], [[FAR, INSIDE], [INSIDE]], [[INSIDE, FAR], [INSIDE]]])
@pytest.mark.usefixtures("far")
async def test_a_public_source_that_turns_private(tmp_path: Path, answers: list[list[str]]) -> None:
    """Whoever owns a public name owns its lookups: none of them opens the network inside."""
    async with Source(others=lambda _: Answer(body=b"data"), name="far.example") as source:
        Names(far_example=answers)
        elsewhere = f"http://far.example:{source.port + 1}/x"  # another place: it is looked up again
        hrefs = {"near": source.url("/x"), "rebound": elsewhere, "literal": f"http://{INSIDE}:1/x"}
        source.features = [feature("i", hrefs)]
        with watched_connections() as connections:
            await mirror(source.api, tmp_path / "m", options=Options(retries=0))
        assert tried(connections) == {FAR}
    failed = await asyncio.to_thread(lambda: [*failures(tmp_path / "m")])
    assert {one.key for one in failed} >= {"literal", "rebound"}  # the fast path looks `near` up once more
    assert {one.kind for one in failed} <= {FailureKind.ADDRESS, FailureKind.NETWORK}


@pytest.mark.usefixtures("far")
async def test_a_source_first_at_a_private_address_is_never_requested_at_a_public_one(tmp_path: Path) -> None:
    """Else its owner would be let in by one answer, and speak by the next."""
    async with Source(others=lambda _: Answer(body=b"data"), name="far.example") as source:
        Names(far_example=[[INSIDE], [FAR]])
        source.features = [feature("i", {"literal": f"http://{INSIDE}:1/x"})]
        with watched_connections() as connections, pytest.raises(StacpullError):
            await mirror(source.api, tmp_path / "m", options=Options(retries=1))
        connected, requests = tried(connections), len(source.requests)
    assert connected <= {INSIDE}
    assert requests == 0


def test_a_worker_process_uses_what_the_first_process_learned() -> None:
    policy = AddressPolicy(chosen=["src.lan"])
    assert policy.allowed("src.lan", [INSIDE]) == [INSIDE]
    policy.connected("src.lan", INSIDE)
    again = copy.deepcopy(policy)  # the way of a pickle
    assert again.allowed("other.lan", [INSIDE, OTHER]) == [INSIDE]
    with pytest.raises(AddressRefusedError):
        again.allowed("src.lan", [OTHER, "8.8.8.8"])


async def interrupted(source: Source, dest: Path, **options: Any) -> None:
    with suppress(StacpullError):
        await mirror(source.api, dest, options=Options(**options), **stopping_at(RunStarted))


@pytest.mark.parametrize(
    ("name", "options", "resumed"),
    [
        ("127.0.0.1", {}, True),
        ("localhost", {}, True),
        ("src.lan", {}, False),
        ("src.lan", {"allow_private_hosts": True}, True),
    ],
)
async def test_a_private_source_is_resumed_by_address_or_with_the_option(tmp_path, name, options, resumed):
    """An address in the ledger is the user's; a name may now lead anywhere: the option is required."""
    async with Source(others=lambda _: Answer(body=b"data"), name=name) as source:
        Names(src_lan=[["127.0.0.1"]], localhost=[["127.0.0.1"]])
        source.features = [feature("i", {"a": source.url("/a")})]
        await interrupted(source, tmp_path / "m")
        requests = len(source.requests)
        resuming = resume(tmp_path / "m", options=Options(retries=0, **options))
        if resumed:
            report = await resuming
            assert report is not None
            assert report.state == "complete"
            return
        with watched_connections() as connections, pytest.raises(StacpullError) as caught:
            await resuming
        assert (len(source.requests), connections) == (requests, [])
        assert "--allow-private-hosts" in str(caught.value)


def page() -> Callable[[Request], Answer]:
    return lambda _: json_answer({"type": "FeatureCollection", "features": [feature("i", {})], "links": []})


async def test_a_page_cannot_post_to_another_host_or_set_header_fields(tmp_path: Path) -> None:
    sent = {"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": "60", "Metadata-Flavor": "Google", "X-Auth": "me",
            "Search-After": "LC08", "Accept-Language": "de"}  # fmt: skip
    async with WireServer({"/admin": page(), "/collections/c/items": page()}) as other, Source() as source:
        link = {"href": other.url("/admin"), "method": "POST", "headers": sent, "body": {"drop": "all"}}
        source.links = [{"rel": "next", **link}]  # type: ignore[dict-item]
        source.features = [feature("i", {})]
        with pytest.raises(StacpullError, match=f"{source.port}/admin could not be read"):
            await mirror(source.api, tmp_path / "m", options=Options(retries=0))
        first = list(source.requests)
        source.links = [{"rel": "next", "href": source.url("/collections/c/items?p=2"), "headers": sent}]  # type: ignore[dict-item]
        await mirror(source.api, tmp_path / "n", options=Options(retries=0))
        source.requests = source.requests[len(first) :]
    assert [request.method for request in other.requests if request.method == "POST"] == []
    followed = next(request for request in source.requests if "p=2" in request.target)
    assert followed.headers["search-after"] == "LC08"
    assert followed.headers["accept-language"] == "de"
    assert not {"x-aws-ec2-metadata-token-ttl-seconds", "metadata-flavor", "x-auth"} & set(followed.headers)
