"""What workers are sent and report is the same on the other side, in whatever pieces it comes."""

from __future__ import annotations

import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.config.options import Options
from stacpull.engine import worker_messages as messages
from stacpull.engine.messages import (
    Arrivals,
    ErrorReport,
    PartsWritten,
    WholeEnvironment,
    error_of,
    error_report,
    framed,
    unframed,
)
from stacpull.engine.network import SourceAddress
from stacpull.engine.store_messages import StoreEvent, ToNetwork, decode_to_network
from stacpull.engine.worker_messages import FromWorker, ToWorker, WorkerSettings
from stacpull.errors import CredentialsError, DestinationError, SourceError, StacpullError, WorkerError
from stacpull.events import Notice
from stacpull.ledger.outcomes import AssetFailure, UnchangedAsset
from stacpull.models import Arrival, Checksum, Failure, FailureKind, Job, VersionInDest
from stacpull.net.addresses import AddressPolicy
from stacpull.redact import Secret

JOB = Job(
    7, 3, 1, "B02", "https://b.example/x?sig=1", "https://a.example/i", "c/i", None, "{filename}", 12,
    Checksum("md5", b"\0" * 16), "image/tiff", stale=True, sha256=b"\1" * 32, alternates=("s3://b/x",),
    version_in_dest=VersionInDest('"e"', 12),
)  # fmt: skip
PLAIN = Job(8, 3, 0, "ä", "https://b.example/x", None, "", "x.tif")
SETTINGS = WorkerSettings(
    SourceAddress("https://a.example", {"Authorization": Secret("Bearer abc")}, {}, ("NAME",)),
    Options(query={"key": Secret("abc")}, ca_bundle=Path("/ca.pem")),
    AddressPolicy(),
    4,
    "mirror",
    {"NAME": "value", "ODD": "\udcff"},
)
GONE = Failure(FailureKind.GONE, "Gone.", status=404, host="a.example")
REFUSED = Failure(FailureKind.REFUSED, "No.", retryable=True, free=True, reached=5)
TO_WORKER: list[ToWorker] = [
    messages.Start(b"settings"),
    messages.Jobs([JOB, PLAIN]),
    PartsWritten(2),
    messages.LookAgain(),
    messages.NewLimits(4, 2),
    WholeEnvironment({b"A": b"\xe9"}),
    messages.Stop(),
    messages.End(),
    messages.ItemRead(1, b'{"assets": {"a": {"href": "x"}}}', 1.5),
    messages.ItemRead(2, GONE, 0.0),
    messages.Granted(3, 0.25),
    messages.Throttled("b.example:443", 2.5),
]
FROM_WORKER: list[FromWorker] = [
    messages.Ready(1.5),
    Arrivals(
        [Arrival(7, 3, 1, "c/i", "x.tif", 12, 99, b"digest", '"e"', True, "7.1.12;%22e%22;x%FF.tif.whole")]
    ),
    UnchangedAsset(7, 3, 1),
    AssetFailure(7, 3, 0, REFUSED, 6),
    messages.RequestItem(1, "https://a.example/i", None),
    messages.Reserve(2, "b.example:443", 1),
    messages.Throttled("b.example:443", 2.5),
    messages.Spent(1, 2, 3),
    messages.Noticed("warning", "It drips."),
    messages.Broke(ErrorReport("KeyError", "'x'", "Traceback")),
]
M = TypeVar("M", bound=msgspec.Struct)
CUTS = st.lists(st.integers(0, 400), max_size=12)


@given(st.lists(st.sampled_from(TO_WORKER), max_size=12), CUTS)
def test_messages_to_a_worker_are_received_however_they_are_split(
    sent: list[ToWorker], cuts: list[int]
) -> None:
    assert in_pieces(messages.decode_to_worker, sent, cuts) == sent


@given(st.lists(st.sampled_from(FROM_WORKER), max_size=12), CUTS)
def test_messages_of_a_worker_are_received_however_they_are_split(
    sent: list[FromWorker], cuts: list[int]
) -> None:
    assert in_pieces(messages.decode_from_worker, sent, cuts) == sent


def in_pieces(decode: Callable[[bytes], M], sent: list[M], cuts: list[int]) -> list[M]:
    data, received, buffer, at = b"".join(map(framed, sent)), list[M](), bytearray(), 0
    for cut in [*cuts, len(data)]:
        buffer += data[at : at + cut]
        received += unframed(buffer, decode)
        at += cut
    return received


def test_a_message_longer_than_a_chunk_is_received_and_its_memory_freed() -> None:
    sent = [StoreEvent(Notice("warning", text)) for text in ("y" * 9_000_000, "end")]
    data, buffer, received = b"".join(map(framed, sent)), bytearray(), list[ToNetwork]()
    for start in range(0, len(data), 100_000):
        buffer += data[start : start + 100_000]
        received += unframed(buffer, decode_to_network)
    assert received == sent
    assert sys.getsizeof(buffer) < 1 << 20


@pytest.mark.parametrize("sent", [b"\x80\x04N.", framed(messages.Stop())[4:], pickle.dumps(SETTINGS)])
def test_unknown_messages_of_a_worker_are_rejected(sent: bytes) -> None:
    """Neither a pickle nor an order."""
    with pytest.raises(msgspec.DecodeError):
        messages.decode_from_worker(sent)


def test_a_worker_receives_equal_settings() -> None:
    (received,) = unframed(framed(messages.Start(pickle.dumps(SETTINGS))), messages.decode_to_worker)
    assert isinstance(received, messages.Start)
    settings = pickle.loads(received.settings)  # noqa: S301 -- of this test
    assert settings._replace(addresses=SETTINGS.addresses) == SETTINGS
    assert settings.options.query["key"].reveal() == "abc"


@pytest.mark.parametrize("kind", [SourceError, CredentialsError, DestinationError, WorkerError])
def test_a_stacpull_error_keeps_its_type_and_message(kind: type[StacpullError]) -> None:
    error = error_of(error_report(kind("A sentence.")), "worker process")
    assert (type(error), str(error)) == (kind, "A sentence.")


@pytest.mark.parametrize("name", ["KeyError", "StacpullNonsense", "__doc__", "annotations"])
def test_any_other_error_is_named_with_its_traceback(name: str) -> None:
    error = error_of(ErrorReport(name, "x", "in line 5"), "worker process")
    assert isinstance(error, WorkerError)
    assert str(error) == f"A worker process failed: this is a bug in stacpull, please report it ({name})."
    assert "in line 5" in "".join(traceback.format_exception(error))
