import asyncio
import re

import pytest
from multidict import CIMultiDict
from tests.logins.login_world import World, get, world
from tests.logins.services import DATA, Urs
from tests.net.memory import Answer, Fault

from stacpull.errors import CredentialsError, SourceError
from stacpull.models import FailureKind
from stacpull.net.transport import TransferError
from stacpull.redact import Secrets
from stacpull_logins.tokens import PASSING
from stacpull_logins.visit import Cookies


async def test_tasks_share_one_login_and_log_in_again_when_the_session_ends() -> None:
    async with world() as w:
        url = w.centre.url("/a.nc")
        assert await asyncio.gather(*(get(w.client, url) for _ in range(8))) == [DATA] * 8
        assert w.logins() == 1
        w.centre.sessions.clear()
        assert await asyncio.gather(*(get(w.client, url) for _ in range(8))) == [DATA] * 8
        assert w.logins() == 2
        assert w.client.counters.requests == len(w.urs.requests) + len(w.centre.requests)
        assert w.secrets.masked(w.centre.secrets[-1]) == "***"


async def test_a_range_is_requested_again_after_the_login() -> None:
    async with world() as w:
        await get(w.client, w.centre.url("/a.nc"), Range="bytes=5-")
        fields = [(one.target, one.headers.get("range")) for one in w.centre.requests]
        assert fields[0] == fields[-1] == ("/a.nc", "bytes=5-")
        assert all("range" not in one.headers for one in w.urs.requests)


PAGE = Answer(200, b"<html>", {"Content-Type": "text/html"})


@pytest.mark.parametrize(
    ("answer", "error", "message", "logins"),
    [
        (PAGE, CredentialsError, "approve the application. Check EARTHDATA_PASSWORD", 1),
        (Answer(302), CredentialsError, "has no Location. Check EARTHDATA_PASSWORD", 1),
        (Answer(302, headers={"Location": "ftp://h/x"}), CredentialsError, "not followed. Check EARTH", 1),
        (Answer(302, headers={"Location": "https://a\\@b/"}), TransferError, "is not a valid http URL", 2),
        (Answer(401, b"no"), CredentialsError, "check EARTHDATA_PASSWORD", 1),
        (Answer(403, b"no"), CredentialsError, "check EARTHDATA_PASSWORD", 1),
        (Answer(500), SourceError, "The login at .* failed: .* 500", 6),
        (Answer(404), SourceError, "The login at .* failed: .* 404", 1),
        (Answer(403, headers={"Retry-After": "1000"}), SourceError, "asks to wait for 17 minutes", 1),
        (Answer(fault=Fault.CLOSED), SourceError, "The login at .* failed", 6),
    ],
)
async def test_a_failed_login_is_raised_in_all_waiting_tasks(answer, error, message, logins):
    async with world() as w:
        w.urs.respond = lambda *_: answer
        requested = [get(w.client, host.url("/a.nc")) for host in (w.centre, w.second) * 4]
        for one in await asyncio.gather(*requested, return_exceptions=True):
            assert isinstance(one, error)
            assert re.search(message, str(one))
            assert w.urs.secrets[0] not in str(one)
        assert w.logins() == logins  # retried by the policy, once for all tasks
        with pytest.raises(error, match=message):
            await get(w.client, w.centre.url("/late"))
        assert w.logins() == logins


async def test_a_wait_for_the_login_host_is_reported_once_and_recovers() -> None:
    async with world() as w:
        respond, turns = w.urs.respond, iter([429, 429, 503])

        def slow(request, path, query) -> Answer:
            status = next(turns, None)
            return respond(request, path, query) if status is None else Answer(status)

        w.urs.respond = slow
        urls = [w.centre.url(f"/{number}") for number in range(6)]
        assert await asyncio.gather(*(get(w.client, url) for url in urls)) == [DATA] * 6
        assert (w.logins(), len(w.waits)) == (4, 1)
        assert "429" in w.waits[0]


async def test_a_data_host_that_fails_during_login_gets_one_login_per_minute() -> None:
    async with world() as w:
        respond = w.centre.respond
        w.centre.respond = lambda request, path, query: (
            Answer(400, b"odd") if path == "/login" else respond(request, path, query)
        )
        for number in range(3):
            with pytest.raises(TransferError, match="odd"):
                await get(w.client, w.centre.url(f"/{number}"))
        assert w.logins() == 1
        w.centre.respond = respond
        w.clock.now += PASSING + 1
        assert await get(w.client, w.centre.url("/0")) == DATA


def forgetful(w: World) -> None:
    respond = w.centre.respond

    def answer(request, path, query) -> Answer:
        w.centre.sessions.clear()
        return respond(request, path, query)

    w.centre.respond = answer


async def test_a_first_login_that_is_not_accepted_stops_the_run() -> None:
    async with world() as w:
        forgetful(w)
        for _ in range(2):
            with pytest.raises(CredentialsError, match=r"another login right after one .*_PASSWORD"):
                await get(w.client, w.centre.url("/a.nc"))
        assert w.logins() == 1


async def test_a_later_login_that_is_not_accepted_is_a_refusal_once_per_minute() -> None:
    async with world() as w:
        await get(w.client, w.centre.url("/a.nc"))
        forgetful(w)
        for _ in range(3):
            with pytest.raises(TransferError, match="another login right after one") as caught:
                await get(w.client, w.centre.url("/b.nc"))
            assert caught.value.failure.kind is FailureKind.REFUSED
        assert w.logins() == 2


async def test_a_loop_at_the_data_host_after_a_login_fails_only_its_asset() -> None:
    async with world() as w:
        await get(w.client, w.centre.url("/a.nc"))
        w.centre.sessions.clear()
        respond, loop = w.urs.respond, w.second.url("/loop")
        w.second.respond = lambda *_: Answer(302, headers={"Location": loop})
        w.urs.respond = lambda *_: Answer(302, headers={"Location": loop})
        with pytest.raises(TransferError, match="redirect"):
            await get(w.client, w.centre.url("/b.nc"))
        w.urs.respond = respond
        w.clock.now += PASSING + 1
        assert await get(w.client, w.centre.url("/a.nc")) == DATA


async def test_a_login_host_with_several_pages_gets_the_password_once() -> None:
    async with world() as w:
        w.urs.respond = lambda request, *_: Answer(302, headers={"Location": w.urs.url(request.target + "x")})
        with pytest.raises(CredentialsError, match="more than 10 redirects"):
            await get(w.client, w.centre.url("/a.nc"))
        assert (len(w.urs.requests), w.logins()) == (11, 1)


async def test_the_password_is_sent_only_to_the_login_host() -> None:
    async with world() as w, Urs() as stranger:
        target = stranger.url("/oauth/authorize")
        w.urs.respond = lambda *_: Answer(302, headers={"Location": target, "Set-Cookie": "urs=planted"})
        with pytest.raises(CredentialsError, match="another login"):
            await get(w.client, w.centre.url("/a.nc"))
        assert len(stranger.requests) == 1
        assert not {"authorization", "cookie"} & set(stranger.requests[0].headers)


HOST = "https://a.example"


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        (["a=1"], "a=1"),
        (["a=1; Path=/; Secure; HttpOnly"], "a=1"),
        (["a=1", "b=2; Path=/"], "a=1; b=2"),
        (["a=1; Expires=Wed, 21 Oct 2099 07:28:00 GMT, b=x=y=="], "a=1; b=x=y=="),  # joined by a transport
        (["a=1", "a=2"], "a=2"),
        (["a=1", "a=1; Max-Age=0"], ""),
        (["a=1", "a=1; max-age=-1; Path=/"], ""),
        (["a=1; Max-Age=3600"], "a=1"),
        (["a=1; Path=/only/there"], ""),
        (["=1"], ""),
        (["nonsense", "a b=1"], ""),
        ([""], ""),
        (["a=\udcff"], ""),
        (["a=b\tc"], ""),
    ],
)
async def test_a_cookie_is_sent_back_to_its_host(fields, sent, caplog):
    cookies = Cookies(Secrets())
    cookies.note(HOST, CIMultiDict([("set-cookie", field) for field in fields]))
    assert (cookies.field(HOST), caplog.messages) == (sent, [])


ASF = "https://auth.asf.example.edu"


@pytest.mark.parametrize(
    ("domain", "url", "sent"),
    [
        (".asf.example.edu", "https://sentinel1.asf.example.edu/x", True),
        ("ASF.example.edu", "https://a.b.asf.example.edu/x", True),
        (".asf.example.edu", "https://asf.example.edu/", True),
        (".asf.example.edu", ASF, True),
        (".asf.example.edu", "https://other.example.edu/", False),
        (".asf.example.edu", "https://evilasf.example.edu/", False),
        (".asf.example.edu", "http://sentinel1.asf.example.edu/", False),
        (".asf.example.edu", "https://sentinel1.asf.example.edu:444/", False),
        ("edu", "https://other.edu/", False),  # too broad: only its host gets it
        ("other.edu", "https://other.edu/", False),  # does not include the host
    ],
)
async def test_a_domain_extends_a_cookie_to_subdomains(domain: str, url: str, sent: bool) -> None:
    cookies = Cookies(Secrets())
    cookies.note(ASF, {"Set-Cookie": f"urs=planted; Path=/; Domain={domain}; Secure"})
    assert (cookies.field(url) == "urs=planted") is sent
    cookies.forget(url)
    assert cookies.field(url) == ""
