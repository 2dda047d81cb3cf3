"""What came in for an asset, and whether it is what it should be. No I/O but the hashing of a small body.

An `Intake` is what one response (or the rest of a part) brought: `shortfall` tells if bytes are missing,
`mismatch` if they are the wrong ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from stacpull.digests import digest_of, new_hasher
from stacpull.hosts import host_of
from stacpull.models import Checksum, Failure, FailureKind, Job, Validator
from stacpull.transfer.parts import Hasher, PartWriter
from stacpull.transfer.verify import Check

__all__ = [
    "EARLIER",
    "Answer",
    "DoubtfulError",
    "Intake",
    "failed",
    "hashers_for",
    "mismatch",
    "shortfall",
    "unproven_coding",
    "wrong_size",
]


EARLIER = "an earlier fetch"
"""Source of the check that a second fetch is held against, after an ETag was in doubt."""


class Answer(NamedTuple):
    """What is kept of a response once it is closed."""

    url: str
    validator: Validator
    checks: tuple[Check, ...]
    keep: bool
    """True if an unfinished part may be kept for a later attempt."""
    total: int | None
    """Size of the whole in bytes as the server states it."""
    framed: bool
    """True if the end of the body showed on the wire."""
    coding: str = ""
    """A content coding that cannot be undone: the bytes as sent must be proven to be the asset."""


class Intake(NamedTuple):
    """The bytes: in memory (`body`), or in a part that is still open (`writer`), hashed as they came."""

    answer: Answer
    body: bytes = b""
    writer: PartWriter | None = None
    hashers: Mapping[str, Hasher] = MappingProxyType({})

    @property
    def size(self) -> int:
        """Bytes that are there, those of earlier attempts included."""
        return len(self.body) if self.writer is None else self.writer.size

    @property
    def is_certain(self) -> bool:
        """True if a checksum of the item or the server agrees with the content."""
        return any(check.source != EARLIER and self.agrees(check) for check in self.answer.checks)

    def agrees(self, check: Check) -> bool:
        """Tell if the content is what `check` says."""
        return self.digest(check.checksum) == check.checksum.digest

    def digest(self, checksum: Checksum) -> bytes:
        """Return what the content has where `checksum` says what it should have.

        Raises:
            RuntimeError: it would be of a prefix: the part is not all hashed (`PartWriter.caught_up`).
        """
        if self.writer is None:
            return digest_of(checksum, self.body)
        if self.writer.hashed != self.writer.size:
            raise RuntimeError(f"{self.writer.hashed} of {self.writer.size} bytes are hashed")
        return self.hashers[checksum.algorithm].digest()


class DoubtfulError(Exception):
    """An ETag looked like an MD5 and did not agree: either it is none, or the content is wrong."""

    def __init__(self, actual: Check) -> None:
        """Keep what the content really has, to hold a second fetch against."""
        super().__init__(actual)
        self.actual = actual


def hashers_for(checks: tuple[Check, ...], checksum: str | None) -> dict[str, Hasher]:
    """Return the hashers of a part: one for each algorithm stated, and that of the digest to record."""
    hashers = {check.checksum.algorithm: new_hasher(check.checksum) for check in checks}
    if checksum is not None and checksum not in hashers:
        hashers[checksum] = new_hasher(Checksum(checksum, b""))
    return hashers


def shortfall(job: Job, intake: Intake) -> Failure | None:
    """Return the failure if bytes are missing, or more came than the whole has."""
    answer, size = intake.answer, intake.size
    if answer.total is not None and size != answer.total:
        kind = FailureKind.TRUNCATED if size < answer.total else FailureKind.OVERLONG
        return failed(kind, answer.url, f"sent {size} of {answer.total} bytes", again=True)
    if not answer.framed and job.size is not None and size < job.size:
        return failed(FailureKind.TRUNCATED, answer.url, f"sent {size} of {job.size} bytes", again=True)
    return None


def mismatch(job: Job, intake: Intake) -> Failure | None:
    """Return the failure if the content is not what the item or the response states.

    Raises:
        DoubtfulError: only a statement that may have been misread disagrees.
    """
    answer = intake.answer
    if job.size is not None and intake.size != job.size:
        return wrong_size(answer.url, intake.size, job.size)
    if not answer.checks:
        return None
    for check in answer.checks:
        if check.sure and not intake.agrees(check):
            actual = intake.digest(check.checksum).hex()
            what = f"sent content whose {check.checksum.algorithm} is {actual}, but {check.source} states "
            return failed(FailureKind.CHECKSUM, answer.url, what + check.checksum.digest.hex(), again=True)
    unsure = [check for check in answer.checks if not check.sure]
    if not unsure or any(map(intake.agrees, unsure)):
        return None
    if any(check.source == EARLIER for check in unsure):
        what = "sent other content than just before, and its ETag agrees with neither"
        return failed(FailureKind.CHECKSUM, answer.url, what)
    stated = unsure[0].checksum
    found = Checksum(stated.algorithm, intake.digest(stated))
    raise DoubtfulError(Check(found, EARLIER, sure=False))


def unproven_coding(answer: Answer) -> Failure:
    """Return the failure of a body that nothing proves to be the asset behind its unknown coding."""
    what = (
        f"sent it in the content coding {answer.coding[:50]!r}, which was not asked for and cannot be undone"
    )
    return failed(FailureKind.HTTP, answer.url, what)


def wrong_size(url: str, size: int, stated: int) -> Failure:
    """Return the failure of an asset that is whole, and not of the size that the item states."""
    what = f"sent {size} bytes, but the item states {stated} (file:size)"
    return failed(FailureKind.CHECKSUM, url, what, again=True)


def failed(
    kind: FailureKind, url: str, what: str, *, again: bool = False, status: int | None = None
) -> Failure:
    """Return a failure of whoever answered at `url`. Its message names the host, never the URL."""
    host = host_of(url)
    return Failure(kind, f"{host} {what}.", status=status, host=host, retryable=again)
