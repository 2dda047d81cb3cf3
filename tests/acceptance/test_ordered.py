"""Assets that are not ready yet: recorded as ordered, distinguished from failures, and requested again."""

import pytest
from tests.acceptance.asset_host import AssetHost, local_items, quick
from tests.acceptance.command import environment, run

import stacpull
from stacpull import sync

ARCHIVED = b"<Error><Code>InvalidObjectState</Code><Message>The operation is not valid.</Message></Error>"


class OrderingHost(AssetHost):
    """Assets whose number is in `waiting` get the response `answer`."""

    def __init__(self, answer: tuple[str, bytes]) -> None:
        super().__init__()
        self.waiting = set(range(3))
        self.answer = answer

    def content(self, path: str) -> tuple[str, bytes]:
        kind, _, number = path.strip("/").partition("/")
        if kind == "assets" and int(number) in self.waiting:
            return self.answer
        return super().content(path)


@pytest.mark.parametrize(
    "answer",
    [
        ("202 Accepted", b'{"status": "preparing"}'),
        ("403 Forbidden", ARCHIVED),
        ("409 Conflict", b"<Error><Code>BlobArchived</Code></Error>"),
    ],
)
def test_assets_that_are_not_ready_are_ordered_and_requested_again(tmp_path, caplog, answer):
    dest = tmp_path / "m"
    with OrderingHost(answer) as host:
        source = local_items(tmp_path, [f"{host.url}/assets/{number}" for number in range(8)])
        options = quick(max_failures=0)
        report = sync.mirror(source, dest, options=options)
        assert (report.state, report.exit_code) == ("complete", 1)
        assert (report.assets_done, report.assets_failed, report.assets_ordered) == (5, 3, 3)
        assert {(one.kind, one.attempts) for one in stacpull.failures(dest)} == {("ordered", 0)}
        assert (stacpull.status(dest).assets_ordered, sync.verify(dest).assets_ordered) == (3, 3)
        said = [run([name, str(dest)], environment()).out for name in ("status", "failures", "verify")]
        assert [text for text in (*said, *caplog.messages) if "failed" in text or "attempt" in text] == []
        assert "verified; 3 not ready yet at their host\n" in said[2]

        host.waiting.discard(0)
        before = len(host.requests)
        again = sync.retry(dest, ordered=True, options=quick())
        assert (again.assets_done, again.assets_ordered, again.exit_code) == (1, 2, 1)
        assert {path.rpartition("/")[2] for path in host.requests[before:]} == {"0", "1", "2"}

        host.waiting.clear()
        last = sync.retry(dest, ordered=True, options=quick())
        assert (last.assets_done, last.assets_failed, last.exit_code) == (2, 0, 0)
        after = stacpull.status(dest)
        assert (after.state, after.assets_done, after.assets_ordered) == ("complete", 8, 0)


def test_status_shows_a_failure_before_assets_that_are_not_ready(tmp_path):
    with OrderingHost(("202 Accepted", b"")) as host:
        host.waiting = set(range(5))
        hrefs = [f"{host.url}/assets/{number}" for number in host.waiting]
        sync.mirror(local_items(tmp_path, ["ftp://h.test/x", *hrefs]), tmp_path / "m", options=quick())
        assert [one.kind for one in stacpull.status(tmp_path / "m").last_errors] == [
            "scheme",
            *["ordered"] * 4,
        ]
