from pathlib import Path

import pytest
from tests.logins.services import basic

from stacpull.config.options import Options, S3Options
from stacpull.config.resolve import resolve
from stacpull.config.toml import read_config
from stacpull.errors import CredentialsError, UsageError
from stacpull.redact import Secret
from stacpull_logins.activation import Activation
from stacpull_logins.logins import BearerToken, FilledProfile, UserPassword
from stacpull_logins.profiles import listed, profile_options
from stacpull_logins.tokens import SasTokens, TokenGrant
from stacpull_logins.visit import Visit

ALONE = {"XDG_CONFIG_HOME": "/nowhere", "NETRC": "/nowhere"}
"""An environment without files of the user."""


def options_in(environ: dict[str, str], **flags: str) -> Options:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.environ", environ)
        return resolve(flags, config=read_config(flags.get("config"))).options


def provider_of(name: str, **environ: str) -> FilledProfile:
    found = profile_options(Options(), name, {**ALONE, **environ}).filled_profile
    assert found is not None
    return found


def test_logins_of_the_shipped_profiles(tmp_path: Path) -> None:
    (netrc := tmp_path / "netrc").write_text("machine urs.earthdata.nasa.gov login u password p\n")
    (unkeyed,) = provider_of("planetary-computer").logins
    assert type(unkeyed.kind) is SasTokens
    keyed = provider_of("planetary-computer", PC_SDK_SUBSCRIPTION_KEY="abc").logins[0].kind
    assert isinstance(keyed, SasTokens)
    assert keyed.key == Secret("abc")
    (cdse,) = provider_of("cdse", CDSE_USERNAME="u", CDSE_PASSWORD="p").logins
    assert isinstance(cdse.kind, TokenGrant)
    assert (cdse.kind.user, cdse.kind.password) == (Secret("u"), Secret("p"))
    assert cdse.kind.secrets == [Secret("p")]
    token = provider_of("earthdata", EARTHDATA_TOKEN="t").logins
    assert [one.kind for one in token] == [BearerToken(Secret("t"))]
    (account,) = provider_of("earthdata", EARTHDATA_USERNAME="u", EARTHDATA_PASSWORD="q").logins
    assert (type(account.kind), account.kind.headers) == (Visit, {"Authorization": Secret(basic("u", "q"))})
    (entry,) = provider_of("earthdata", NETRC=str(netrc)).logins
    assert (type(entry.kind), entry.kind.headers) == (Visit, {"Authorization": Secret(basic("u", "p"))})
    assert entry.sources == (str(netrc),)
    (planet,) = provider_of("planet", PL_API_KEY="k").logins
    assert planet.kind == Activation(path="/data/v1/assets/", user=Secret("k"), every=10, patience=1800)
    assert Secret("k") in planet.kind.secrets  # without a password, the user is the secret


def test_the_first_complete_login_is_used() -> None:
    found = provider_of("earthdata", EARTHDATA_TOKEN="t", EARTHDATA_USERNAME="u", EARTHDATA_PASSWORD="p")
    login = found.login_for("https", "data.lpdaac.earthdatacloud.nasa.gov", 443)
    other = found.login_for("https", "e4ftl01.cr.usgs.gov", 443)
    assert login is not None
    assert other is not None
    assert (type(login.kind), type(other.kind)) == (BearerToken, Visit)
    assert found.login_for("https", "example.org", 443) is None


@pytest.mark.parametrize(
    ("name", "environ", "message"),
    [
        ("cdse", {}, "set CDSE_USERNAME and CDSE_PASSWORD, or CDSE_S3_ACCESS_KEY and CDSE_S3_SECRET_KEY"),
        ("cdse", {"CDSE_USERNAME": "planted"}, "set CDSE_USERNAME and CDSE_PASSWORD"),
        ("earthdata", {}, "EARTHDATA_TOKEN, or .* entry of urs.earthdata.nasa.gov in ~/.netrc"),
        ("planet", {"PL_API_KEY": ""}, "set PL_API_KEY"),
    ],
)
def test_missing_variables_are_reported_without_values(name, environ, message):
    with pytest.raises(CredentialsError, match=message) as caught:
        provider_of(name, **environ)
    assert "planted" not in str(caught.value)


def test_s3_settings_come_from_the_profile_unless_set() -> None:
    environ = {**ALONE, "CDSE_S3_ACCESS_KEY": "a", "CDSE_S3_SECRET_KEY": "s"}
    found = profile_options(Options(), "cdse", environ)
    assert found.s3.endpoint_url == "https://eodata.dataspace.copernicus.eu"
    assert found.s3.keys == (Secret("a"), Secret("s"))
    assert found.credential_names == ("--credentials cdse",)
    given = profile_options(Options(s3=S3Options(endpoint_url="https://own")), "cdse", environ)
    assert given.s3.endpoint_url == "https://own"
    usgs = profile_options(Options(), "usgs", ALONE).s3
    assert (usgs.request_payer, usgs.region, usgs.buckets) == (True, "us-west-2", ("usgs-landsat",))


def test_the_option_accepts_a_profile_or_an_aws_profile(tmp_path: Path) -> None:
    (files := tmp_path / "aws").write_text("[work]\n")
    environ = {**ALONE, "PL_API_KEY": "k", "AWS_SHARED_CREDENTIALS_FILE": str(files)}
    mine = options_in(environ, credentials="planet")
    assert (mine.filled_profile and mine.filled_profile.name, mine.s3.profile) == ("planet", None)
    both = options_in({**environ, "AWS_PROFILE": "work"}, credentials="planet")
    assert (both.filled_profile and both.filled_profile.name, both.s3.profile) == ("planet", "work")
    aws = options_in(environ, credentials="work")
    assert (aws.filled_profile, aws.s3.profile) == (None, "work")
    of_aws = options_in({**environ, "AWS_PROFILE": "planet"})
    assert (of_aws.filled_profile, of_aws.s3.profile) == (None, "planet")
    (config := tmp_path / "c.toml").write_text('credentials = "planet"\n')
    filed = options_in(environ, config=str(config))
    assert filed.filled_profile == mine.filled_profile
    named = options_in({**environ, "STACPULL_CREDENTIALS": "planet"})
    assert named.filled_profile == mine.filled_profile


def test_a_misspelt_profile_is_rejected(tmp_path: Path) -> None:
    (config := tmp_path / "config").write_text(
        "[default]\n[profile cdsex]\n[profile 'a b']\n[services local]\n[other]\n"
    )
    (keys := tmp_path / "credentials").write_text("[work]\n[profile-2]\n")
    environ = {**ALONE, "AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(keys)}
    theirs = ["default", "cdsex", "a b", "work", "profile-2"]
    for name in theirs:
        assert options_in(environ, credentials=name).s3.profile == name
    shipped = "Profiles: cdse, earth-search, earthdata, planet, planetary-computer, usgs."
    for name, hint in [("plannet", "; did you mean planet?"), ("local", "."), ("other", ".")]:
        with pytest.raises(UsageError) as caught:
            options_in(environ, credentials=name)
        aws = ", ".join(theirs)
        assert str(caught.value) == (
            f"There is no credential profile {name}{hint} {shipped} Profiles of the AWS tools: {aws}."
        )


NETRC = """
default login d password planted-default
machine a.example.org login ua password pa
machine Z.Assets.Example.org login uz password pz
machine other.net login uo password planted-other
machine data.example.org login ud
"""


def test_netrc_entries_are_used_only_for_hosts_of_the_profile(tmp_path: Path) -> None:
    (netrc := tmp_path / "netrc").write_text(NETRC)
    path = tmp_path / "p.toml"
    path.write_text('[login.n]\nkind = "netrc"\nhosts = ["data.example.org", "a.example.org", '
                    '"*.assets.example.org"]\n')  # fmt: skip
    found = provider_of(str(path), NETRC=str(netrc)).logins
    assert {one.hosts[0].host: one.kind for one in found} == {
        "a.example.org": UserPassword(Secret("ua"), Secret("pa")),
        "z.assets.example.org": UserPassword(Secret("uz"), Secret("pz")),
    }


def test_an_invalid_netrc_file_is_reported_without_its_content(tmp_path: Path) -> None:
    (netrc := tmp_path / "netrc").write_text("machine h.example\nlogin u planted-password\n")
    with pytest.raises(CredentialsError, match=r"a valid netrc file, which .*netrc is not") as caught:
        provider_of("earthdata", NETRC=str(netrc))
    assert "planted" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("broken", [b"machine h.example\nlogin u planted-password\n", None, b"\xff\xfe"])
def test_an_invalid_netrc_file_does_not_affect_other_logins(tmp_path: Path, broken: bytes | None) -> None:
    netrc = tmp_path / "netrc"
    if broken is None:
        netrc.mkdir()
    else:
        netrc.write_bytes(broken)
    environ = {"NETRC": str(netrc)}
    logins = provider_of("earthdata", EARTHDATA_TOKEN="t", **environ).logins
    assert [type(login.kind) for login in logins] == [BearerToken]
    states = {one.name: one for one in listed({**ALONE, **environ, "PL_API_KEY": "k"})}
    assert states["planet"].ready
    assert (states["earthdata"].ready, states["cdse"].problem) == (False, "")
    assert str(netrc) in states["earthdata"].needs
    assert "planted" not in states["earthdata"].needs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('kind = "bearer"\ntoken = "${T}"\n', "token: its value contains a line break"),
        ('kind = "token"\ntoken-url = "ftp://x"\nclient-id = "${OK}"\n', "token-url: must be like https"),
        ('kind = "visit"\nlogin-host = "*"\n', "login-host: must be like"),
        (
            'kind = "activation"\npath = "/"\nuser = "${OK}"\npassword = ""\nevery = -1\n',
            "every: must be a n",
        ),
    ],
)
def test_an_unusable_value_is_reported_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text('[login.x]\nhosts = ["h.example"]\n' + text)
    with pytest.raises(UsageError, match=message) as caught:
        provider_of(str(path), T="planted\r\nX: 1", OK="ok")
    assert "planted" not in str(caught.value)
