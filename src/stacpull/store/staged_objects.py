"""Staged objects of a mirror in a bucket: objects among its parts, and the notes on disk that name them.

    bucket   .stacpull/parts/<row>.<generation>.<token>    an upload, or a whole object
    disk     parts/<row>.<generation>.upload               an unfinished upload (`store.multipart`)
             parts/<row>.<generation>.<size>….sent         a whole object (`StagedObject`)

The note of a whole object represents a complete part: reading the part reads the object. A kill may leave an
upload or an object without a note, which `sweep` removes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from stacpull.models import CopySource
from stacpull.store.bucket_requests import ObjectRequest
from stacpull.store.buffered_parts import PartWithoutFile, PendingCopy
from stacpull.store.complete_parts import parse_complete_part
from stacpull.store.multipart import MultipartUploads, UploadNote, load_note, save_note
from stacpull.store.part_files import Pair
from stacpull.store.protocol import PartEntry
from stacpull.store.s3_bucket import NOT_FOUND, STAGING, ObjectContent, S3Bucket, StoredObject

_SENT, _WHOLE = ".sent", ".whole"
NOTES = (".upload", _SENT)
"""Suffixes of notes."""


class StagedObject(msgspec.Struct, frozen=True):
    """An object that will be copied to its final key."""

    key: str
    etag: str
    size: int
    algorithm: str | None
    """The algorithm of the digest; None if none is recorded."""
    digest: bytes | None
    identity: int
    """The identity of the part."""


def upload_name(pair: Pair) -> str:
    """Return the name of the note of an asset's upload."""
    return f"{pair[0]}.{pair[1]}"


class StagedObjects:
    """The staged objects of one mirror. Any thread may call any method.

    Methods that send requests raise `CredentialsError` and `DestinationError`.
    """

    def __init__(self, bucket: S3Bucket, uploads: MultipartUploads, parts: Path) -> None:
        """Prepare; nothing is sent yet.

        Args:
            bucket: DEST.
            uploads: The uploads of the mirror.
            parts: The directory of the notes.
        """
        self._bucket = bucket
        self._uploads = uploads
        self._parts = parts

    # --- uploads -----------------------------------------------------------------------------------------

    def new_key(self, name: str) -> str:
        """Return a new, unique key of an object; it begins with the name of a part."""
        return self._bucket.key(f"{STAGING}{name}.{os.urandom(8).hex()}")

    def noted_uploads(self) -> set[Pair]:
        """Return the rows and generations of the assets with a noted upload."""
        found = [name.split(".") for name in self._uploads.names()]
        pairs = [pair for pair in found if len(pair) == 2 and all(map(str.isdecimal, pair))]  # noqa: PLR2004
        return {(int(row), int(generation)) for row, generation in pairs}

    def whole(self, note: UploadNote) -> StoredObject | None:
        """Return the object of a completed upload, None if there is none."""
        return self._bucket.head(self._bucket.path(note.key))

    def send_whole(self, note: UploadNote, body: memoryview) -> str:
        """Store an object of one piece; return its ETag."""
        self._uploads.check_lease()
        return self._bucket.put_own(note.key, ObjectContent(body, hashlib.sha256(body).digest()))

    def finish(self, note: UploadNote, name: str, staged: StagedObject) -> None:
        """Replace the note of an upload by that of a whole object, the part `name`."""
        save_note(self._path(name), staged)
        self._uploads.forget(note.name)

    def drop_upload(self, note: UploadNote) -> None:
        """Remove an upload that will not be continued, or its object.

        An upload that another worker has taken over stays.
        """
        if note.upload and not self._uploads.is_noted(note):
            return
        self._uploads.check_lease()
        self._uploads.abort(note)
        self._bucket.delete(self._bucket.path(note.key))

    # --- whole objects -----------------------------------------------------------------------------------

    def part_without_file(self, part: str) -> PartWithoutFile | None:
        """Return a part that is an object, None for other parts."""
        found = load_note(self._path(part), StagedObject)
        if found is None:
            return None
        source = CopySource(self._bucket.location.url_of(found.key), found.etag)
        is_staged = self._is_staged(found.key)
        copy = PendingCopy(source, found.size, found.digest, found.algorithm, is_staged=is_staged)
        return PartWithoutFile(found.identity, found.size, copy)

    def rename(self, old: str, new: str) -> bool:
        """Give a part another name; return False if it is not an object."""
        try:
            self._path(old).rename(self._path(new))
        except FileNotFoundError:
            return False
        return True

    def drop(self, part: str) -> bool:
        """Remove a part, and its object; return False if it is not an object."""
        path = self._path(part)
        if not path.exists():
            return False
        found = load_note(path, StagedObject)
        if found is not None and self._is_staged(found.key):
            self._uploads.check_lease()
            self._bucket.delete(self._bucket.path(found.key))
        path.unlink(missing_ok=True)
        return True

    def entries(self) -> list[PartEntry]:
        """Return the parts that are objects. Notes of missing objects are removed."""
        found = []
        for path in self._parts.glob(f"*{_SENT}"):
            staged, name = load_note(path, StagedObject), path.stem + _WHOLE
            if staged is not None and parse_complete_part(name) is not None:
                found.append((path, staged, PartEntry(name, staged.identity, staged.size)))
        heads = [ObjectRequest("HEAD", staged.key) for _, staged, _ in found]
        there = []
        for (path, _, entry), reply in zip(found, self._bucket.send(heads), strict=True):
            if reply is not None and reply.status == NOT_FOUND:
                path.unlink(missing_ok=True)
            else:
                there.append(entry)
        return there

    def sweep(self, keep: Callable[[int, int], bool]) -> None:
        """Remove uploads for which `keep(row, generation)` is False, and everything without a note.

        No transfer may run at the same time.
        """
        kept = set()
        for path in self._parts.glob(f"*{_SENT}"):
            staged = load_note(path, StagedObject)
            if staged is None or parse_complete_part(path.stem + _WHOLE) is None:
                path.unlink(missing_ok=True)
            else:
                kept.add(staged.key)
        wholes = frozenset(kept)
        for pair in self.noted_uploads():
            note = self._uploads.claim_note(upload_name(pair))
            if note is None or note.key in wholes:
                self._uploads.forget(upload_name(pair))
            elif keep(*pair):
                kept.add(note.key)
            else:
                self.drop_upload(note)
        self._remove_all_but(kept)

    def _remove_all_but(self, kept: set[str]) -> None:
        prefix = self._bucket.key(STAGING)
        for key, upload in self._uploads.listed(prefix):
            if key not in kept:
                self._uploads.check_lease()
                self._uploads.abort_unnoted(key, upload)
        after, is_last = "", False
        while not is_last:
            keys, is_last = self._bucket.listed(prefix, after)
            for key in keys:
                if key not in kept:
                    self._uploads.check_lease()
                    self._bucket.delete(self._bucket.path(key))
            is_last = is_last or not keys or keys[-1] <= after  # some servers ignore `after`
            after = keys[-1] if keys else ""

    def _is_staged(self, key: str) -> bool:
        return key.startswith(self._bucket.key(STAGING))

    def _path(self, part: str) -> Path:
        return (self._parts / part).with_suffix(_SENT)
