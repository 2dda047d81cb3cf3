"""A cloud is a module, two entry points and a line of `schemes.py`: here, S3 under another name."""

import uuid
from contextlib import closing
from pathlib import Path

from tests.changed_copy import ChangedCopy, item_with
from tests.servers.buckets import Keys, client

BASIN = """
import os

from msgspec.structs import replace

from stacpull_cloud.bucket_kinds import AmazonS3
from stacpull_cloud.cloud_source import CloudScheme


class Basin(AmazonS3):
    scheme = "basin"
    variables = ("AWS_", "BASIN_")

    @classmethod
    def resolved(cls, location):
        return super().resolved(replace(location, endpoint_url=os.environ["BASIN_URL"]))


BASIN = CloudScheme(Basin)
"""
ENTRY_POINTS = "[stacpull.stores]\nbasin = basin:Basin\n[stacpull.schemes]\nbasin = basin:BASIN\n"
LINE = '        Scheme(name="basin", is_encrypted=True, is_object_store=True),\n'


def test_a_cloud_is_a_source_and_a_dest(tmp_path: Path, moto_service: tuple[str, dict[str, str]]) -> None:
    copy = ChangedCopy(tmp_path / "copy")
    copy.insert("schemes.py", LINE, before='Scheme(name="gs"')
    copy.add("../basin.py", BASIN)
    copy.add("../basin-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: basin\nVersion: 1.0\n")
    copy.add("../basin-1.0.dist-info/entry_points.txt", ENTRY_POINTS)
    url, variables = moto_service
    bucket = uuid.uuid4().hex
    with closing(client(url, Keys(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]))) as s3:
        s3.create_bucket(Bucket=bucket)
        for key in ("in/a.bin", "in/b/1.bin", "in/b/2.bin"):
            s3.put_object(Bucket=bucket, Key=key, Body=key.encode())

        def output(*arguments: str | Path) -> str:
            ran = copy.run(*arguments, **variables, BASIN_URL=url)
            assert ran.code == 0, ran.out + ran.err
            return ran.out

        dest = (f"basin://{bucket}/out", "--work", tmp_path / "work")
        item = tmp_path / "item.json"
        item.write_text(item_with({"a": {"href": f"basin://{bucket}/in/a.bin"}}))
        output("mirror", item, *dest)
        hrefs = {"a": {"href": f"basin://{bucket}/in/a.bin"}, "b": {"href": f"basin://{bucket}/in/b/"}}
        item.write_text(item_with(hrefs))
        output("mirror", item, *dest, "--expand-prefix")
        assert "OK, 6 files verified" in output("verify", *dest)
        output("resume", *dest)
        stored = s3.list_objects_v2(Bucket=bucket, Prefix="out/c/i/")["Contents"]
        found = {each["Key"]: s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in stored}
    del found["out/c/i/i.json"]
    assert sorted(found.values()) == [b"in/a.bin", b"in/b/1.bin", b"in/b/2.bin"]
