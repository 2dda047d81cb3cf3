"""How a user of each cloud logs in, and that no metadata service is asked without `--aws-metadata`."""

import base64
import json
import pwd
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest
from msgspec.structs import replace
from obstore.exceptions import PermissionDeniedError
from tests.acceptance.command import wait_until
from tests.cloud.azurite import ACCOUNT, KEY, create_container, sas
from tests.cloud.between import Google, between
from tests.items import feature
from tests.net.memory import Answer, Fault
from tests.net.wire_server import ReceivedRequest, WireServer, json_answer

from stacpull import Options, sync
from stacpull.engine.open_mirror import open_mirror
from stacpull.errors import CredentialsError, DestinationError, StacpullError, UsageError
from stacpull.models import BucketLocation
from stacpull.store.inspection import WaitHooks
from stacpull_cloud.bucket_kinds import AmazonS3, AzureBlobs
from stacpull_cloud.objects import Objects, as_stacpull_error

CLIENT = {"AZURE_CLIENT_ID": "me", "AZURE_CLIENT_SECRET": "secret", "AZURE_TENANT_ID": "tenant"}
MALFORMED = "<Code>AuthorizationHeaderMalformed</Code>"
ELSEWHERE = "<Message>the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message>"
pytestmark = pytest.mark.usefixtures("no_keys")


@pytest.mark.parametrize(
    "variables",
    [
        {"AZURE_STORAGE_ACCOUNT_KEY": KEY},
        {"AZURE_STORAGE_SAS_TOKEN": "?{sas}"},
        {"AZURE_STORAGE_CONNECTION_STRING": f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={{url}}"},
        {"AZURE_STORAGE_CONNECTION_STRING": "BlobEndpoint={url};SharedAccessSignature={sas}"},
    ],
    ids=["key", "signature", "connection string", "connection string with a signature"],
)
def test_ways_to_log_in_at_azure(azurite_service, monkeypatch, variables):
    url, _ = azurite_service
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(sas=sas(), url=url))
    create_container(url, bucket := f"login{abs(hash(str(variables)))}")
    endpoint = None if "BlobEndpoint" in str(variables) else url
    location = AzureBlobs.resolved(BucketLocation(bucket, "p", endpoint, scheme="az", account=ACCOUNT))
    assert Objects(location).put("a", b"data", {"stacpull": "x"}, create=True)
    assert Objects(location).read("a", 9)[1] == b"data"  # type: ignore[index] # it is there
    for name in variables:
        monkeypatch.delenv(name)
    with pytest.raises(StacpullError) as refused:  # anonymous
        Objects(replace(location, endpoint_url=url)).put("b", b"data", {}, create=True)
    assert "sig=" not in str(refused.value)


@pytest.mark.parametrize("url", ["az://bucket/p", "gs://bucket/p"])
def test_keys_that_cannot_be_read_are_named(monkeypatch, tmp_path, url):
    """As DEST and as SOURCE."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "no base64")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    why = "Invalid Access Key" if url.startswith("az") else "Unable to open service account file"
    (tmp_path / "item.json").write_text(json.dumps(feature("one", {})))
    work = Options(work=tmp_path / "work")
    for given in ((tmp_path / "item.json", url, work), (f"{url}/catalog.json", tmp_path / "m", Options())):
        with pytest.raises(CredentialsError, match=f"^The credentials for .* cannot be used: {why}"):
            sync.mirror(str(given[0]), given[1], options=given[2])


@pytest.mark.parametrize("is_named", [True, False], ids=["variable", "gcloud, empty variable"])
def test_a_service_account_of_google_signs_with_its_own_key(
    moto_service, google_account, monkeypatch, tmp_path, is_named
):
    if is_named:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(google_account))
    else:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
        (tmp_path / ".config" / "gcloud").mkdir(parents=True)
        usual = tmp_path / ".config" / "gcloud" / "application_default_credentials.json"
        usual.write_bytes(google_account.read_bytes())
    with between(Google(moto_service[0])) as google:
        assert Objects(BucketLocation("nothing", "p", google.url, scheme="gs")).find("a") is None
    (sent,) = google.authorizations
    claims = json.loads(base64.urlsafe_b64decode(str(sent).split(".")[1] + "=="))
    assert claims["iss"] == "me@example.org"


class Recorder(WireServer):
    """A service, a token service, a metadata service and a proxy."""

    def __init__(self) -> None:
        super().__init__({})
        self.refusal = Answer(403)

    def sent(self) -> list[tuple[str, str | None]]:
        """Return what was requested, with the host if a proxy is meant, and the field `Authorization`."""
        return [(request.target, request.headers.get("authorization")) for request in self.requests]

    def _turn(self, request: ReceivedRequest) -> Answer:
        token = {"access_token": "given", "token_type": "Bearer", "expires_in": 3600}
        return (
            json_answer({**token, "expires_on": "4000000000"}) if "token" in request.target else self.refusal
        )


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """It is the proxy of what does not go to loopback: nothing can connect to a metadata service."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with Recorder() as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, server.url(""))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1")
        yield server


def written(recorder: Recorder, scheme: str, **options: bool) -> list[tuple[str, str | None]]:
    """Return the requests of a write, which is refused."""
    location = BucketLocation("bucket", "p", recorder.url(""), scheme=scheme, account="own1", **options)
    advice = "use --aws-metadata" if scheme == "gs" and not options else "credentials"
    with pytest.raises(CredentialsError, match=advice):
        Objects(location).put("a", b"data", {}, create=True)
    return recorder.sent()


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_metadata_services_are_asked_only_with_the_option(recorder: Recorder, scheme: str) -> None:
    assert [path for path, sent in written(recorder, scheme) if sent or "bucket" not in path] == []
    recorder.requests.clear()
    asked, *others = written(recorder, scheme, metadata=True)
    assert asked[0].startswith(("http://169.254.169.254/", "http://metadata.google.internal/"))
    assert [sent for _, sent in others] == ["Bearer given"]


def test_a_user_without_a_home_directory_has_no_login_of_gcloud(recorder, monkeypatch):
    """As in a container whose user has no entry in the password file."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert {sent for _, sent in written(recorder, "gs")} <= {None}


@pytest.mark.parametrize(
    "given", [*([name] for name in CLIENT), list(CLIENT)[:2], list(CLIENT)[::2], list(CLIENT)]
)
def test_a_client_of_azure_signs_only_if_it_is_complete(recorder, monkeypatch, given):
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", recorder.url(""))
    monkeypatch.setenv("AZURE_USE_AZURE_CLI", "False")  # as if it was not set
    for name in given:
        monkeypatch.setenv(name, CLIENT[name])
    *asked, last = written(recorder, "az")
    complete = len(given) == len(CLIENT)
    assert [path for path, _ in asked] == (["/tenant/oauth2/v2.0/token"] if complete else [])
    assert last[1] == ("Bearer given" if complete else None)


def test_no_request_to_the_account_of_others_is_signed(recorder, monkeypatch):
    keys = {"AZURE_STORAGE_ACCOUNT_KEY": KEY, "AZURE_STORAGE_SAS_TOKEN": "sig=planted"}
    for name, value in {**keys, **CLIENT, "AZURE_USE_AZURE_CLI": "1"}.items():
        monkeypatch.setenv(name, value)
    location = BucketLocation(
        "c", "", recorder.url(""), scheme="az", account="other1", metadata=True, is_signed=False
    )
    with pytest.raises(PermissionDeniedError):
        obstore.get(AzureBlobs(location).store, "k")
    assert recorder.sent() == [("/c/k", None)]


@pytest.mark.parametrize(
    "setting",
    [
        "ACCOUNT_NAME=own1",
        "CONNECTION_STRING=AccountName=own1",
        "CONNECTION_STRING=BlobEndpoint={url}/own1",
        "CONNECTION_STRING=BlobEndpoint=http://own1.blob.localhost:1",
        "CONNECTION_STRING=AccountName=other1;EndpointSuffix=core.chinacloudapi.cn",
    ],
)
def test_no_keys_of_one_account_are_sent_to_another_one_in_dest(recorder, monkeypatch, tmp_path, setting):
    name, _, value = setting.format(url=recorder.url("")).partition("=")
    monkeypatch.setenv(f"AZURE_STORAGE_{name}", value)
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sig=planted")
    (tmp_path / "item.json").write_text(json.dumps(feature("one", {})))
    dest, options = "abfs://cont@other1.dfs.core.windows.net/p", Options(work=tmp_path / "work")
    with pytest.raises(UsageError, match=r"name different accounts: other1, .*core\.\w+\.\w+\. Use the"):
        sync.mirror(str(tmp_path / "item.json"), dest, options=options)
    assert recorder.sent() == []


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (301, "<Code>PermanentRedirect</Code>", DestinationError, "another region: name it with --dest"),
        (400, MALFORMED + ELSEWHERE, DestinationError, "another region: name it with --dest-region"),
        (400, "the region is wrong", DestinationError, "another region: name it with --dest-region"),
        (400, MALFORMED, CredentialsError, "check --dest-region, then the keys"),
        (403, "<Code>RequestTimeTooSkewed</Code>", CredentialsError, "correct the clock here"),
        (
            403,
            "<Code>QuotaExceeded</Code>",
            DestinationError,
            r"\(QuotaExceeded\): check the bucket, its quota",
        ),
        (400, "", CredentialsError, "refuses the credentials to look at a"),  # a HEAD with expired keys
        (403, "<Code>InvalidAccessKeyId</Code>", CredentialsError, "--dest-profile sets keys for DEST only"),
        (403, "", CredentialsError, r"DEST is at \S+ \(from AWS_ENDPOINT_URL\): --dest-endpoint-url"),
    ],
)
def test_a_refusal_is_a_matter_of_the_region_or_of_the_keys(
    recorder, status, body, error, message, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", recorder.url(""))
    recorder.refusal = Answer(status, f"<Error>{body}</Error>".encode())
    objects = Objects(BucketLocation("bucket", "p", recorder.url("")))
    with pytest.raises(error, match=message):
        objects.find("a") if (status, body) == (400, "") else list(objects.pages())
    refused = as_stacpull_error(AmazonS3(BucketLocation("bucket")), "list", "", OSError("status code: 403"))
    assert str(refused).endswith("DEST is at the usual endpoint: --dest-endpoint-url names another.")


@pytest.mark.parametrize(("status", "error"), [(403, CredentialsError), (503, DestinationError)])
def test_a_removal_at_azure_has_the_status_of_its_part_of_the_answer(recorder, monkeypatch, status, error):
    monkeypatch.setattr("stacpull_cloud.objects._RETRY_SECONDS", 1.0)
    part = f"Content-Type: application/http\r\nContent-ID: 0\r\n\r\nHTTP/1.1 {status} Because\r\n\r\n\r\n"
    recorder.refusal = Answer(
        202, f"--b\r\n{part}--b--\r\n".encode(), {"Content-Type": "multipart/mixed; boundary=b"}
    )
    objects = Objects(BucketLocation("bucket", "p", recorder.url(""), scheme="az", account="own1"))
    with pytest.raises(error, match=rf"to remove a \({status}\)"):
        objects.remove("a")
    assert (len(recorder.requests) > 1) is (status == 503)


@pytest.mark.parametrize(
    ("scheme", "host"),
    [("s3", "amazonaws.com"), ("gs", "storage.googleapis.com"), ("az", "own1.blob.core.windows.net")],
)
def test_a_service_is_asked_without_the_proxy_if_no_proxy_names_it(recorder, monkeypatch, scheme, host):
    endpoint = f"https://{host}" if scheme == "az" else None
    location = BucketLocation("bucket", "p", endpoint, "eu-west-1", scheme, account="own1")
    assert "proxy_url" in Objects(location).service.store.client_options
    monkeypatch.setenv("no_proxy", host)
    assert "proxy_url" not in Objects(location).service.store.client_options


@pytest.mark.parametrize("content", ["none", "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----"])
def test_authorities_that_cannot_be_read_are_named(recorder: Recorder, content: str, tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_text(content)
    location = BucketLocation("bucket", "p", recorder.url(""), ca_bundle=str(tmp_path / "own.pem"))
    with pytest.raises(UsageError, match=r"own\.pem cannot be read: "):
        Objects(location).find("a")


def test_an_outage_or_a_stop_ends_the_patience_of_all_requests(recorder, monkeypatch, tmp_path):
    """The last requests of a run that a signal ends would otherwise take two minutes each."""
    monkeypatch.setattr("stacpull_cloud.objects._RETRY_SECONDS", 2.0)
    monkeypatch.setattr("stacpull_cloud.objects._SILENT_AFTER", 0.0)
    said = list[str]()
    objects = Objects(BucketLocation("bucket", "p", recorder.url("")), WaitHooks(said.append))

    def tried() -> int:
        recorder.requests.clear()
        recorder.refusal = Answer(503)
        with pytest.raises(DestinationError):
            objects.find("a")
        return len(recorder.requests)

    assert tried() > 2
    assert said == ["s3://bucket/p answers 503; still trying."]
    recorder.refusal = Answer(fault=Fault.CLOSED)
    with pytest.raises(DestinationError, match=r"does not answer at http://127\.0\.0\.1:\d+\. Check --dest-"):
        objects.find("a")
    assert wait_until(lambda: tried() == 1)  # it ends before a pause that would exceed it
    recorder.refusal = Answer(404)
    assert objects.find("a") is None
    assert tried() > 2
    monkeypatch.setattr("stacpull_cloud.objects._SHORT_RETRY_SECONDS", 0.0)
    recorder.requests.clear()
    opening = open_mirror(tmp_path / "new", objects.location, WaitHooks(is_stopped=lambda: True))
    with pytest.raises(DestinationError), opening:
        pass
    assert len(recorder.requests) == 1


def test_a_login_of_gcloud_asks_google_for_a_token(recorder, monkeypatch, tmp_path):
    login = {"type": "authorized_user", "client_id": "me", "client_secret": "s", "refresh_token": "r"}
    (tmp_path / "login.json").write_text(json.dumps(login))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "login.json"))
    monkeypatch.setattr("stacpull_cloud.objects._SHORT_RETRY_SECONDS", 0.0)
    location = BucketLocation("bucket", "p", recorder.url(""), scheme="gs")
    with pytest.raises(StacpullError):  # the proxy lets nothing out
        Objects(location).put("a", b"data", {}, create=True)
    assert {path for path, _ in recorder.sent()} == {"accounts.google.com:443"}


def test_many_threads_read_keys_that_must_be_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads of uploads and of `verify` share the keys, and each awaits them on a loop of its own."""
    keys = {"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "s", "SessionToken": "t"}
    expired = tmp_path / "keys.json"
    expired.write_text(
        json.dumps({**keys, "Expiration": (datetime.now(UTC) + timedelta(minutes=5)).isoformat()})
    )
    settings = tmp_path / "config"
    settings.write_text(f"[profile short]\ncredential_process = cat {expired}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(settings))
    service = AmazonS3(BucketLocation("bucket", profile="short"))
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: service.secrets, range(40)))
    assert [[key.reveal() for key in one] for one in found] == [["a", "s", "t"]]
