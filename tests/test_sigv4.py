"""Our signatures against botocore's, over random requests."""

from __future__ import annotations

import string

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.utils import percent_encode
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.examples import examples

from stacpull.sigv4 import Credentials, encode_key, signed_fields

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
ODD_KEYS = [
    "a b",
    "a%20b",
    "a//b",
    "../../x",
    "$value",
    "it's (1)+2=3",
    "día/日本/🛰.tif",
    "a;b?c#d&e",
    "~.-_",
    "%",
]

keys = st.one_of(st.sampled_from(ODD_KEYS), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
tokens = st.none() | st.text(string.ascii_letters + "/+=", min_size=1)
regions = st.sampled_from(["us-east-1", "eu-central-1", "cn-north-1", "default"])
hosts = st.sampled_from(["b.s3.eu-central-1.amazonaws.com", "localhost:9000", "s3.example"])
values = st.text(string.ascii_letters + string.digits + ' ";=,/-*', min_size=1).filter(str.strip)
header_names = st.sampled_from(["range", "if-match", "x-amz-request-payer", "x-amz-checksum-mode", "accept"])
headers = st.dictionaries(header_names, values)
queries = st.lists(
    st.sampled_from(["a=1", "a-b=2", "a=", "versionId=x.y", "list-type=2", "a=0", "uploads", "b"]),
    unique=True,
).map("&".join)


@settings(max_examples=examples(300))
@given(keys, hosts, st.sampled_from(["GET", "HEAD"]), headers, tokens, regions, queries, st.booleans())
@example("a%2Fb//../$'()", "localhost:9000", "GET", {"range": "bytes=0- "}, "t", "us-east-1", "b=1&a", True)
def test_equals_botocore(
    key: str,
    host: str,
    method: str,
    fields: dict[str, str],
    token: str | None,
    region: str,
    query: str,
    https: bool,
):
    path = "/" + encode_key(key)
    url = f"{'https' if https else 'http'}://{host}{path}" + (f"?{query}" if query else "")
    theirs = AWSRequest(method, url, headers=dict(fields))
    S3SigV4Auth(ReadOnlyCredentials("AKID", SECRET, token, None), "s3", region).add_auth(theirs)

    date, credentials = theirs.headers["X-Amz-Date"], Credentials("AKID", SECRET, token)
    signed = signed_fields({**fields, "host": host}, credentials, region, date)
    ours = {**signed.headers, "authorization": signed.authorize(method, path, query)}

    expected = {name.lower(): value for name, value in theirs.headers.items()}
    assert ours == {**expected, "host": host}


@given(keys)
def test_a_key_is_encoded_as_botocore_encodes_it(key: str):
    assert encode_key(key) == percent_encode(key, safe="/~")


def test_a_signing_key_is_never_used_for_another_day_region_or_secret():
    usual = {"date": "20240102T030405Z", "region": "us-east-1", "secret": SECRET}

    def signature(changed: dict[str, str]) -> str:
        now = usual | changed
        signed = signed_fields({"host": "h"}, Credentials("A", now["secret"]), now["region"], now["date"])
        return signed.authorize("GET", "/k")

    changes = ({}, {"date": "20240103T030405Z"}, {"region": "eu-west-1"}, {"secret": "other"})
    assert len({signature(change) for change in changes}) == len(changes)


def test_credentials_do_not_show_their_secrets():
    shown = repr(Credentials("AKID", SECRET, "session-token"))
    assert "AKID" in shown
    assert SECRET not in shown
    assert "session-token" not in shown
