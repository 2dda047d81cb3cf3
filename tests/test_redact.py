import base64
import json
from urllib.parse import quote, quote_plus

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.redact import Secret, Secrets, credentials_in, is_signed, public_url, unsigned_url

KEEP = [
    "https://h/path/file.tif",
    "s3://bucket/a@b/c.tif",
    "https://h/x?limit=10&bbox=1,2,3,4",
    "https://h/items?token=next%3Abigearthnet_v1_labels_X",
    "https://h/items?token=next:naip:1&limit=5",
    "https://h/items?token=prev%3a7",
    "https://h/x?expires=2030&sp=a&sr=b&version=1",
    "https://h/x?a=%2F&a=2&&b",
    "https://h/x?keys=1&monkey=2&keyword=3&sign=4",
    "https://h/@tilejson?x=1#frag",
    "https://h/x?url=https://other/a",
    "https://h/x.tif?x-oss-process=image/resize,w_300",
    "https://h/x?next_token=t&continuationToken=t&secretary=1",
    "https://h/x?",
    "https://h/x#key",
    "https://h/x#L1&a=b",
    "file:///a@b/c",
    "a//b@c",
]

CUT = [
    ("https://h/x?key=K", "https://h/x", False),
    ("https://h/x?key=K&key=K&key=K&limit=1&key=K", "https://h/x?limit=1", False),
    ("https://h/x?API_KEY=K&b=%2F", "https://h/x?b=%2F", False),
    ("https://h/x?a=1&apikey=K&api-key=K&password=K&client_secret=K#f", "https://h/x?a=1#f", False),
    ("https://h/x?access_token=K&b=2", "https://h/x?b=2", True),
    ("https://h/x?token=abcdef", "https://h/x", True),
    ("https://h/x?%6bey=K&b=1", "https://h/x?b=1", False),
    ("https://user:pw@h:8443/x", "https://h:8443/x", False),
    ("https://tok@h", "https://h", False),
    ("https://u:p@w@h/x@y?limit=1", "https://h/x@y?limit=1", False),
    (
        "https://azure/c?sv=2&st=a&se=b&sr=c&sp=r&sip=d&spr=s&sig=S%3D&skoid=1&sktid=2&skt=3&ske=4&sks=b&skv=5&a=b",
        "https://azure/c?a=b",
        True,
    ),
    (
        "https://b.s3.amazonaws.com/k?X-Amz-Algorithm=A&X-Amz-Credential=C&x-amz-signature=S&versionId=7",
        "https://b.s3.amazonaws.com/k?versionId=7",
        True,
    ),
    (
        "https://b.s3.amazonaws.com/k?AWSAccessKeyId=A&Expires=1&Signature=S",
        "https://b.s3.amazonaws.com/k",
        True,
    ),
    ("https://cf/k?Policy=P&Signature=S&Key-Pair-Id=I&Expires=1&v=1", "https://cf/k?v=1", True),
    ("https://g/k?X-Goog-Signature=S&GoogleAccessId=A&Expires=1", "https://g/k", True),
    (
        "https://swift/v1/a/c/o?temp_url_sig=S&temp_url_expires=1&inline",
        "https://swift/v1/a/c/o?inline",
        True,
    ),
    ("https://b.oss/k?OSSAccessKeyId=A&Expires=1&Signature=S&security-token=T", "https://b.oss/k", True),
    ("https://b.oss/k?x-oss-signature=S&x-oss-credential=C&v=1", "https://b.oss/k?v=1", True),
    ("https://cdn/k?hdnea=exp=1~hmac=S&v=1", "https://cdn/k?v=1", True),
    ("https://cos/k?q-sign-algorithm=sha1&q-ak=A&q-signature=S", "https://cos/k?q-sign-algorithm=sha1", True),
    ("https://h/x?maxar_api_key=K&b=2", "https://h/x?b=2", False),
    ("https://h/x?access_key=K&secret=K&jwt=K&pwd=K&auth=K&id_token=K&b=2", "https://h/x?b=2", False),
    ("https://h/x?a=1#access_token=K&b=2", "https://h/x?a=1#b=2", True),
    ("https://h/x#api_key=K", "https://h/x", False),
    ("//user:pw@h/x", "//h/x", False),
    ("s3://key:secret@bucket/x", "s3://bucket/x", False),
]


@pytest.mark.parametrize("url", KEEP)
def test_urls_without_secrets_are_unchanged(url: str) -> None:
    assert public_url(url) == url
    assert not is_signed(url)


@pytest.mark.parametrize(("url", "cut", "signed"), CUT)
def test_secrets_are_removed_from_urls(url: str, cut: str, signed: bool) -> None:
    assert public_url(url) == cut
    assert is_signed(url) is signed
    assert public_url(cut) == cut


FERNET = "gAAAAABrAKZT" + "x-Y_" * 30


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://h/a.tif?sig=1&se=2", "https://h/a.tif?sig=3&se=4", True),
        (f"https://h/download/{FERNET}", f"https://h/download/{FERNET[:-4]}zzzz", True),
        (f"https://h/download/{FERNET}==", f"https://h/download/{FERNET}", True),
        (f"https://h/download/{FERNET}", f"https://h/other/{FERNET}", False),
        (f"https://h/{FERNET}/a.tif", f"https://h/{FERNET}/b.tif", False),
        ("https://h/gAAAAA-short", "https://h/gAAAAA-other", False),
        ("https://h/a.tif?v=1", "https://h/a.tif?v=2", False),
    ],
)
def test_urls_that_differ_only_in_signature_are_equal_unsigned(one: str, other: str, same: bool) -> None:
    assert (unsigned_url(one) == unsigned_url(other)) is same


def test_a_cursor_keeps_its_token() -> None:
    url = "https://u:p@h/items?key=K&token=MTIz&next=abc&sig=S"
    assert public_url(url, keep_tokens=True) == "https://h/items?token=MTIz&next=abc"
    assert public_url(url) == "https://h/items?next=abc"


def test_a_secret_is_never_formatted() -> None:
    secret = Secret("planted")
    assert "planted" not in f"{secret} {secret!r} {[secret]} {secret!s:>20}"
    assert secret.reveal() == "planted"
    assert secret == Secret("planted")
    assert secret != "planted"
    assert len({secret, Secret("planted")}) == 1


FORMS = [
    *(str, quote, quote_plus, lambda value: quote(value, safe="")),
    *(lambda value: orjson.dumps(value).decode()[1:-1], lambda value: json.dumps(value)[1:-1]),
]


@given(
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters="*"), min_size=8, max_size=30),
    st.sampled_from(FORMS),
)
def test_known_secrets_are_masked_in_any_form(value: str, form: object) -> None:
    assert callable(form)
    secrets = Secrets([Secret(value)])
    shown = form(value)
    assert secrets.masked(f"<{shown}>") == "<***>"
    assert secrets.masked_bytes(f"<{shown}>".encode()) == b"<***>"


BEARER, BASIC = "Bearer abc.def/ghi", f"Basic {base64.b64encode(b'me:planted word').decode()}"


@pytest.mark.parametrize(
    ("known", "text", "masked"),
    [
        (["abcd", "abcdefgh"], "x abcdefgh y abcd z", "x *** y *** z"),  # the longest first
        ([BEARER], "Bearer abc.def/ghi; abc.def/ghi; abc.def%2Fghi; abc.def%2fghi", "***; ***; ***; ***"),
        ([BASIC], "a me:planted word b planted word c", "a *** b *** c"),
        ([BASIC], "planted%20word planted+word bWU6cGxhbnRlZCB3b3Jk", "*** *** ***"),
        (["Basic of no kind"], "of no kind", "***"),
        (
            ["z=America/York; r=https://a.example/c/sentinel2; c=sentinel-2-l2a-cogs; s=0123456789abcdef"],
            "America/York https://a.example/c/sentinel2/sentinel-2-l2a-cogs;j=0123456789abcdef",
            "America/York https://a.example/c/sentinel2/sentinel-2-l2a-cogs;j=***",
        ),
        (["abc", ""], "abc", "abc"),  # they are too short
    ],
)
def test_each_known_secret_is_masked(known: list[str], text: str, masked: str) -> None:
    secrets = Secrets(map(Secret, known))
    assert secrets.masked(text) == masked
    assert bool(secrets) is (text != masked)


@pytest.mark.parametrize("value", ["type", "true", "links", "abcde"])
def test_short_values_are_not_removed_from_documents(value: str) -> None:
    secrets = Secrets([Secret(value)])
    data = b'{"type":"Feature","a":true,"links":"abcde"}'
    assert secrets.masked_bytes(data) == data
    assert secrets.masked(f"refused: {value}") == "refused: ***"


@pytest.mark.parametrize(
    ("name", "is_secret", "is_secret_spelled_out"),
    [
        ("Authorization", True, True),
        ("X-Api-Key", True, True),
        ("Ocp-Apim-Subscription-Key", True, True),
        ("Cookie", True, True),
        ("X-Auth", True, True),
        ("PRIVATE-TOKEN", True, True),
        ("X-Tenant", True, False),
        ("Accept", False, False),
        ("accept-language", False, False),
        ("User-Agent", False, False),
        ("Content-Type", False, False),
    ],
)
def test_which_header_fields_are_credentials(name: str, is_secret: bool, is_secret_spelled_out: bool) -> None:
    assert bool(credentials_in({name: Secret("a value")})) is is_secret
    assert bool(credentials_in({name: Secret("a value", is_literal=True)})) is is_secret_spelled_out


def test_secrets_can_be_added_and_are_not_shown() -> None:
    secrets = Secrets()
    assert secrets.masked("token planted") == "token planted"
    secrets.add(Secret("planted"))
    assert secrets
    assert secrets.masked("token planted") == "token ***"
    assert "planted" not in repr(secrets)
