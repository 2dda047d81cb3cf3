from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.models import Checksum
from stacpull.planning.statements import parse_multihash

DATA = b"pixels"


def multihash(prefix, digest):
    return prefix + digest.hex()


@pytest.mark.parametrize(
    ("prefix", "algorithm", "digest"),
    [
        ("1114", "sha1", hashlib.sha1(DATA, usedforsecurity=False)),
        ("1220", "sha256", hashlib.sha256(DATA)),
        ("1340", "sha512", hashlib.sha512(DATA)),
        ("1620", "sha3_256", hashlib.sha3_256(DATA)),
        ("d50110", "md5", hashlib.md5(DATA, usedforsecurity=False)),
    ],
)
def test_verifiable_checksums_are_parsed(prefix, algorithm, digest):
    expected = Checksum(algorithm, digest.digest())
    assert parse_multihash(multihash(prefix, digest.digest())) == expected
    assert parse_multihash(multihash(prefix, digest.digest()).upper()) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12",
        "1220",
        "1220" + "00" * 31,
        "1220" + "00" * 33,
        "d50120" + "00" * 32,  # from a real service: the code of MD5, the length of SHA-256
        "d50120" + "00" * 16,
        "9911" + "00" * 17,
        "80e40200",
        "c1e40241" + "00" * 65,
        "ff" * 20,
        "sha256:" + "00" * 32,
        "zz",
        "122",
        "é",
    ],
)
def test_unverifiable_checksums_are_none(text):
    assert parse_multihash(text) is None


@given(raw=st.binary(max_size=70))
def test_parsed_checksums_are_supported_by_hashlib(raw):
    found = parse_multihash(raw.hex())
    if found is not None:
        made = hashlib.new(found.algorithm, usedforsecurity=False)
        assert made.digest_size == len(found.digest)
