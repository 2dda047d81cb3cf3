"""A cloud is one module and its entry points: `bins://`, a service like S3 with keys of its own."""

from pathlib import Path

import pytest
from tests.changed_copy import ChangedCopy, item_with
from tests.servers.buckets import Keys, client

BINS = """
import os

from obstore.store import S3Store

from stacpull_cloud.bucket_kinds import Service


class Bins(Service):
    scheme, variables, key_variables = "bins", ("BINS_",), ("BINS_KEY", "BINS_SECRET")

    def settings(self):
        endpoint = self.location.endpoint_url or os.environ["BINS_ENDPOINT"]
        keys = {"access_key_id": os.environ["BINS_KEY"], "secret_access_key": os.environ["BINS_SECRET"]}
        return S3Store, endpoint, {"endpoint": endpoint, "region": "us-east-1", **keys}
"""
REGISTERED = """
[stacpull.stores]
bins = bins:Bins
[stacpull.schemes]
bins = bins:Bins
"""


@pytest.mark.usefixtures("no_keys")
def test_a_cloud_is_source_and_dest(moto_service: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    url, variables = moto_service
    key, secret = variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]
    environ = {"BINS_ENDPOINT": url, "BINS_KEY": key, "BINS_SECRET": secret}
    copy = ChangedCopy(tmp_path)
    copy.install("bins", BINS, REGISTERED)
    s3 = client(url, Keys(key, secret))
    s3.create_bucket(Bucket="bins-source")
    s3.create_bucket(Bucket="bins-dest")

    def put(name: str, body: str) -> None:
        s3.put_object(Bucket="bins-source", Key=name, Body=body.encode())

    hrefs = {"a": "./a.bin", "b": "bins://bins-source/late/b.bin", "c": "bins://bins-source/folder/"}
    put("items/i.json", item_with({name: {"href": href} for name, href in hrefs.items()}))
    put("items/a.bin", "first")
    put("folder/c.bin", "listed")
    dest = ("bins://bins-dest/m", "--work", tmp_path / "work")
    mirror = ("mirror", "bins://bins-source/items/i.json", *dest, "--expand-prefix", "--max-failures", "0")
    ran = copy.run(*mirror, **environ)
    assert (ran.code, "to resume:" in ran.err + ran.out) == (1, True), ran.err
    resumed = copy.run("resume", *dest, "--json", **environ)
    assert (resumed.report["state"], resumed.report["assets_failed"]) == ("complete", 1), resumed.err
    put("late/b.bin", "second")
    assert copy.run("retry", *dest, **environ).code == 0
    verified = copy.run("verify", *dest, "--strict", "--json", **environ)
    assert (verified.code, verified.report["damaged"]) == (0, 0), verified.err
    listed = s3.list_objects_v2(Bucket="bins-dest", Prefix="m/c/i/")["Contents"]
    assert [one["Key"] for one in listed] == [
        f"m/c/i/{name}" for name in ("a.bin", "b.bin", "c/c.bin", "i.json")
    ]
    assert s3.get_object(Bucket="bins-dest", Key="m/c/i/b.bin")["Body"].read() == b"second"
    s3.close()
    refused = copy.run(*mirror[:2], "bins://no-bucket/m", "--work", tmp_path / "other", **environ)
    assert "There is no bucket no-bucket" in refused.err
    unsupported = copy.run("mirror", "tins://bins-source/i.json", tmp_path / "m")
    assert "unsupported URL scheme tins" in unsupported.err
