"""What passes between the processes comes out as it went in, in whatever pieces it comes."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull import errors
from stacpull.config.options import Options
from stacpull.engine.network import SourceAddress
from stacpull.engine.processes import messages
from stacpull.engine.processes.messages import Broke, Came, Context, Frames, Jobs, Spent, framed
from stacpull.errors import CredentialsError, DestinationError, SourceError, StacpullError, WorkerError
from stacpull.models import Checksum, Failure, FailureKind, Job, Received, Validator
from stacpull.redact import Secret, Secrets
from stacpull.store.wholes import Whole

JOB = Job(
    7, 3, 1, "B02", "https://b.example/x?sig=1", "https://a.example/i", "c/i", None, "{filename}", 12,
    Checksum("md5", b"\0" * 16), "image/tiff", stale=True, sha256=b"\1" * 32,
)  # fmt: skip
PLAIN = Job(8, 3, 0, "\udcff", "https://b.example/x", None, "", "x.tif")
CONTEXT = Context(
    1,
    {"NAME": "value", "ODD": "\udcff"},
    SourceAddress("https://a.example", {"Authorization": Secret("Bearer abc")}, {}, ("NAME",)),
    Options(query={"key": Secret("abc")}, ca_bundle=Path("/ca.pem")),
    True,
    4,
    "mirror",
)
EVERY = [
    CONTEXT,
    Jobs([messages.job_row(JOB), messages.job_row(PLAIN)], again=True),
    messages.Stop(),
    messages.End(),
    messages.ItemRead(1, {"assets": {"a": {"href": "x"}}}, 1.5),
    messages.ItemRead(2, Failure(FailureKind.GONE, "Gone.", status=404, host="a.example"), 0.0),
    messages.Throttled("b.example:443", 2.5),
    messages.Ready(),
    Came([(7, 12, None, "x.tif", '"e"', True, "7.1.12.whole", 99)], Spent(1, 2, 3)),
    messages.Failed(7, Failure(FailureKind.REFUSED, "No.", retryable=True, free=True, reached=5), 6),
    messages.ReadItem(1, "https://a.example/i", None),
    Spent(1, 2, 3),
    messages.Said("It drips.", once=True),
    Broke("KeyError", "'x'", "Traceback"),
    messages.Ended(),
]


@given(st.lists(st.sampled_from(EVERY), max_size=12), st.lists(st.integers(0, 400), max_size=12))
def test_messages_come_out_as_they_went_in_however_they_are_cut(
    sent: list[messages.Order | messages.Word], cuts: list[int]
) -> None:
    data = b"".join(map(framed, sent))
    frames, heard, at = Frames(), list[object](), 0
    for cut in [*cuts, len(data)]:
        heard += frames.feed(data[at : at + cut])
        at += cut
    assert heard == sent
    assert [type(one) for one in heard] == [type(one) for one in sent]


@pytest.mark.parametrize("job", [JOB, PLAIN], ids=["with everything", "with little"])
def test_a_job_is_the_same_on_the_other_side(job: Job) -> None:
    (heard,) = Frames().feed(framed(Jobs([messages.job_row(job)])))
    assert isinstance(heard, Jobs)
    assert [messages.job_of(row) for row in heard.rows] == [job]


def test_what_came_in_is_for_the_publisher_what_a_writer_of_its_own_tells() -> None:
    received = Received(5, b"\2" * 32, "x y.tif", Validator('"e"', "a date"), verified=False)
    whole = Whole("7.1.5.whole", 123, 5, b"\2" * 32)
    row = messages.arrival_row((JOB, received, whole))
    dated = received._replace(validator=Validator('"e"'))  # the date matters to parts only
    assert messages.arrived(JOB, row) == (JOB, dated, whole)


@pytest.mark.parametrize("kind", [SourceError, CredentialsError, DestinationError, WorkerError])
def test_an_error_of_ours_is_the_same_on_the_other_side(kind: type[StacpullError]) -> None:
    error = messages.error_of(Broke(kind.__name__, "A sentence."), Secrets())
    assert (type(error), str(error)) == (kind, "A sentence.")


@pytest.mark.parametrize("name", ["KeyError", "StacpullNonsense", "__doc__", "annotations"])
def test_any_other_error_is_named_and_its_traceback_is_without_secrets(name: str) -> None:
    secrets = Secrets([Secret("sesame-open")])
    error = messages.error_of(Broke(name, "x", "in line 5: sesame-open"), secrets)
    assert isinstance(error, errors.WorkerError)
    assert name in str(error)
    told = "".join(traceback.format_exception(error))
    assert "in line 5: ***" in told
    assert "sesame" not in told
