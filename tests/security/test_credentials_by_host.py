"""Credentials of every kind through a source that leads everywhere: to their own host, and to no other.

Another port is another host, another name of the same machine too. A source that writes the caller's key into
links, hrefs and Locations (MLHub did) does not make it reach anybody else.
"""

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.net.memory import Answer
from tests.net.wire_server import ReceivedRequest, WireServer, text_of
from tests.security.secrets import found_in, found_under
from tests.security.sources import Source, feature, json_answer, mirrored

from stacpull import MirrorReport, Options, S3Options, Secret, mirror
from stacpull.net.transport import Request
from stacpull.sync import failures

KEY = "planted-key/with+odd=characters&more"
ENCODED = quote(KEY, safe="")
UNUSUAL = "".join(f"%{ord(character):02x}" for character in KEY)
S3_KEY, S3_SECRET = "AKIAPLANTED0PLANTED0", "plantedS3/secret+thatnobodysees0123456789"
S3_TOKEN = "planted-session-token/FwoGZXIvYXdzE=="


@dataclass(frozen=True)
class Form:
    """A way to give the key: what to put into SOURCE, what into the options, and how it then arrives."""

    source: Callable[[str], str]
    options: Mapping[str, Any]
    arrives: Callable[[ReceivedRequest], bool]


def basic(request: ReceivedRequest) -> bool:
    wanted = base64.b64encode(f"me:{KEY}".encode()).decode()
    return request.headers.get("authorization") == f"Basic {wanted}"


FORMS = {
    "bearer": Form(
        lambda url: url,
        {"headers": {"Authorization": Secret(f"Bearer {KEY}")}},
        lambda request: request.headers.get("authorization") == f"Bearer {KEY}",
    ),
    "header": Form(
        lambda url: url,
        {"headers": {"X-API-Key": Secret(KEY)}},
        lambda request: request.headers.get("x-api-key") == KEY,
    ),
    "query": Form(
        lambda url: url, {"query": {"key": Secret(KEY)}}, lambda requests: f"key={ENCODED}" in requests.target
    ),
    "in SOURCE": Form(
        lambda url: f"{url}?key={ENCODED}", {}, lambda requests: f"key={ENCODED}" in requests.target
    ),
    "user and password": Form(lambda url: url.replace("://", f"://me:{ENCODED}@"), {}, basic),
}


@dataclass
class World:
    report: MirrorReport
    source: list[ReceivedRequest]
    other: list[ReceivedRequest]
    s3: list[ReceivedRequest]


def answer(other: WireServer, source: Source) -> Callable[[Request], Answer]:
    places = {
        "/own": None,
        "/to-port": f"{other.url('/blob')}?key={ENCODED}&sig=x",
        "/to-port-path": other.url(f"/{ENCODED}/blob"),
        "/to-port-odd-path": other.url(f"/{UNUSUAL}/blob"),
        "/to-port-bare": f"{other.url('/blob')}?token={KEY.replace('&', '%26')}",
        "/to-port-userinfo": other.url("/blob").replace("://", f"://me:{ENCODED}@"),
        "/to-name": source.url(f"/named?key={ENCODED}", "localhost"),
        "/to-s3": "s3://bucket/by-redirect",
        "/there-and-back": other.url("/back"),
    }

    def act(request: Request) -> Answer:
        target = places.get(request.url.partition("?")[0])
        return Answer(302, headers={"Location": target}) if target else Answer(body=b"data")

    return act


async def run(form: Form, dest: Path) -> World:
    item = feature("linked", {"a": "blob"}, links=[])
    other_routes: dict[str, Any] = {
        "/page2": lambda _: json_answer({"type": "FeatureCollection", "features": [], "links": []}),
        "/linked": lambda _: json_answer(item),
    }
    other = WireServer(other_routes)
    s3 = WireServer({f"/bucket/{name}": [Answer(body=b"object")] for name in ("by-redirect", "by-href")})
    source = Source()
    async with other, s3, source:
        blob = Answer(body=b"data")
        back = Answer(302, headers={"Location": source.url("/own")})
        other_routes |= {
            "/blob": [blob],
            f"/{ENCODED}/blob": [blob],
            "/***/blob": [blob],
            "/***": [blob],
            "/back": [back],
        }
        source._others = answer(other, source)
        hrefs = {name: source.url(f"/{name}") for name in
                 ("own", "to-port", "to-port-path", "to-port-odd-path", "to-port-bare", "to-port-userinfo",
                  "to-name", "to-s3", "there-and-back")}  # fmt: skip
        hrefs |= {"s3": "s3://bucket/by-href", "direct": f"{other.url('/blob')}?key={ENCODED}"}
        links = [{"rel": "source", "href": f"{other.url('/linked')}?key={ENCODED}"}]
        source.features = [feature("i", hrefs, links=links)]
        source.links = [{"rel": "next", "href": f"{other.url('/page2')}?key={ENCODED}"}]
        options = Options(retries=0, s3=S3Options(endpoint_url=s3.url("")), **form.options)
        report = await mirror(form.source(source.api), dest, options=options)
        return World(report, source.requests, other.requests, s3.requests)


@pytest.mark.parametrize("form", FORMS)
def test_no_credential_reaches_another_host_or_is_written_down(tmp_path, monkeypatch, capfd, form):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", S3_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", S3_TOKEN)
    dest = tmp_path / "m"
    world = asyncio.run(run(FORMS[form], dest))

    by_name = [one for one in world.source if one.headers["host"].startswith("localhost")]
    own = [one for one in world.source if one not in by_name]
    assert own
    assert all(FORMS[form].arrives(one) for one in own)
    assert {one.target.partition("?")[0] for one in own} >= {"/own", "/to-port", "/collections/c/items"}
    assert {one.target.partition("?")[0] for one in by_name} == {"/named"}
    targets = {one.target.partition("?")[0] for one in world.other}
    assert targets == {"/blob", "/back", "/page2", "/linked", "/***/blob", "/***"}
    assert {one.target for one in world.s3} == {"/bucket/by-href", "/bucket/by-redirect"}

    assert found_in(text_of(by_name) + text_of(world.other) + text_of(world.s3), [KEY]) == []
    everywhere = text_of(world.source) + text_of(world.other) + text_of(world.s3)
    assert found_in(everywhere, [S3_SECRET]) == []  # it signs, and is never sent
    assert found_in(text_of(world.source) + text_of(world.other), [S3_KEY, S3_TOKEN]) == []
    assert all(one.headers["x-amz-security-token"] == S3_TOKEN for one in world.s3)

    assert found_under(dest, [KEY, S3_KEY, S3_SECRET, S3_TOKEN]) == []
    printed = "".join(capfd.readouterr()) + repr(world.report) + str(world.report.to_json())
    assert found_in(printed.encode(), [KEY, S3_SECRET, S3_TOKEN]) == []


def test_a_secret_in_a_response_is_not_stored(tmp_path: Path) -> None:
    """In a failure's reason, an id, a title, a header: masked by value wherever it is written."""
    dest = tmp_path / "m"
    message = Answer(400, f"no such key: {KEY}".encode(), {"Content-Type": "text/plain", "X": KEY})
    items = [feature("i", {"a": "/x"}, title=f"your key is {KEY}", description=ENCODED)]
    report = mirrored(dest, items, others=lambda _: message, query={"key": Secret(KEY)})
    assert report.assets_failed == 1
    assert [failed.message.endswith(": no such key: ***.") for failed in failures(dest)] == [True]
    assert b'"your key is ***"' in (dest / "c/i/i.json").read_bytes()
    assert found_under(dest, [KEY]) == []


@pytest.mark.parametrize("quoted", ["{}", "https://h/a?a=1&amp;sig={}", "login?to=%2Fa%3Fsig%3D{}"])
def test_a_signature_that_an_error_quotes_is_not_stored(tmp_path: Path, quoted: str) -> None:
    message = f"<Error><Message>refused: {quoted.format(ENCODED)}</Message></Error>".encode()
    items = [feature("i", {"a": f"/x?sig={ENCODED}&se=2030"})]
    others = lambda request: Answer(400, message) if "?sig=" in request.url else Answer(404)  # noqa: E731
    report = mirrored(tmp_path / "m", items, others=others)
    assert report.assets_failed == 1
    assert ["refused: " in failed.message for failed in failures(tmp_path / "m")] == [True]
    assert found_under(tmp_path / "m", [KEY]) == []


@pytest.mark.parametrize("form", FORMS)
async def test_a_user_and_password_in_an_href_of_the_source(tmp_path: Path, form: str) -> None:
    """The source chose them: the user's credentials are sent, and the href is requested without them."""

    def others(request: Request) -> Answer:
        if request.url.startswith("/hop"):
            return Answer(302, headers={"Location": source.url("/b").replace("://", "://them:word@")})
        return Answer(body=b"data")

    source = Source(others=others)
    async with source:
        href = source.url("/a").replace("://", "://them:word@")
        source.features = [feature("i", {"a": href, "b": source.url("/hop"), "c": href + "?c"})]
        options = Options(retries=0, **FORMS[form].options)  # type: ignore[arg-type]
        report = await mirror(FORMS[form].source(source.api), tmp_path / "m", options=options)
    assert (report.assets_done, report.assets_failed) == (3, 0)
    assert {one.target.partition("?")[0] for one in source.requests} >= {"/a", "/b", "/hop"}
    assert all(FORMS[form].arrives(one) for one in source.requests)
    assert found_under(tmp_path / "m", [KEY, "them:word"]) == []
