"""How a run ends: whose stop it obeys, what it tells its listeners, and what it leaves to `resume`."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from tests.acceptance.asset_host import AssetHost, Connection, item_collection, local_items, quick
from tests.events import stopping_when
from tests.store_in_thread import store_on_thread

import stacpull
from stacpull import sync
from stacpull.engine import store_server
from stacpull.engine.run_control import timed_stop
from stacpull.engine.store_server import StoreOperations
from stacpull.errors import DestinationError
from stacpull.ledger import runs
from stacpull.models import Page
from stacpull.sources.files import GeoJsonSource, NdjsonSource
from stacpull.store.protocol import Store


async def test_the_event_of_the_caller_stops_the_run_and_is_never_set_by_it() -> None:
    stop = asyncio.Event()
    async with timed_stop(stop, 0.001) as stopping:
        await stopping.wait()
    assert not stop.is_set()
    async with timed_stop(stop, 0) as stopping:
        stopping.set()
    assert (stopping.is_set(), stop.is_set()) == (True, False)
    async with asyncio.timeout(60), timed_stop(stop, 0) as stopping:
        assert not stopping.is_set()
        stop.set()
        await stopping.wait()
    async with timed_stop(stop, 0) as stopping:
        assert stopping.is_set()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_run_that_is_killed_once_it_is_in_the_ledger_is_resumed(tmp_path, monkeypatch):
    begin = runs.begin

    def killed(*arguments: Any) -> None:
        begin(*arguments)
        raise ZeroDivisionError

    source = local_items(tmp_path, [])
    monkeypatch.setattr(runs, "begin", killed)
    with pytest.raises(ZeroDivisionError):
        sync.mirror(source, tmp_path / "m", options=quick())
    monkeypatch.undo()
    assert sync.resume(tmp_path / "m", options=quick()).state == "complete"


def refused(connection: Connection) -> None:
    while connection.request() is not None:
        connection.sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("where", "name"), [(runs, "end"), (StoreOperations, "write_derived_files"), (StoreOperations, "finish")]
)
def test_an_end_that_fails_does_not_replace_the_error_of_the_run(tmp_path, monkeypatch, where, name):
    events: list[Any] = []
    monkeypatch.setattr(where, name, Mock(side_effect=DestinationError("The disk is full.")), raising=False)
    with AssetHost(refused) as host, store_on_thread():
        source = local_items(tmp_path, [f"{host.url}/assets/{n}" for n in range(40)])
        options = quick(max_failures=2, concurrency=2)
        with pytest.raises(stacpull.StacpullError, match="--max-failures 2") as raised:
            sync.mirror(source, tmp_path / "m", options=options, on_event=events.append)
    report = raised.value.report
    assert isinstance(report, stacpull.MirrorReport)
    assert report.items_new == report.items_matched > 0  # the last counts are read nevertheless
    assert (events[-1].run, events[-1].state) == (1, "failed")
    assert '"failed"' in (tmp_path / "m" / ".stacpull" / "log.ndjson").read_text().splitlines()[-1]


def test_the_place_of_a_broken_line_has_no_signature(tmp_path: Path) -> None:
    with AssetHost() as host, store_on_thread():
        host.contents["/lines.ndjson?sig=abc&se=2030"] = b'broken\n{"id": "a"}'
        source = f"{host.url}/lines.ndjson?sig=abc&se=2030"
        sync.mirror(source, tmp_path / "m", options=quick())
    assert [one.item for one in stacpull.failures(tmp_path / "m")] == [f"line 1 of {host.url}/lines.ndjson"]


@pytest.mark.parametrize(("kind", "is_served"), [("json", False), ("json", True), ("ndjson", True)])
def test_a_file_of_items_that_changed_after_a_stop_is_mirrored_completely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_served: bool
) -> None:
    source_of_kind = GeoJsonSource if kind == "json" else NdjsonSource
    pages = source_of_kind.pages

    async def only_first(self: Any, *arguments: Any, **more: Any) -> AsyncGenerator[Page]:
        async for page in pages(self, *arguments, **more):
            yield page
            await asyncio.Event().wait()

    def written(collection: bytes) -> bytes:
        features = json.loads(collection)["features"]
        return collection if kind == "json" else "".join(json.dumps(one) + "\n" for one in features).encode()

    async def course(source: str, options: stacpull.Options) -> None:
        at_two = stopping_when(lambda event: isinstance(event, stacpull.Progress) and event.assets_done == 2)
        report = await stacpull.mirror(source, tmp_path / "m", options=options, **at_two)
        assert (report.state, report.items_done) == ("interrupted", 2)

    with AssetHost() as host, store_on_thread():
        hrefs = [f"{host.url}/assets/{n}" for n in range(6)]
        source = local_items(tmp_path, hrefs)
        if is_served:  # by a server that states no version of a document
            source = f"{host.url}/items.{kind}"
            host.contents[f"/items.{kind}"] = written(item_collection(hrefs))
        with monkeypatch.context() as patched:
            patched.setattr(source_of_kind, "pages", only_first)
            asyncio.run(course(source, quick(page_size=2)))
        changed = [f"{host.url}/assets/new", *hrefs[2:]]
        document = json.loads(item_collection(changed, start=1))
        document["features"][0]["id"] = "new"
        host.contents[f"/items.{kind}"] = written(json.dumps(document).encode())
        (tmp_path / "items.json").write_bytes(host.contents[f"/items.{kind}"])
        host.requests.clear()
        report = sync.resume(tmp_path / "m", options=quick(page_size=2))
    assert (report.state, report.items_done, report.assets_done) == ("complete", 7, 7)
    assert sorted(path for path in host.requests if path != f"/items.{kind}") == [
        *(f"/assets/{n}" for n in range(2, 6)),
        "/assets/new",
    ]


def test_the_error_of_a_run_is_not_replaced_by_that_of_closing_its_store(tmp_path, monkeypatch):
    open_ledger = store_server.open_ledger

    @contextmanager
    def closed_with_an_error(store: Store) -> Iterator[Any]:
        with open_ledger(store) as db:
            yield db
        raise stacpull.DestinationError("while closing")

    def fail(event: object) -> None:
        if isinstance(event, stacpull.AssetFailed):
            raise stacpull.UsageError("first")

    monkeypatch.setattr(store_server, "open_ledger", closed_with_an_error)
    with AssetHost() as host, store_on_thread():
        source = local_items(tmp_path, [f"{host.url}/none"])
        with pytest.raises(stacpull.UsageError, match="first"):
            sync.mirror(source, tmp_path / "mirror", options=quick(), on_event=fail)
