"""Files as a transport: what is given out, what never, and the answers a server of objects would give."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.cancelling import cancelled_before_its_thread, cancelled_between
from tests.net.conformance import opened

from stacpull.models import Failure, FailureKind
from stacpull.net.bodies import read_whole
from stacpull.net.transport import Request, TransferError
from stacpull.transfer.local import LocalTransport

BODY = bytes(range(256)) * 100


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    root = tmp_path / "cat"
    root.mkdir()
    (root / "catalog.json").write_bytes(b"{}")
    (root / "data.bin").write_bytes(BODY)
    (tmp_path / "secret.txt").write_bytes(b"secret")
    return root / "catalog.json"


def get(source: Path, url: str) -> tuple[bytes, str]:
    async def main() -> tuple[bytes, str]:
        async with opened(LocalTransport(source.as_uri()), Request(url)) as response:
            return await read_whole(response, 1_000_000), response.url

    return asyncio.run(main())


def refusal(source: Path, url: str) -> Failure:
    with pytest.raises(TransferError) as caught:
        get(source, url)
    return caught.value.failure


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a b.bin", "a b.bin"),
        ("100%.bin", "100%.bin"),
        ("a%2Fb.bin", "a%2Fb.bin"),
        ("q?x#y.bin", "q?x#y.bin"),
        ("plain.bin", "plain.bin?version=2#part"),
    ],
)
def test_file_urls_in_any_notation_are_read(catalog: Path, name: str, written: str) -> None:
    (catalog.parent / name).write_bytes(b"x")
    assert get(catalog, f"{catalog.parent.as_uri()}/{written}")[0] == b"x"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("file:///etc/passwd", FailureKind.SCHEME),
        ("{root}/../secret.txt", FailureKind.SCHEME),
        ("{root}/%2e%2e/secret.txt", FailureKind.SCHEME),
        ("{root}/x/../../secret.txt", FailureKind.SCHEME),
        ("{root}/way-out/secret.txt", FailureKind.SCHEME),
        ("{root}/out.txt", FailureKind.SCHEME),
        ("{root}/nothing.bin", FailureKind.GONE),
        ("{root}/data.bin/below", FailureKind.GONE),
        ("{root}/x", FailureKind.HTTP),
        ("{root}/pipe", FailureKind.HTTP),
        ("{root}/nul%00l", FailureKind.HTTP),
    ],
)
def test_files_outside_the_source_are_refused(catalog: Path, url: str, kind: FailureKind) -> None:
    root = catalog.parent
    (root / "x").mkdir()
    (root / "way-out").symlink_to(root.parent)
    (root / "out.txt").symlink_to(root.parent / "secret.txt")
    os.mkfifo(root / "pipe")
    failure = refusal(catalog, url.replace("{root}", root.as_uri()))
    assert failure.kind is kind
    assert not failure.retryable


@pytest.mark.parametrize("swapped", ["d", "d/secret.txt"])
def test_a_symlink_that_replaces_a_checked_path_is_not_followed(catalog, monkeypatch, swapped):
    """Someone else may write to a shared directory between the check and the opening."""
    inner = catalog.parent / "d" / "secret.txt"
    inner.parent.mkdir()
    inner.write_bytes(b"open")
    resolve = Path.resolve

    def swapping(path: Path, strict: bool = False) -> Path:
        found = resolve(path, strict)
        if path == inner:
            place = catalog.parent / swapped
            place.rename(catalog.parent / "aside")
            place.symlink_to(catalog.parent.parent / Path(swapped).relative_to("d"))
        return found

    monkeypatch.setattr(Path, "resolve", swapping)
    assert refusal(catalog, inner.as_uri()).kind in {FailureKind.GONE, FailureKind.HTTP}
    assert inner.read_bytes() == b"secret"


async def test_a_file_that_is_opened_after_a_cancellation_is_closed(catalog, monkeypatch):
    """A thread opens it, which a cancellation does not stop."""
    entered, proceed, streams = threading.Event(), threading.Event(), []
    open_file = LocalTransport._open

    def slow(*given: Any) -> Any:
        entered.set()
        proceed.wait()
        found = open_file(*given)
        streams.append(found[1])
        return found

    monkeypatch.setattr(LocalTransport, "_open", slow)
    sending = LocalTransport(catalog.as_uri()).send(Request(catalog.as_uri()))
    await cancelled_between(sending, entered, proceed)
    assert [stream.closed for stream in streams] == [True]


async def test_a_file_is_closed_although_its_end_is_cancelled(catalog: Path) -> None:
    response = await LocalTransport(catalog.as_uri()).send(Request(catalog.as_uri()))
    await cancelled_before_its_thread(response.close())
    assert response._stream.closed


def test_a_directory_is_read_as_its_catalog(catalog: Path) -> None:
    assert get(catalog.parent, catalog.parent.as_uri()) == (b"{}", catalog.as_uri())
    catalog.unlink()
    assert "does not contain catalog.json" in refusal(catalog.parent, catalog.parent.as_uri()).message


async def test_a_file_that_shrinks_meanwhile_is_truncated(catalog: Path) -> None:
    path = catalog.parent / "data.bin"
    async with opened(LocalTransport(catalog.as_uri()), Request(path.as_uri())) as response:
        await asyncio.to_thread(os.truncate, path, 100)
        with pytest.raises(TransferError) as caught:
            await read_whole(response, 1_000_000)
    assert caught.value.failure.kind is FailureKind.TRUNCATED
    assert caught.value.failure.retryable
