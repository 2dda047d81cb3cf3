"""The objects of one prefix of a bucket, through obstore.

Every request goes through `Objects.send`, which repeats it while the service fails. obstore itself
repeats nothing, because it would not repeat uploads, and would give up at other times.
"""

from __future__ import annotations

import io
import mmap
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

import obstore
from obstore import exceptions

from stacpull.errors import CredentialsError, DestinationError, StacpullError
from stacpull.models import BucketLocation
from stacpull.store.inspection import NO_HOOKS, WaitHooks
from stacpull.store.protocol import store_kind
from stacpull.system import AWS_ENDPOINTS

T = TypeVar("T")

THREADS = 32  # simultaneous requests of a process
_RETRY_SECONDS, _SHORT_RETRY_SECONDS = 120.0, 10.0  # short before the first answer, and after a stop
_FIRST_PAUSE, _MAX_PAUSE = 0.2, 10.0  # seconds, at most
_SILENT_AFTER = 1.0  # seconds of an outage after which the user is warned
_SINGLE_PUT = 8 << 20  # bytes: longer files are sent in parts, which are at least as long
_PARTS_AT_ONCE = 4
_MEDIUM, _MEDIUM_AT_ONCE, _LONG_AT_ONCE = 1 << 20, 8, 2
"""Bodies from `_MEDIUM` bytes on take memory: so few of them, and fewer in parts, are sent at once."""
PIECE = 4 << 20  # bytes that are read at once
_MAX_PARTS = 9_000  # S3 and GCS allow 10,000

# What obstore's errors mean: it has few classes of errors, so their text decides.

MISSING = (exceptions.NotFoundError, FileNotFoundError)
STATUS = re.compile(r"\bcode: (304|[45][0-9]{2})\b")  # of a response or a part of it, in obstore's errors
_CODE = re.compile(r"(?:<Code>|\(code: )([A-Za-z0-9]+)[<)]")
"""In the body of an error, and in what obstore says of an object that S3 does not remove."""
_REFUSED_KEYS = re.compile("AccessDenied|Authent|Authoriz|Token|AccessKeyId|Signature|InvalidSecurity")
"""Codes of errors that mean wrong keys, not that the keys do not allow something."""
_UNTRUSTED = "InvalidCertificate"  # in obstore's error for a certificate that no authority here has issued
_PASSING = re.compile(
    r"\bcode: (408|409|429|50[0234])\b|invalid multipart response|"
    r"(<Code>|\(code: )(InternalError|SlowDown|NoSuchUpload|InvalidUploadId|RequestTimeout)[<)]"
)
"""What is repeated. An upload in parts can end with status 200 and any error, which obstore need not know."""


class ObjectHead(NamedTuple):
    path: str  # relative to the prefix
    size: int
    modified: datetime
    etag: str | None
    attributes: Mapping[str, str]  # metadata, by name in lower case, without the service's prefix


class Objects:
    """The objects below a prefix. Any thread may call any method.

    Every method raises `CredentialsError` if there are no credentials or the service refuses them,
    `UsageError` if its address or `ca_bundle` cannot be used, and `DestinationError` if it fails.
    """

    def __init__(self, location: BucketLocation, hooks: WaitHooks = NO_HOOKS) -> None:
        self.location = location
        self.hooks = hooks
        self._prefix = f"{location.prefix}/" if location.prefix else ""
        self._has_warned = False
        self._outage: tuple[float, Exception] | None = None
        """When requests began to fail, if none has succeeded since, and the last error."""
        self._has_answered = hooks.has_answered  # if False, the address is probably wrong
        self.service = cast("Any", store_kind(location))(location)
        self._medium = threading.BoundedSemaphore(_MEDIUM_AT_ONCE)
        self._long = threading.BoundedSemaphore(_LONG_AT_ONCE)
        self._checks = ThreadPoolExecutor(1, "stacpull-lease")

    def key(self, path: str) -> str:
        return self._prefix + path

    def find(self, path: str) -> ObjectHead | None:
        answer = self.read(path, -1)
        return answer and answer[0]

    def read(self, path: str, max_size: int) -> tuple[ObjectHead, bytes | None] | None:
        """Return an object, without its content if that is longer than `max_size` bytes; -1 requests none."""
        is_head = max_size < 0

        def get(store: Any) -> tuple[ObjectHead, bytes | None]:
            reply: Any = obstore.get(store, self.key(path), options={"head": is_head})
            meta, size = reply.meta, reply.meta["size"]
            attributes = {str(name).lower(): str(value) for name, value in reply.attributes.items()}
            head = ObjectHead(path, size, meta["last_modified"], meta.get("e_tag"), attributes)
            return head, bytes(reply.bytes()) if size <= max_size else None

        return self.send("look at" if is_head else "read", path, get, missing_ok=True)

    def open(self, head: ObjectHead) -> BinaryIO:
        """Open an object, which is read in pieces, and must not be replaced until its end."""
        return cast("BinaryIO", io.BufferedReader(_ObjectFile(self, head), PIECE))

    def pages(self, directory: str = "") -> Iterator[list[str]]:
        """Yield the paths of the objects below a directory, in any order."""
        prefix = self.key(directory + "/" if directory else "")
        listing: Any = None
        listed = set[int]()  # the hashes of pages: Azure cannot continue after a key, nor are keys in order

        def page(store: Any) -> tuple[str, ...]:
            nonlocal listing
            pages = listing or obstore.list(store, prefix or None, chunk_size=1000)
            listing = None  # after an error, begin again
            for entries in pages:
                keys = tuple(str(entry["path"]) for entry in entries)
                if hash(keys) not in listed:  # others are skipped here: no new try for a page that succeeded
                    listing = pages
                    return keys
            return ()

        while keys := self.send("list", directory, page):
            listed.add(hash(keys))
            yield [key[len(self._prefix) :] for key in keys if len(key) > len(self._prefix)]

    def put(
        self,
        path: str,
        body: bytes | memoryview | Path,
        attributes: Mapping[str, str],
        check: Callable[[], object] = lambda: None,
        *,
        create: bool,
    ) -> bool:
        """Store an object; return False if `create` and there is one already.

        `check` is called before each attempt, and each part of a long file.
        """
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        is_long = size > _SINGLE_PUT
        part_size = max(_SINGLE_PUT, -(-size // _MAX_PARTS >> 20) << 20)  # whole mebibytes: maps need pages
        attempts, key = count(), self.key(path)

        def upload(store: Any) -> bool:
            check()
            if next(attempts) and is_long:  # obstore cannot while the service fails
                self.service.abort_uploads(key, key.__eq__)
            if is_long and create and self.find(path) is not None:  # parts have no condition
                return False
            sent_body: Any = self._parts(body, part_size, check) if isinstance(body, Path) else body
            try:
                obstore.put(
                    store,
                    key,
                    sent_body,
                    attributes=cast("Any", dict(attributes)),
                    mode="create" if create and not is_long else "overwrite",
                    use_multipart=is_long,
                    chunk_size=part_size,
                    max_concurrency=_PARTS_AT_ONCE,
                )
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
                if not create or (" 409 " in str(error) and self.find(path) is None):
                    raise  # two writers at once; S3 says: repeat
                return False
            return True

        with self._long if is_long else self._medium if size > _MEDIUM else nullcontext():
            return bool(self.send("write", path, upload))

    def _parts(self, file: Path, part_size: int, check: Callable[[], object]) -> Iterator[memoryview]:
        """Yield the parts of a file, which are sent from the page cache: obstore would copy a path twice."""
        size = file.stat().st_size
        with file.open("rb") as opened:
            for offset in range(0, size, part_size):
                if offset:
                    self._checks.submit(check).result()  # obstore, which reads the parts, takes no calls here
                length = min(part_size, size - offset)
                yield memoryview(mmap.mmap(opened.fileno(), length, access=mmap.ACCESS_READ, offset=offset))

    def remove(self, path: str, check: Callable[[], object] = lambda: None) -> None:
        def delete(store: Any) -> None:
            check()
            obstore.delete(store, self.key(path))

        self.send("remove", path, delete, missing_ok=True)

    def send(self, doing: str, path: str, call: Callable[[Any], T], *, missing_ok: bool = False) -> T | None:
        failed_at, max_pause, answer = float("inf"), _FIRST_PAUSE, None
        while True:
            try:
                if (outage := self._outage) and self.hooks.is_stopped() and self._is_over():
                    raise outage[1]  # without another attempt, which might take a minute
                answer = call(self.service.store)
            except (exceptions.BaseError, OSError) as error:
                if not missing_ok or not isinstance(error, MISSING):
                    self._has_answered |= STATUS.search(str(error)) is not None
                    if is_passing(error):
                        failed_at = min(failed_at, time.monotonic())  # first
                        self._note_outage(failed_at, error)
                    pause = random.uniform(0, max_pause)  # noqa: S311 - no secret
                    if not is_passing(error) or self._is_over(pause):
                        raise as_stacpull_error(self.service, doing, path, error) from error
                    max_pause = min(_MAX_PAUSE, 2 * max_pause)
                    time.sleep(pause)
                    continue
            self._outage, self._has_answered = None, True
            return answer

    def _is_over(self, pause: float = 0.0) -> bool:
        """Return True if what has failed is not repeated after the pause: all requests give up together."""
        outage, is_short = self._outage, self.hooks.is_stopped() or not self._has_answered
        limit = _SHORT_RETRY_SECONDS if is_short else _RETRY_SECONDS
        return outage is not None and time.monotonic() + pause - outage[0] >= limit

    def _note_outage(self, failed_at: float, error: Exception) -> None:
        since = failed_at if (outage := self._outage) is None else min(failed_at, outage[0])
        self._outage = since, error
        if time.monotonic() - since >= _SILENT_AFTER and not self._has_warned:
            self._has_warned = True
            status = STATUS.search(str(error))
            why = f"answers {status[1]}" if status else unreachable(str(error)) or "does not answer"
            self.hooks.warn(f"{self.location.url} {why}; still trying.")


class _ObjectFile(io.RawIOBase):
    def __init__(self, objects: Objects, head: ObjectHead) -> None:
        self._objects, self._head, self._offset = objects, head, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # any writable buffer
        head, start, objects = self._head, self._offset, self._objects
        end = min(start + len(buffer), head.size)
        if start >= end:
            return 0
        options: Any = {"range": (start, end)} | ({"if_match": head.etag} if head.etag else {})
        key = objects.key(head.path)
        data = objects.send("read", head.path, lambda store: obstore.get(store, key, options=options).bytes())
        if data is None or len(data) != end - start:
            name = f"{objects.location.url}/{head.path}"
            raise DestinationError(f"{name} was replaced or removed while it was read.")
        buffer[: end - start] = data
        self._offset = end
        return end - start


def as_stacpull_error(service: Any, doing: str, path: str, error: Exception) -> StacpullError:
    """Return the error to raise for one of obstore. `doing` is a verb, and `path` is below the prefix."""
    text = str(error)
    code, status = next(iter(_CODE.findall(text)), ""), STATUS.search(text)
    location, what = service.location, f"to {doing} {path or 'its objects'}"
    url, endpoint = location.url, location.endpoint_url
    origin = next((f" (from {name})" for name in AWS_ENDPOINTS if endpoint == os.environ.get(name, "")), "")
    where = f"at {endpoint or 'the usual endpoint'}{origin}"
    if _UNTRUSTED in text:
        return DestinationError(f"The TLS certificate of {url} is not trusted: --ca-bundle FILE trusts one.")
    for phrase, (kind, why) in service.errors.items():
        if phrase in text:
            return cast("StacpullError", kind(f"{url} {why}."))
    refusals = {"401", "403", "400" if doing == "look at" else ""}  # 400: S3 to a HEAD with expired keys
    if (status is not None and status[1] in refusals and "Quota" not in code) or _REFUSED_KEYS.search(code):
        refusal = f"{url} refuses the credentials {what} ({code or 'access denied'})"
        place = f"DEST is {where}: --dest-endpoint-url names another."
        return CredentialsError(f"{refusal}: {service.keys_advice}, and whether they allow this. {place}")
    is_missing = isinstance(error, MISSING) and doing in {"list", "write"}
    if is_missing or service.missing_bucket in text:
        return DestinationError(f"There is no bucket {location.bucket} {where}: create it first ({url}).")
    if "invalid path" in text:  # obstore lists no names with empty parts, `.` or `..`
        return DestinationError(f"{url} cannot be listed ({plain_reason(text)}): move that object away.")
    if reason := unreachable(text):
        return DestinationError(f"{url} {reason}. Check --dest-endpoint-url{origin} and the network.")
    why = code or plain_reason(text)
    return DestinationError(f"{url} failed {what} ({why}): check the bucket, its quota and its endpoint.")


def plain_reason(text: str) -> str:
    """Return what an error of obstore says to a reader."""
    reason = re.sub(r"\s+", " ", text.partition("Debug source:")[0]).strip()
    return re.sub(r"^Generic \w+ error: ", "", reason)[:300].rstrip(".")


def unreachable(text: str) -> str:
    """Return that there was no response, if an error of obstore says so, with the address and the reason."""
    address = re.search(r"Error performing \w+ (?:REDACTED|(https?://[^/\s]+))", text)
    if "HTTP error" not in text or address is None:
        return ""
    where = f" at {address[1]}" if address[1] else ""  # obstore hides URLs with a signature of Azure
    if "kind: Connect" not in text:
        return f"does not answer{where}"
    reason = "the name is not known" if "dns error" in text else "no connection"
    if "InvalidContentType" in text:
        reason = "its answer is not TLS (http:// may be right)"
    if message := re.search(r'kind: \w+,\s+message: "([^"]+)"', text):
        reason = message[1]
    return f"cannot be reached{where}: {reason}"


def is_passing(error: Exception) -> bool:
    text = str(error)
    is_unanswered = isinstance(error, exceptions.GenericError) and "HTTP error" in text
    is_one = _PASSING.search(text) or (is_unanswered and not STATUS.search(text))
    return bool(is_one) and _UNTRUSTED not in text
