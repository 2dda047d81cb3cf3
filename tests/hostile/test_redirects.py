"""Redirects that lead nowhere, in circles, or to forbidden places: no request is sent there."""

import pytest
from tests.hostile.conftest import Stage
from tests.hostile.scene import Cast
from tests.net.memory import Answer
from tests.net.wire_server import Scripted
from tests.security.sources import Source, feature

from stacpull import Options, failures, sync
from stacpull.net.transport import Request

DOWNLOADS = '[[fault]]\nkind = "download"\n'


def to(location: str) -> str:
    return f'what = "redirect"\nlocation = "{location}"'


REFUSED = [
    pytest.param(to("{url}"), "redirect", "in a loop", id="to itself"),
    pytest.param(to("{path}x"), "redirect", "more than 10 redirects", id="on and on"),
    pytest.param(to(""), "redirect", "no Location", id="an empty Location"),
    pytest.param('what = "status"\ncode = 302', "redirect", "no Location", id="no Location"),
    pytest.param(to("http:///x"), "redirect", "without a host", id="no host"),
    pytest.param(to("file:///etc/passwd"), "scheme", "file", id="file:"),
    pytest.param(to("ftp://127.0.0.1/x"), "scheme", "ftp", id="ftp:"),
    pytest.param(to("data:,x"), "scheme", "data", id="data:"),
    pytest.param(to("s3://"), "redirect", "without a host", id="no bucket"),
    pytest.param(to("s3://bucket"), "scheme", "does not name an S3 object", id="no key"),
    pytest.param(to("http://0.0.0.0/"), "address", "0.0.0.0", id="unspecified"),  # noqa: S104 - never bound
]


@pytest.mark.parametrize(("fault", "kind", "message"), REFUSED)
def test_a_redirect_that_is_not_followed_is_a_named_failure(stage, fault, kind, message):
    scene = stage(DOWNLOADS + fault)
    ran = scene.mirror()
    assert (ran.code, ran.report["assets_failed"], ran.report["retries"]) == (1, 2, 0), ran.err
    assert scene.assets() == {}
    assert {f.kind for f in scene.failures()} == {kind}
    assert all(message in f.message for f in scene.failures()), [f.message for f in scene.failures()]
    assert (scene.statuses("blob"), scene.statuses("s3")) == ([], [])


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        (b"s3://b\xff/x", "scheme"),
        (b"s3://bucket/\xff", "scheme"),
        (b"http://h\xff.invalid/x", "redirect"),
        (b"/\xff\xfe", "gone"),
    ],
)
def test_a_location_that_is_not_unicode_fails_its_asset_only(location, kind, tmp_path):
    """A host could end the run, with all assets of other hosts."""

    def answer(request: Request) -> Scripted:
        if request.url.endswith("/a"):
            return b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location
        return Answer(body=b"good") if request.url.endswith("/b") else Answer(404)

    with Source(others=answer) as source:
        source.features.append(feature("i", {"a": source.url("/a"), "b": source.url("/b")}))
        report = sync.mirror(source.api, tmp_path / "m", options=Options(retries=0))
    assert (report.assets_done, report.assets_failed) == (1, 1)
    assert [one.kind for one in failures(tmp_path / "m")] == [kind]


def test_pages_that_redirect_in_a_loop_end_the_run_with_4(stage: Stage) -> None:
    scene = stage('[[fault]]\nkind = "page"\nwhat = "redirect"\nlocation = "{url}"\n', Cast.PATCHES)
    ran = scene.mirror()
    assert ran.code == 4, ran.err
    assert "in a loop" in ran.sentences[-1]
