"""`stacpull credentials`, against services on other threads."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.logins.services import Blobs, DataCentre, Downloads, Identity, PlanetApi, Signing, Urs
from tests.net.memory import Answer
from tests.net.wire_server import WireServer

from stacpull_replicas import MemoryStore, S3Access, S3Replica, run_in_thread

pytestmark = pytest.mark.behaviour

SECRETS = ("planted+pass/word", "planted-planet-key", "planted-secret-key")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("EARTHDATA_TOKEN", "PL_API_KEY", "CDSE_USERNAME", "AWS_PROFILE", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "stacpull/providers").mkdir(parents=True)
    return tmp_path


def write(home: Path, name: str, text: str) -> None:
    (home / "stacpull/providers" / f"{name}.toml").write_text(text)


def test_list_shows_ready_profiles_and_missing_variables(stacpull_command, home, monkeypatch):
    monkeypatch.setenv("PL_API_KEY", "planted-planet-key")
    write(home, "mine", '[login.t]\nkind = "bearer"\nhosts = ["*.h.example"]\ntoken = "${MINE}"\n')
    ran = stacpull_command("credentials", "list")
    assert ran.code == 0
    assert "mine\n" in ran.out
    assert "  not ready: set MINE\n" in ran.out
    assert ran.out.count("  ready, if the AWS tools find credentials\n") == 2
    found = {
        one["name"]: one
        for one in json.loads(stacpull_command("credentials", "list", "--json").out)["profiles"]
    }
    shipped = "cdse earth-search earthdata mine planet planetary-computer usgs"
    assert list(found) == shipped.split()
    assert (found["planet"]["ready"], found["mine"]["ready"]) == (True, False)
    assert found["mine"]["hosts"] == ["*.h.example"]
    assert "planted" not in ran.out + json.dumps(found)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_text("x = ="), ", x is not valid TOML: Invalid value (at line 1, column 5)"),
        (lambda path: path.write_text("login = 1\n"), ", line 1, login: must be a table"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), " cannot be read: it is not UTF-8 text"),
        (lambda path: path.mkdir(), " cannot be read: Is a directory"),
    ],
)
def test_a_profile_that_cannot_be_read_is_listed_with_its_reason_beside_the_others(
    stacpull_command, home, spoil, message: str
) -> None:
    path = home / "stacpull/providers/broken.toml"
    spoil(path)
    ran = stacpull_command("credentials", "list")
    assert ran.code == 0
    assert ran.out.splitlines()[:1] == ["broken"]
    assert "  not ready: " in ran.out
    assert f"{path}{message}" in ran.out
    assert "planetary-computer\n" in ran.out
    found = json.loads(stacpull_command("credentials", "list", "--json").out)["profiles"]
    assert [one["name"] for one in found if one["problem"]] == ["broken"]
    assert [one["needs"] for one in found if one["name"] == "planetary-computer"] == ["nothing"]


IDENTITY = """
[login.token]
kind = "token"
hosts = ["{downloads}"]
token-url = "{identity}/token"
client-id = "cdse-public"
user = "planted-user"
password = "${{WORD}}"
"""


@contextmanager
def logins(home: Path) -> Iterator[tuple[Identity, Downloads]]:
    """Run a host and its identity service, and write their profile, `p`."""
    identity = Identity()
    with identity, Downloads(identity) as downloads:
        write(home, "p", IDENTITY.format(identity=identity.url(""), downloads=downloads.url("")))
        yield identity, downloads


@pytest.mark.parametrize(
    ("word", "more", "code", "message"),
    [
        ("planted+pass/word", [], 0, "p: accepted (a token of 127.0.0.1:"),
        ("planted+pass/word", ["--url", "/a"], 0, "/a)"),
        ("planted+wrong/word", [], 3, "refuses the login (401: Invalid user credentials): check WORD."),
        ("", [], 3, "The credentials p are not complete: set WORD."),
        ("planted+pass/word", ["--url", "/elsewhere"], 2, "The profile p has no login for 127.0.0.1:"),
        ("planted+pass/word", ["--url", "/moved"], 4, "for which the profile has no login: give another"),
    ],
)
def test_a_login_is_checked_by_a_real_request(stacpull_command, home, monkeypatch, word, more, code, message):
    monkeypatch.setenv("WORD", word)
    with logins(home) as (identity, downloads), WireServer({"/x": [Answer(body=b"public")]}) as other:
        downloads.elsewhere = other.url("/x")
        host = identity if "/elsewhere" in more else downloads
        more = [host.url(one) if one.startswith("/") else one for one in more]
        ran = stacpull_command("credentials", "check", "p", *more)
    assert ran.code == code
    assert message in ran.out + ran.err
    said = ran.out.splitlines() + ran.err.splitlines()
    assert len([line for line in said if "starting" not in line]) == 1
    assert "planted+" not in ran.out + ran.err


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_secrets_in_a_url_are_not_printed_and_its_password_not_sent(
    stacpull_command, home, monkeypatch, json_too: list[str]
) -> None:
    monkeypatch.setenv("WORD", "planted+pass/word")
    with logins(home) as (_, downloads):
        url = downloads.url("/a?v=1&sig=planted-sig&api_key=planted-key").replace("//", "//me:planted-word@")
        ran = stacpull_command("credentials", "check", "p", "--url", url, *json_too)
    assert ran.code == 0, ran.err
    assert "/a?v=1" in ran.out
    assert "planted" not in ran.out + ran.err
    assert downloads.requests[-1].headers["authorization"].startswith("Bearer ")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(429, headers={"Retry-After": "600"}), "asks to wait for 10 minutes: run the command again"),
        (Answer(503, headers={"Retry-After": "0"}), "sent no token: .* 503 Service Unavailable"),
    ],
)
def test_a_long_retry_after_of_the_login_service_is_an_error(
    stacpull_command, home, monkeypatch, answer: Answer, message: str
) -> None:
    monkeypatch.setenv("WORD", "planted+pass/word")
    with logins(home) as (identity, _):
        identity.respond = lambda *_: answer
        ran = stacpull_command("credentials", "check", "p")
    assert ran.code == 4
    assert re.search(message, ran.err)
    assert len(identity.requests) <= 2


def test_check_prints_accepted_urls_as_json(stacpull_command, home) -> None:
    signing = Signing()
    blobs = Blobs(signing)
    with signing, blobs:
        url = blobs.url("/data/x.tif")
        keys = f'hosts = ["{blobs.url("")}"]\ntoken-url = "{signing.url("/api/sas/v1/token")}'
        text = f'check = ["{url}"]\n[login.s]\nkind = "sas"\n{keys}/{{account}}/{{container}}"\n'
        write(home, "pc", text)
        ran = stacpull_command("credentials", "check", "pc", "--json")
        refused = stacpull_command("credentials", "check", "pc", "--url", blobs.url("/unknown/x.tif"))
    assert (ran.code, json.loads(ran.out)) == (0, {"name": "pc", "accepted": [url]})
    assert refused.code == 4  # a 404 proves nothing about credentials
    assert "sig=" not in ran.out


def test_earthdata_and_planet_are_checked_at_their_own_addresses(stacpull_command, home, monkeypatch) -> None:
    monkeypatch.setenv("WORD", "planted+pass/word")
    monkeypatch.setenv("KEY", "planted-planet-key")
    urs, planet = Urs(), PlanetApi()
    centre = DataCentre(urs)
    with urs, centre, planet:
        visit = f'hosts = ["{centre.url("")}"]\nlogin-host = "{urs.url("")}"\nuser = "planted-user"\n'
        head = f'check = ["{centre.url("/s3credentials")}"]\n[login.v]\nkind = "visit"\n'
        write(home, "e", f'{head}{visit}password = "${{WORD}}"\n')
        basic = f'hosts = ["{planet.url("")}"]\nuser = "${{KEY}}"\npassword = ""\npath = "/data/v1/assets/"\n'
        write(
            home,
            "p",
            f'check = ["{planet.url("/data/v1/item-types")}"]\n[login.a]\nkind = "activation"\n{basic}',
        )
        assert stacpull_command("credentials", "check", "e").code == 0
        assert stacpull_command("credentials", "check", "p").code == 0
        monkeypatch.setenv("KEY", "another")
        wrong = stacpull_command("credentials", "check", "p")
        urs.approved = False
        centre.sessions.clear()
        unapproved = stacpull_command("credentials", "check", "e")
    assert (wrong.code, unapproved.code) == (3, 3)
    assert "Please enter your API key" in wrong.err
    assert "approve the application" in unapproved.err
    assert not any(secret in wrong.err + unapproved.err for secret in SECRETS)


S3 = """
check = ["s3://eodata/there"]
[s3]
endpoint-url = "{endpoint}"
region = "default"
access-key = "${{ACCESS}}"
secret-key = "${{SECRET}}"
"""


@pytest.mark.parametrize(
    ("secret", "url", "code"),
    [
        ("planted-secret-key", None, 0),
        ("planted-secret-key", "s3://eodata/not-there", 0),  # it is looked for, so the keys are accepted
        ("planted-wrong-key", None, 3),
    ],
)
def test_keys_of_s3_on_an_endpoint_of_its_own_are_checked(
    stacpull_command, home, monkeypatch, secret: str, url: str | None, code: int
) -> None:
    monkeypatch.setenv("ACCESS", "CDSEPLANTED")
    monkeypatch.setenv("SECRET", secret)
    access = S3Access("CDSEPLANTED", "planted-secret-key")
    with run_in_thread(
        S3Replica(store=MemoryStore({"eodata": {"there": b"x" * 10}}), access=access)
    ) as replica:
        write(home, "cdse", S3.format(endpoint=replica.s3_url))
        ran = stacpull_command("credentials", "check", "cdse", *(["--url", url] if url else []))
    assert ran.code == code, ran.err
    assert secret not in ran.out + ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["check", "nobody"], 2, "There is no credential profile nobody. Profiles: cdse"),
        (["check"], 2, "Missing argument 'NAME'"),
        (["check", "p"], 2, "line 1, login: must be a table"),
        (["check", "q"], 2, "The profile q has no URL to check: give --url URL."),
        (["check", "q", "--url", "ftp://h/x"], 2, "--url must be like https://host/path or s3://bucket/key."),
        (["check", "q", "--url", "http://[::1/x"], 2, "--url must be like https://host/path"),
    ],
)
def test_credentials_that_cannot_be_checked_are_a_usage_error(
    stacpull_command, home, arguments, code, message
) -> None:
    write(home, "p", "login = 1\n")
    write(home, "q", '[login.n]\nkind = "header"\nhosts = ["h.example"]\nname = "X"\nvalue = "${HOME}"\n')
    ran = stacpull_command("credentials", *arguments)
    assert ran.code == code
    assert message in ran.err


def test_a_traceback_contains_no_secret(stacpull_command, home, monkeypatch) -> None:
    monkeypatch.setenv("WORD", "planted+wrong/word")
    with logins(home):
        ran = stacpull_command("-vv", "credentials", "check", "p")
    assert ran.code == 3
    assert "Traceback" in ran.err
    assert not {"planted+wrong/word", "planted%2Bwrong"} & set(ran.err.split())
    assert "planted+" not in ran.out + ran.err
