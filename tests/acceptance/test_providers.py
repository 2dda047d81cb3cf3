"""Mirrors of sources whose assets are on hosts that require a login, by profiles as users write them.

Each provider is played over real sockets as it was recorded (protocols/providers.md, data/stac). After each
run, DEST and the requests to other hosts are searched for every secret that a service issued or required.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.events import stopping_at
from tests.logins.services import DATA, Blobs, DataCentre, Downloads, Identity, PlanetApi, Signing, Urs, basic
from tests.net.memory import Answer
from tests.net.wire_server import text_of
from tests.security.secrets import found_in, found_under
from tests.security.sources import Source, feature

from stacpull import CredentialsError, MirrorReport, Options
from stacpull.events import Notice, RunStarted
from stacpull.sync import mirror, resume
from stacpull_logins.profiles import profile_options
from stacpull_replicas import MemoryStore, S3Access, S3Replica, run_in_thread


@dataclass
class World:
    """A source with assets on hosts of a provider."""

    tmp_path: Path
    stack: ExitStack
    other: Source
    """A host without a login: it answers everything, and its requests are inspected."""
    source: Source
    services: list[Any] = field(default_factory=list)
    events: list[object] = field(default_factory=list)

    def open(self, *services: Any) -> None:
        self.services += [self.stack.enter_context(service) for service in services]

    def mirror(self, hrefs: Mapping[str, str], profile: str, **environ: str) -> MirrorReport:
        """Mirror one item of these assets with a profile of this text."""
        return self.mirror_with(hrefs, self.options(profile, **environ))

    def mirror_with(self, hrefs: Mapping[str, str], options: Options) -> MirrorReport:
        self.source.features = [feature("item", hrefs)]
        try:
            return mirror(self.source.api, self.dest, options=options, on_event=self.events.append)
        finally:
            self.assert_clean()

    def options(self, profile: str, **environ: str) -> Options:
        path = self.tmp_path / "provider.toml"
        path.write_text(profile)
        return profile_options(Options(retries=0), str(path), {"HOME": str(self.tmp_path), **environ})

    @property
    def dest(self) -> Path:
        return self.tmp_path / "mirror"

    def assert_clean(self) -> None:
        """No secret in DEST, none sent to the source or the other host."""
        secrets = [secret for service in self.services for secret in getattr(service, "secrets", [])]
        assert found_under(self.dest, secrets) == []
        assert found_in(text_of([*self.source.requests, *self.other.requests]), secrets) == []

    def files(self) -> dict[str, bytes]:
        found = self.dest.glob("c/item/*")
        return {path.name: path.read_bytes() for path in found if path.name != "item.json"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Source(others=lambda _: Answer(body=DATA)) as other, Source() as source, ExitStack() as stack:
        yield World(tmp_path, stack, other, source)


SAS = """
[login.subscription]
kind = "sas"
hosts = ["{blobs}"]
token-url = "{signing}/api/sas/v1/token/{{account}}/{{container}}"
key-header = "Ocp-Apim-Subscription-Key"
key = "${{SUBSCRIPTION}}"

[login.anonymous]
kind = "sas"
hosts = ["{blobs}"]
token-url = "{signing}/api/sas/v1/token/{{account}}/{{container}}"
"""


def test_planetary_computer_urls_are_signed_and_signatures_not_stored(world):
    signing = Signing()
    blobs = Blobs(signing, world.other.url("/elsewhere"))
    world.open(signing, blobs)
    signing.throttled = 2
    hrefs = {f"b{n}": blobs.url(f"/data/{n}.tif") for n in range(12)}
    hrefs |= {"p": blobs.url("/public/x.tif"), "m": blobs.url("/data/moved")}
    report = world.mirror(hrefs, SAS.format(blobs=blobs.url(""), signing=signing.url("")))
    assert (report.assets_done, report.assets_failed) == (14, 0)
    waits = [one.text for one in world.events if isinstance(one, Notice) and "Waiting" in one.text]
    assert len(waits) == 1
    assert "for the login, again in 1 s: 127.0.0.1:" in waits[0]
    assert signing.given == 1  # one for the container, after two 429s; none for what it does not know
    assert [one.target for one in world.other.requests] == ["/elsewhere"]
    assert all(content == DATA for content in world.files().values())
    assert blobs.url("/data/1.tif") in (world.dest / "c/item/item.json").read_text()


GRANT = """
[login.token]
kind = "token"
hosts = ["{downloads}"]
token-url = "{identity}/token"
client-id = "cdse-public"
user = "${{USER_NAME}}"
password = "${{USER_WORD}}"
"""
ACCOUNT = {"USER_NAME": "planted-user", "USER_WORD": "planted+pass/word"}


def copernicus(world: World) -> tuple[Identity, Downloads, str]:
    identity = Identity()
    downloads = Downloads(identity, world.other.url("/zipper"))
    world.open(identity, downloads)
    return identity, downloads, GRANT.format(downloads=downloads.url(""), identity=identity.url(""))


def test_a_user_of_copernicus_gets_one_token_for_all_assets(world):
    identity, downloads, profile = copernicus(world)
    hrefs = {f"b{n}": downloads.url(f"/odata/v1/Products({n})/$value") for n in range(12)}
    hrefs["m"] = downloads.url("/moved")
    report = world.mirror(hrefs, profile, **ACCOUNT)
    assert (report.assets_done, identity.grants) == (13, ["password"])
    again = world.mirror(hrefs, profile, **ACCOUNT)  # nothing to fetch: no token
    assert (again.assets_skipped, identity.grants) == (13, ["password"])


def test_a_wrong_password_ends_the_run_with_3_before_anything_is_downloaded(world):
    identity, downloads, profile = copernicus(world)
    identity.secrets.append("planted-wrong-word")
    environ = {**ACCOUNT, "USER_WORD": "planted-wrong-word"}
    with pytest.raises(CredentialsError, match=r"Invalid user credentials.*USER_NAME and USER_WORD"):
        world.mirror({"a": downloads.url("/a")}, profile, **environ)
    assert not downloads.requests
    assert not world.dest.exists()


VISIT = """
[login.password]
kind = "visit"
hosts = ["{first}", "{second}"]
login-host = "{urs}"
"""


def earthdata(world: World) -> tuple[Urs, DataCentre, DataCentre, str]:
    urs = Urs()
    first = DataCentre(urs, world.other.url("/signed-bucket?X=1"))
    second = DataCentre(urs)
    world.open(urs, first, second)
    profile = VISIT.format(first=first.url(""), second=second.url(""), urs=urs.url(""))
    return urs, first, second, profile


ENTRIES = """
default login nobody password planted-default-word
machine 127.0.0.1 login planted-user password planted+pass/word
"""


def test_earthdata_is_logged_in_to_once_for_each_data_centre(world):
    urs, first, second, profile = earthdata(world)
    (world.tmp_path / "netrc").write_text(ENTRIES)
    hrefs = {f"b{n}": first.url(f"/granules/{n}.nc") for n in range(12)}
    hrefs |= {"m": first.url("/granules/moved"), "s": second.url("/granules/s.nc")}
    report = world.mirror(hrefs, profile, NETRC=str(world.tmp_path / "netrc"))
    assert (report.assets_done, report.assets_failed) == (14, 0)
    assert len([one for one in urs.requests if "authorization" in one.headers]) == 2
    assert all(content == DATA for content in world.files().values())
    for centre in (first, second):
        assert found_in(text_of(centre.requests), [urs.wanted.partition(" ")[2]]) == []


def test_without_a_login_the_page_of_earthdata_is_not_stored_as_an_asset(world):
    _, first, _, _ = earthdata(world)
    options = Options(retries=0)
    report = world.mirror_with({"a": first.url("/HLS.L30.B09.tif")}, options)
    assert (report.assets_done, report.assets_failed, world.files()) == (0, 1, {})


PLANET = """
[login.assets]
kind = "activation"
hosts = ["{api}"]
path = "/data/v1/assets/"
user = "${{PLANET_KEY}}"
password = ""
every = 0.01
patience = {patience}
"""


def planet(world: World, **how: Any) -> PlanetApi:
    api = PlanetApi(world.other.url("/data/v1/download"), **how)
    world.open(api)
    return api


def planet_profile(api: PlanetApi, patience: float = 20) -> str:
    return PLANET.format(api=api.url(""), patience=patience)


def test_an_asset_of_planet_is_activated_waited_for_and_fetched(world):
    api = planet(world)
    api.secrets.remove("planted-location-token")  # which is for the other host, and for nothing else
    hrefs = {f"a{n}": api.url(f"/data/v1/assets/QS{n}") for n in range(3)}
    report = world.mirror(hrefs, planet_profile(api), PLANET_KEY="planted-planet-key")
    assert (report.assets_done, report.assets_failed) == (3, 0)
    assert len([one for one in api.requests if one.target.endswith("/activate")]) == 3
    assert set(world.files().values()) == {DATA}
    assert found_under(world.dest, ["planted-location-token"]) == []


@pytest.mark.parametrize(
    ("how", "patience", "message"),
    [
        ({"looks": 10_000}, 0.1, "did not make the asset available"),
        ({"refuse": True}, 20, "No access to this asset"),
        ({"key": "another-key-of-planted"}, 20, "Please enter your API key"),
    ],
    ids=["never active", "activation refused", "wrong key"],
)
def test_an_unavailable_asset_of_planet_is_a_named_failure(world, how, patience, message):
    api = planet(world, **{name: value for name, value in how.items() if name != "refuse"})
    api.refuse_activation = bool(how.get("refuse"))
    hrefs = {"a": api.url("/data/v1/assets/QS")}
    report = world.mirror(hrefs, planet_profile(api, patience), PLANET_KEY="planted-planet-key")
    is_ordered = "looks" in how
    assert (report.assets_done, report.assets_failed, report.assets_ordered) == (0, 1, int(is_ordered))
    assert report.retries == 0
    assert message in (world.dest / ".stacpull/log.ndjson").read_text()


PLAIN = {
    "header": ('name = "X-API-Key"\nvalue = "${KEY}"', "x-api-key", "planted+key/word"),
    "bearer": ('token = "${KEY}"', "authorization", "Bearer planted+key/word"),
    "basic": ('user = "me"\npassword = "${KEY}"', "authorization", basic("me", "planted+key/word")),
    "query": ('name = "key"\nvalue = "${KEY}"', "", "key=planted%2Bkey%2Fword"),
    "netrc": ("", "authorization", basic("planted-user", "planted+pass/word")),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_plain_login_goes_to_its_host_and_not_across_a_redirect(world, kind):
    keys, field, wanted = PLAIN[kind]

    host = Source(others=lambda _: Answer(body=DATA))
    host.secrets = ["planted+key/word", "planted+pass/word"]
    moved = Answer(302, headers={"Location": world.other.url("/x?key=planted%2Bkey%2Fword&b=2")})
    host._turn = lambda requests: moved if "/moved" in requests.target else Answer(body=DATA)
    world.open(host)
    (world.tmp_path / "netrc").write_text(ENTRIES)
    profile = f'[login.own]\nkind = "{kind}"\nhosts = ["{host.url("")}"]\n{keys}\n'
    hrefs = {"a": host.url("/a"), "m": host.url("/moved"), "o": world.other.url("/o")}
    environ = {"KEY": "planted+key/word", "NETRC": str(world.tmp_path / "netrc")}
    if kind != "query":  # elsewhere the server returns something that it never received
        moved.headers["Location"] = world.other.url("/x?b=2")
    report = world.mirror(hrefs, profile, **environ)
    assert (report.assets_done, report.assets_failed) == (3, 0)
    assert len(host.requests) == 2
    for one in host.requests:
        assert (one.headers.get(field) if field else one.target.partition("?")[2]) == wanted
    assert "/x?b=2" in [one.target for one in world.other.requests]


def test_a_source_on_a_host_of_the_profile_is_logged_in_to_as_well(world):
    profile = f'[login.t]\nkind = "bearer"\nhosts = ["{world.source.url("")}"]\ntoken = "${{KEY}}"\n'
    report = world.mirror({"o": world.other.url("/o")}, profile, KEY="planted-token")
    assert report.assets_done == 1
    assert {one.headers.get("authorization") for one in world.source.requests} == {"Bearer planted-token"}
    assert found_in(text_of(world.other.requests), ["planted-token"]) == []


S3 = """
[s3]
endpoint-url = "{endpoint}"
region = "default"
request-payer = {pays}
access-key = "${{ACCESS}}"
secret-key = "${{SECRET}}"
"""


@pytest.mark.parametrize(("pays", "done"), [("true", 2), ("false", 0)])
def test_requests_to_a_custom_s3_endpoint_are_signed_and_paid_as_in_the_profile(world, pays, done):
    key = "Sentinel-2/MSI/L2A/2026/T55WFR_AOT_10m.jp2"
    store = MemoryStore({"eodata": {key: DATA, "b": DATA}})
    access = S3Access("PLANTEDACCESSKEY", "planted+secret/key", requester_pays=True)
    with run_in_thread(S3Replica(store=store, access=access, record=True)) as replica:
        profile = S3.format(endpoint=replica.s3_url, pays=pays)
        hrefs = {"a": f"s3://eodata/{key}", "b": "s3://eodata/b"}
        keys = {"ACCESS": "PLANTEDACCESSKEY", "SECRET": "planted+secret/key"}
        report = world.mirror(hrefs, profile, **keys)
        assert (report.assets_done, report.assets_failed) == (done, 2 - done)
        assert found_under(world.dest, keys.values()) == []
        assert "planted+secret" not in str([one.headers for one in replica.requests])


def test_a_run_that_was_started_with_a_profile_names_it_when_it_is_resumed_without(world):
    _, downloads, profile = copernicus(world)
    world.source.features = [feature("item", {"a": downloads.url("/a")})]
    started = world.options(profile, **ACCOUNT)
    report = mirror(world.source.api, world.dest, options=started, **stopping_at(RunStarted))
    assert report.state == "interrupted"
    with pytest.raises(CredentialsError, match=r"--credentials .*provider.toml"):
        resume(world.dest, options=Options())
    (world.tmp_path / "provider.toml").rename(world.tmp_path / "renamed.toml")
    environ = {"HOME": str(world.tmp_path), **ACCOUNT}
    renamed = str(world.tmp_path / "renamed.toml")
    options = profile_options(Options(), renamed, environ)
    assert resume(world.dest, options=options).assets_done == 1
