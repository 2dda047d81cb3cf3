import re
from pathlib import Path

import pytest

from stacpull import entry_points
from stacpull.config.options import S3Options
from stacpull.errors import UsageError
from stacpull.hosts import origin_of
from stacpull_logins.logins import HostPattern, keys_of
from stacpull_logins.profiles import KINDS, find_profile, listed, profile_names

ROOT = Path(__file__).parents[2]

TOKEN = '[login.t]\nkind = "bearer"\nhosts = ["h.example"]\ntoken = "${T}"\n'


def test_the_shipped_profiles_are_those_of_the_documentation() -> None:
    shipped = ["cdse", "earth-search", "earthdata", "planet", "planetary-computer", "usgs"]
    assert profile_names({"XDG_CONFIG_HOME": "/nowhere"}) == shipped


class Everything(dict[str, str]):
    """An environment in which every variable is set, to a file that does not exist."""

    def get(self, _name: str, _default: object = None) -> str:  # type: ignore[override]
        return "/nowhere"


def test_shipped_profiles_log_in_over_https_only() -> None:
    environ = Everything()
    shipped = list(filter(None, [find_profile(name, environ) for name in profile_names(environ)]))
    assert len(shipped) > 1
    for _, profile in shipped:
        assert profile.logins or profile.s3 != S3Options()
        for login in profile.logins:
            assert all(pattern.scheme == "https" and pattern.port == 443 for pattern in login.hosts)


def test_a_users_profile_replaces_a_shipped_one(tmp_path: Path) -> None:
    own = tmp_path / "stacpull" / "providers"
    own.mkdir(parents=True)
    (own / "cdse.toml").write_text(TOKEN)
    (own / "mine.toml").write_text('about = "Mine"\n' + TOKEN)
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    found = {state.name: state for state in listed(environ)}
    assert found["cdse"].path == str(own / "cdse.toml")
    assert (found["mine"].about, len(found)) == ("Mine", 7)


@pytest.mark.parametrize("name", ["nobody", "default", "a/b", "../cdse", "", ".hidden", "examples/bearer"])
def test_other_names_are_left_to_the_aws_tools(name: str, tmp_path: Path) -> None:
    assert find_profile(name, {"XDG_CONFIG_HOME": str(tmp_path)}) is None


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("data.example.org", HostPattern("https", "data.example.org", 443)),
        ("*.example.org", HostPattern("https", "example.org", 443, any_below=True)),
        ("HTTPS://Data.Example.org:8443", HostPattern("https", "data.example.org", 8443)),
        ("http://127.0.0.1:8000", HostPattern("http", "127.0.0.1", 8000)),
        ("http://[::1]:80", HostPattern("http", "[::1]", 80)),
    ],
)
def test_a_pattern_of_hosts(text: str, pattern: HostPattern) -> None:
    assert HostPattern.read(text) == pattern


@pytest.mark.parametrize(
    ("pattern", "url", "covered"),
    [
        *(
            (pattern, f"{host}/x", True)
            for pattern in ("data.example", "https://DATA.example:443")
            for host in ("https://data.example", "HTTPS://Data.Example:443", "https://u:p@data.example.")
        ),
        ("data.example", "https://data.example@evil.net/", False),
        ("data.example", "https://data.example.evil.net/", False),
        ("data.example", "https://evil.net/data.example", False),
        ("data.example", "http://data.example/", False),
        ("data.example", "https://data.example:444/", False),
        ("data.example", "s3://data.example/key", False),
        ("http://[::1]:80", "http://[::1]/", True),
        ("http://[::1]:80", "http://[::2]:80/", False),
        ("*.example.org", "https://a.example.org/", True),
        ("*.example.org", "https://b.a.example.org/", True),
        ("*.example.org", "https://example.org/", False),
        ("*.example.org", "https://evilexample.org/", False),
        ("*.example.org", "https://a.example.org.evil.net/", False),
        ("*.example.org", "http://a.example.org/", False),
        ("*.example.org", "https://a.example.org:8443/", False),
        ("*.example.org", "s3://a.example.org", False),
    ],
)
def test_a_pattern_covers_every_notation_of_its_hosts_and_no_other(pattern, url, covered):
    assert HostPattern.read(pattern).covers(*origin_of(url)) is covered


LOGIN = '[login.x]\nhosts = ["h.example"]\n'
HEADER = LOGIN + 'kind = "header"\nname = "{}"\nvalue = "${{V}}"\n'
SAS = LOGIN + 'kind = "sas"\ntoken-url = "{}"\n'
GRANT = LOGIN + 'kind = "token"\nclient-id = "c"\ntoken-url = "{}"\nclient-secret = "${{S}}"\n'
VISIT = LOGIN + 'kind = "visit"\nlogin-host = "{}"\n'
NO_HOSTS = ("*", "a.*.org", "h?x", "ftp://h", "user@h", "https://", "*h.org", "a b.c", "a..b", ".a.b",
            "*.*.a.b", "h.example:0", "h.example:x", "http://[::1", "evil.com\uff0f.h.example", "a,b.c",
            "me:planted-secret@h.example", "https://h.example/p")  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a profile needs \[login.NAME\] or \[s3\]"),
        ("abuot = 'x'\n" + TOKEN, "line 1, abuot: there is no such key; did you mean about"),
        ("per-host = 0\n" + TOKEN, "line 1, per-host: must be a whole number of 1 or more"),
        ("check = 'https://x'\n" + TOKEN, "line 1, check: must be a list of texts"),
        ("login = 3\n", "line 1, login: must be a table"),
        (TOKEN.replace("bearer", "baerer"), "line 2, kind: must be one of"),
        ('[login.x]\nkind = "bearer"\ntoken = "${T}"\n', "x: a login needs the keys kind and hosts"),
        (LOGIN + 'kind = "basic"\nuser = "${U}"\n', "x: needs both user and password, or neither"),
        (LOGIN + 'kind = "query"\nname = "n"\n', "x: needs the key value"),
        (TOKEN + "tokne = 'x'\n", "line 5, tokne: there is no such key; did you mean token"),
        (TOKEN.replace('"h.example"', '"*.org"'), r"line 3, hosts: must be like .* not '\*.org'"),
        (TOKEN.replace('["h.example"]', "[]"), "hosts: must be a list of texts, like"),
        (TOKEN.replace("${T}", "planted-secret"), "line 4, token: must not contain a secret"),
        (
            LOGIN + 'kind = "basic"\nuser = "me"\npassword = "planted-secret"\n',
            "line 5, password: must not contain a secret",
        ),
        (
            LOGIN + 'kind = "query"\nname = "${N}"\nvalue = "${V}"\n',
            "line 4, name: must not contain a variable",
        ),
        (LOGIN + 'kind = "visit"\nlogin-host = true\n', "login-host: must be text in quotes"),
        ("[s3]\nacces-key = '${A}'\n", "line 2, acces-key: there is no such key; did you mean access-key"),
        ("[s3]\naccess-key = '${A}'\n", "s3: needs both access-key and secret-key, or neither"),
        ("[s3]\naccess-key = '${A}'\nsecret-key = 'planted-secret'\n", "secret-key: must not contain a"),
        ("[s3]\nendpoint-url = 'nowhere'\n", "line 2, endpoint-url: "),
        (TOKEN + "\n[s3\n", "is not valid TOML: .* .at line 6"),
        *((HEADER.format(name), "name: must be the name of a") for name in ("X Y", "X:Y", "Schlüssel")),
        (HEADER.format(""), "line 4, name: must not be empty"),
        *((HEADER.format(name), "controls the connection") for name in ("Host", "content-length", "Range")),
        (LOGIN + 'kind = "query"\nname = ""\nvalue = "${V}"\n', "line 4, name: must not be empty"),
        (TOKEN.replace("${T}", "planted-secret${T}"), "line 4, token: must not contain a secret"),
        (TOKEN.replace("${T}", "planted-secret=${T}"), "line 4, token: must not contain a secret"),
        (TOKEN.replace("${T}", "${T} planted-secret"), "line 4, token: must not contain a secret"),
        (HEADER.format("X").replace("${V}", "planted-secret9${V}"), "line 5, value: must not contain a sec"),
        (LOGIN + 'kind = "basic"\nuser = "planted-secret"\npassword = ""\n', "line 4, user: must not"),
        (LOGIN + 'kind = "basic"\nuser = "planted-secret${U}"\npassword = ""\n', "line 4, user: must not"),
        (TOKEN.replace("h.example", ""), "line 3, hosts: must not be empty"),
        *((TOKEN.replace("h.example", host), "line 3, hosts: must be like")
          for host in NO_HOSTS),
        (SAS.format("https://h/{accont}/{container}"), "token-url: must be like .* with only {account} and"),
        (SAS.format("https://h/{account}/{container"), "token-url: must be like .* with only {account} and"),
        (SAS.format("http://[::1/{account}"), "token-url: must be like https://host/path"),
        (SAS.format("ftp://h/{account}"), "token-url: must be like https://host/path"),
        (SAS.format("https://h/x") + 'key-header = "a b"\nkey = "${K}"\n', "key-header: must be the name"),
        (GRANT.format("https://me:planted-secret@h/t"), "token-url: must be like https://host/path"),
        (SAS.format("https://h/t") + 'token_url = "https://h/u"\n', "line 5, token_url: is set twice"),
        (GRANT.format("https://h/t") + 'password = "${P}"\n', "needs both user and password, or neither"),
        (VISIT.format("https://l.example") + 'user = "${U}"\n', "x: needs both user and password"),
        (VISIT.format("https://l.example/path"), "login-host: must be like"),
        (TOKEN.replace("[login.t]", 'check = ["file:///etc/passwd"]\n[login.t]'), "line 1, check: must be"),
        (TOKEN.replace("[login.t]", 'check = ["https://u:planted-secret@h/"]\n[login.t]'), "line 1, check"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_line_and_without_secrets(tmp_path, text, message):
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        find_profile(str(tmp_path / "p.toml"), {})
    assert "planted-secret" not in str(caught.value)
    assert "p.toml" in str(caught.value)
    assert str(caught.value)[-1] in ".?"


def test_the_documentation_lists_every_kind_key_and_shipped_profile() -> None:
    text = (ROOT / "docs" / "credentials.md").read_text()
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    for name in entry_points.names(KINDS):
        assert all(f"`{key}`" in rows[name] for key in keys_of(entry_points.load(KINDS, name))), name
    for state in listed({"XDG_CONFIG_HOME": "/nowhere"}):
        needed = re.findall(r"[A-Z0-9]+_[A-Z0-9_]+", state.needs)
        assert all(f"`{name}`" in rows[state.name] for name in needed), state.name
