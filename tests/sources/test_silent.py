"""A host that accepts connections but never answers is reported, and abandoned in a bounded time."""

from pathlib import Path

import pytest
from tests.events import warnings
from tests.net.memory import Answer, Fault
from tests.net.wire_server import WireServer
from tests.security.sources import Source, feature

from stacpull import Options, SourceError, mirror


async def test_a_next_link_to_a_host_that_never_answers(tmp_path: Path) -> None:
    events: list[object] = []
    silent = WireServer({"/next": lambda _: Answer(fault=Fault.SILENT)})
    async with silent, Source(others=lambda _: Answer(body=b"data")) as source:
        source.features = [feature("i", {"a": source.url("/a")})]
        source.links = [{"rel": "next", "href": silent.url("/next")}]
        with pytest.raises(SourceError, match=r"/next could not be read: .* sent no data for too long"):
            await mirror(
                source.api, tmp_path, options=Options(stall_timeout=0.5, retries=5), on_event=events.append
            )
        assert {request.target.partition("?")[0] for request in silent.requests} == {"/next"}
        requests = len(silent.requests)
    assert requests <= 9, "three for a page of each size: five minutes with the default of 30 s"
    again = [text for text in warnings(events) if "Requesting it again" in text]
    assert 1 <= len(again) <= 6
    assert (tmp_path / "c/i/a").exists(), "what was listed before is here"
