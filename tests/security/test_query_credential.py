"""A credential that is sent as a query parameter is never written down, whatever the parameter is called.

The names are outside of those that `stacpull.redact` cuts by name: what keeps them out is that nothing above
the transport sees them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.items import collection
from tests.net.memory import Answer
from tests.net.wire_server import Scripted, WireServer
from tests.security.secrets import found_in, found_under
from tests.security.sources import Source, feature, json_answer

from stacpull import Options, Secret, StacpullError
from stacpull.net.transport import Request
from stacpull.sync import failures, mirror, plan, status

SECRET = "planted/credential+of=a&query"
SENT = quote(SECRET, safe="")
MAINTENANCE = Answer(200, body=b"<html><body>Back soon</body></html>", headers={"Content-Type": "text/html"})
BROKEN = Answer(200, body=b"{", headers={"Content-Type": "application/json"})


@pytest.fixture(params=["token", "subscription", "appid"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def options(name: str) -> Options:
    return Options(retries=0, query={name: Secret(SECRET)})  # type: ignore[arg-type]


def assert_clean(dest: Path, *texts: object) -> None:
    assert found_under(dest, [SECRET]) == []
    assert found_in("\n".join(map(str, texts)).encode(), [SECRET]) == []


def chain_of(error: BaseException) -> list[str]:
    found = [str(error), *getattr(error, "__notes__", ())]
    following = error.__cause__ or error.__context__
    return found + (chain_of(following) if following is not None else [])


@pytest.mark.parametrize("answer", [MAINTENANCE, BROKEN], ids=["maintenance page", "broken JSON"])
@pytest.mark.parametrize("path", ["", "/items"])
def test_an_invalid_page_does_not_reveal_the_credential(tmp_path, name, answer, path, capfd):
    """The error names the page's URL."""
    with Source(routes={f"/collections/c{path}": lambda _: answer}) as source:
        with pytest.raises(StacpullError) as caught:
            mirror(source.api, tmp_path / "m", options=options(name))
        assert any(f"{name}={SENT}" in request.target for request in source.requests)
    assert_clean(tmp_path, *chain_of(caught.value), *capfd.readouterr())


def test_a_static_catalog_does_not_store_the_credential(tmp_path: Path, name: str) -> None:
    """The URL of each item is in the ledger."""
    item = feature("Q7-9", {"a": "./a.tif", "gone": "./gone.tif"})  # its id is not in the secret
    links = [{"rel": "item", "href": "./Q7-9.json"}, {"rel": "item", "href": "./broken.json"}]
    root = collection(links=links)
    routes: dict[str, Any] = {
        "/root.json": lambda _: json_answer(root),
        "/Q7-9.json": lambda _: json_answer(item),
        "/broken.json": lambda _: MAINTENANCE,
        "/a.tif": [Answer(body=b"data")],
    }

    with WireServer(routes) as server:
        report = mirror(server.url("/root.json"), tmp_path, options=options(name))
        assert all(f"{name}={SENT}" in request.target for request in server.requests)
    assert (report.assets_done, report.assets_failed, report.items_failed) == (1, 1, 1)
    assert_clean(tmp_path, report, *failures(tmp_path), status(tmp_path).to_json())


ECHOES: dict[str, Callable[[Source, str], str]] = {
    "own host, same name": lambda source, name: source.url(f"/x?{name}={SENT}"),
    "own host, another name": lambda source, _: source.url(f"/x?id={SENT}"),
    "own host, in the path": lambda source, _: source.url(f"/{SENT}/x"),
    "another host": lambda source, name: source.url(f"/x?{name}={SENT}", "localhost"),
    "nowhere": lambda _, name: f"ftp://a.example/x?{name}={SENT}",
}


def refused(requested: Request) -> Scripted:
    return Answer(404, body=f"no {requested.url} for {SECRET}".encode())


@pytest.mark.parametrize("echo", ECHOES)
def test_a_source_that_echoes_the_credential(tmp_path: Path, name: str, echo: str) -> None:
    """In hrefs, links, Locations, ids and messages; what fails and what does not."""
    events: list[object] = []

    def others(requested: Request) -> Scripted:
        if "/redirect" in requested.url:
            return Answer(302, headers={"Location": f"/?{name}={SENT}&gone=1"})
        return refused(requested)

    with Source(others=others) as source:
        href = ECHOES[echo](source, name)
        hrefs = {"a": href, "b": source.url(f"/redirect?{name}={SENT}"), "c": href + "&c=2"}
        links = [{"rel": "source", "href": href}, {"rel": "self", "href": href}]
        source.features = [feature(one, hrefs, links=links) for one in ("Q7-9", "Q7-8")]
        source.links = [{"rel": "next", "href": source.url(f"/collections/c/items?p=2&q={SENT}")}]
        report = mirror(source.api, tmp_path, options=options(name), on_event=events.append)
    failed = list(failures(tmp_path))
    assert (report.assets_failed, report.items_failed, len(failed)) == (6, 1, 7)
    assert all("for ***" in failure.message for failure in failed if failure.kind == "gone")
    assert {failure.key for failure in failed if failure.kind == "gone"} >= {"b"}
    assert_clean(tmp_path, report, *events, *failed, status(tmp_path).to_json())


def test_a_plan_of_a_source_that_echoes_the_credential(tmp_path: Path, name: str) -> None:
    """A warning quotes a page that could not be read, and an error quotes the answer."""
    events: list[object] = []

    with Source(others=refused) as source:
        source.features = [feature("Q7-9", {"a": source.url("/a")})]
        source.links = [{"rel": "next", "href": source.url(f"/next?q={SENT}", "localhost")}]
        with pytest.raises(StacpullError) as caught:
            plan(source.api, options=options(name), on_event=events.append)
    assert any("could not be read" in str(event) for event in events)
    assert_clean(tmp_path, *chain_of(caught.value), *events)
