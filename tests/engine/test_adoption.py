"""When a file in the way is the asset: by a digest, by size and time, or not."""

from __future__ import annotations

import hashlib

import pytest

from stacpull.engine.adoption import ExpectedContent, contradiction, is_proven
from stacpull.models import Checksum
from stacpull.transfer.checks import Check

BODY = b"the asset"
MD5, SHA = hashlib.md5(BODY).digest(), hashlib.sha256(BODY).digest()  # noqa: S324 - what servers state
DIGESTS = {"md5": MD5, "sha256": SHA}


def check(algorithm: str, digest: bytes, *, sure: bool = True) -> Check:
    return Check(Checksum(algorithm, digest), "Content-MD5", sure)


@pytest.mark.parametrize(
    ("stated", "why", "proven"),
    [
        (ExpectedContent(9, (check("md5", MD5),)), None, True),
        (ExpectedContent(None, (check("md5", MD5),)), None, True),
        (ExpectedContent(9, (check("md5", MD5, sure=False),)), None, True),
        (ExpectedContent(9, ()), None, False),
        (ExpectedContent(None, ()), None, False),
        (ExpectedContent(9, (), 1000.0), None, True),
        (ExpectedContent(9, (), 1000.9), None, True),
        (ExpectedContent(9, (), 1001.0), None, False),
        (ExpectedContent(None, (), 1000.0), None, False),
        (ExpectedContent(8, (), 1000.0), "it has 9 bytes, the source 8", False),
        (ExpectedContent(9, (check("md5", SHA[:16]),)), "its md5 is not what Content-MD5 states", False),
        (ExpectedContent(9, (check("md5", SHA[:16], sure=False),)), None, False),
        (ExpectedContent(9, (check("sha256", SHA), check("md5", MD5[::-1]))), "its md5 is not", True),
    ],
)
def test_evidence_for_and_against_adopting_a_file(
    stated: ExpectedContent, why: str | None, proven: bool
) -> None:
    found = contradiction(stated, len(BODY), DIGESTS)
    assert found == why or (why is not None and found is not None and found.startswith(why))
    assert is_proven(stated, len(BODY), 1000.5, DIGESTS) is proven
