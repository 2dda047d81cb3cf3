"""A run into a bucket trusts the authorities of the system, and no copy of the ledger that is a bomb."""

import gzip
import json
from contextlib import closing
from pathlib import Path

import pytest
from tests.acceptance.command import environment, run
from tests.items import feature
from tests.security.authority import Authority
from tests.servers.buckets import REGION, Keys, client
from tests.servers.valve import Valve

from stacpull.errors import DestinationError
from stacpull.models import BucketLocation
from stacpull.store.inspection import WaitHooks
from stacpull_cloud.objects import Objects

KEYS = Keys("AKIDEXAMPLE", "example-secret")


@pytest.fixture(scope="module")
def port(moto_service: tuple[str, dict[str, str]]) -> int:
    with closing(client(moto_service[0], KEYS)) as s3:
        s3.create_bucket(Bucket="trusted")
    return int(moto_service[0].rpartition(":")[2])


def mirror(place: Path, url: str, **variables: str):
    place.joinpath("a.txt").write_text("data")
    place.joinpath("item.json").write_text(json.dumps(feature("one", {"a": "./a.txt"})))
    bucket = ["s3://trusted/" + place.name, "--work", str(place / "work"), "--dest-region", REGION]
    command = ["mirror", str(place / "item.json"), *bucket, "--dest-endpoint-url", url, "--retries", "0"]
    return run(command, environment(**KEYS.environment(), **variables))


@pytest.mark.parametrize(("trusted", "code"), [(True, 0), (False, 5)])
def test_the_authorities_of_the_system_are_trusted(tmp_path, port, authority, trusted, code):
    """As for SOURCE, those in SSL_CERT_FILE."""
    known = authority if trusted else Authority(tmp_path / "other")
    with Valve(port, tls=authority.server("127.0.0.1")) as gate:
        ran = mirror(tmp_path, gate.url(""), SSL_CERT_FILE=str(known.bundle))
    assert ran.code == code, ran.err
    assert trusted or "is not trusted" in ran.err


def test_a_service_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stacpull_cloud.objects._SHORT_RETRY_SECONDS", 1.0)  # nothing has answered yet
    monkeypatch.setattr("stacpull_cloud.objects._SILENT_AFTER", 0.0)
    for name, value in KEYS.environment().items():
        monkeypatch.setenv(name, value)
    said: list[str] = []
    location = BucketLocation("bucket", "p", endpoint_url="http://127.0.0.1:1", region=REGION)
    why = "s3://bucket/p cannot be reached at http://127.0.0.1:1: Connection refused"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    advice = r"Check --dest-endpoint-url \(from AWS_ENDPOINT_URL_S3\) and the network\."
    with pytest.raises(DestinationError, match=f"^{why}. {advice}$"):
        list(Objects(location, WaitHooks(said.append)).pages())
    assert said == [f"{why}; still trying."]


def test_a_copy_of_the_ledger_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, port: int) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    name = f"{tmp_path.name}/.stacpull/ledger.sqlite.gz"
    with closing(client(f"http://127.0.0.1:{port}", KEYS)) as s3:
        s3.put_object(Bucket="trusted", Key=name, Body=bomb, Metadata={"stacpullepoch": "9"})
    ran = mirror(tmp_path, f"http://127.0.0.1:{port}")
    assert ran.code == 5, ran.err
    assert "it unpacks to too many bytes" in ran.err
    assert sum(path.stat().st_size for path in (tmp_path / "work").rglob("*") if path.is_file()) < 16 << 20
