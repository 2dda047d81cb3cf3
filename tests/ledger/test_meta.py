"""What the ledger knows beside its rows."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from stacpull.ledger import meta
from stacpull.ledger.database import open_writer


@pytest.mark.parametrize(
    ("digest", "read"),
    [
        (bytes(range(32)), bytes(range(32))),
        (b"\xff" * 32, b"\xff" * 32),
        (None, None),  # a kill between the claim and the digest leaves this
        (b"\x11" * 32, b"\x11" * 32),  # its hex looks like a number
    ],
)
def test_a_file_is_known_with_its_digest_or_without(tmp_path: Path, digest, read) -> None:
    (tmp_path / ".stacpull").mkdir()
    with closing(open_writer(tmp_path)) as db:
        meta.claim_file(db, "catalog.json", digest)
        assert meta.owns_file(db, "catalog.json")
        assert meta.file_digests(db) == {"catalog.json": read}
        meta.disown_file(db, "catalog.json")
        assert (meta.owns_file(db, "catalog.json"), meta.file_digests(db)) == (False, {})
