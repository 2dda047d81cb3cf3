"""Planted secrets, and the forms in which one could be written down or sent."""

import base64
import json
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from urllib.parse import quote, quote_plus

from stacpull_replicas import S3Access


@cache
def spellings(secret: str) -> frozenset[bytes]:
    """As it is, percent-encoded in every way, as in JSON, in base64 wherever it begins in a text, in hex."""
    whole = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}
    whole.add(secret.replace("/", "%2F"))  # as names of files have it
    raw = secret.encode()
    shifted = {base64.b64encode(b"\0" * shift + raw) for shift in range(3)}
    inner = {encoded[4:-4] for encoded in shifted}  # what does not depend on the neighbours
    return frozenset({text.encode() for text in whole} | inner | {raw.hex().encode()})


def found_in(data: bytes, secrets: Iterable[str]) -> list[bytes]:
    return [form for secret in secrets for form in spellings(secret) if form in data]


def found_under(top: Path, secrets: Iterable[str]) -> list[tuple[Path, list[bytes]]]:
    known = tuple(secrets)
    return [found for entry in entries_under(top) for found in found_at(entry, known)]


def found_at(file: Path | os.DirEntry[str], secrets: Iterable[str]) -> list[tuple[Path, list[bytes]]]:
    if not file.is_file() or file.is_symlink():
        return []
    forms = found_in(os.fsencode(file) + b"\n" + Path(file).read_bytes(), secrets)
    return [(Path(file), forms)] if forms else []


def entries_under(top: Path | str) -> Iterator[os.DirEntry[str]]:
    """Yield everything below a directory, without following links; `Path.rglob` takes far longer."""
    try:
        with os.scandir(top) as scanned:
            entries = list(scanned)
    except (FileNotFoundError, PermissionError):
        return
    for entry in entries:
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from entries_under(entry.path)


KEY = 'planted-key/with+odd=characters&"more"\\'
SECRET = "plantedS3/secret+thatnobodysees0123456789"
TOKEN = "planted-session-token/FwoGZXIvYXdzE=="
PLANTED = [KEY, SECRET, TOKEN]
ACCESS = S3Access("AKIAPLANTED0PLANTED0", SECRET, session_token=TOKEN)
