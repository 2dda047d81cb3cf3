"""Planted secrets, and the forms in which one could be written down or sent."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, quote_plus

__all__ = ["found_at", "found_in", "found_under", "spellings"]


def spellings(secret: str) -> set[bytes]:
    """As it is, percent-encoded in every way, in base64 wherever it begins in a longer text, in hex."""
    whole = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
    whole.add(secret.replace("/", "%2F"))  # as names of files have it
    raw = secret.encode()
    shifted = {base64.b64encode(b"\0" * shift + raw) for shift in range(3)}
    inner = {encoded[4:-4] for encoded in shifted}  # what does not depend on the neighbours
    return {text.encode() for text in whole} | inner | {raw.hex().encode()}


def found_in(data: bytes, secrets: Iterable[str]) -> list[bytes]:
    """Return the spellings of any of the secrets that are in `data`."""
    return [form for secret in secrets for form in spellings(secret) if form in data]


def found_under(top: Path, secrets: Iterable[str]) -> list[tuple[Path, list[bytes]]]:
    """Return the files below `top` in whose bytes or names a secret stands."""
    known = tuple(secrets)
    return [found for path in top.rglob("*") for found in found_at(path, known)]


def found_at(path: Path, secrets: Iterable[str]) -> list[tuple[Path, list[bytes]]]:
    """Return the file, if it is one and a secret stands in its bytes or its name."""
    if not path.is_file() or path.is_symlink():
        return []
    forms = found_in(os.fsencode(path) + b"\n" + path.read_bytes(), secrets)
    return [(path, forms)] if forms else []
