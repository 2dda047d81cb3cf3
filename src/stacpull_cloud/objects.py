"""The objects of one prefix of a bucket.

Every request goes through `Objects._send`, which repeats it while the service fails. obstore itself repeats
nothing: it would not repeat uploads, and its patience is not ours.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import obstore
from obstore import exceptions

from stacpull.errors import CredentialsError, DestinationError
from stacpull.models import BucketLocation
from stacpull_cloud import services

T = TypeVar("T")

THREADS = 32
"""Simultaneous requests of a process."""
_PATIENCE = 120.0
"""Seconds for which a request is repeated."""
_LONGEST_PAUSE = 10.0
_SINGLE_PUT = 8 << 20
"""Bytes: longer files are sent in parts."""
_PARTS_AT_ONCE = 4
_MOST_PARTS = 9_000
"""S3 and GCS allow 10,000."""
_SHORTEST_PART = 8 << 20
_FIRST_ERROR = 300
_STATUS = re.compile(r"\b(?:status|Status)[^0-9]{0,12}([45][0-9]{2})\b")
_CODE = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")
_REFUSED_KEYS = frozenset(
    {
        "AuthenticationFailed", "AuthorizationFailure", "ExpiredToken", "InvalidAccessKeyId",
        "InvalidAuthenticationInfo", "InvalidSecurity", "InvalidToken", "NoAuthenticationInformation",
        "SignatureDoesNotMatch", "TokenRefreshRequired",
    }
)  # fmt: skip
_REPEATED_CODES = frozenset(
    {"NoSuchUpload", "OperationAborted", "ConditionalRequestConflict", "InvalidUploadId", "RequestTimeout"}
)
_UNTRUSTED = "InvalidCertificate"
"""What obstore's errors say of a TLS certificate that no authority here has issued."""
_REPEATED = frozenset({408, 409, 429, 500, 502, 503, 504})


class _RepeatError(exceptions.BaseError):
    """A failure that the service wants repeated."""


class Found(NamedTuple):
    path: str
    """Relative to the prefix."""
    size: int
    modified: datetime
    etag: str | None
    attributes: Mapping[str, str] = {}
    """Metadata, by name without the service's prefix."""


class Objects:
    """The objects below a prefix. Any thread may call any method.

    Every method raises `CredentialsError` if there are no credentials or the service refuses them, and
    `DestinationError` if it fails or refuses a request.
    """

    def __init__(self, location: BucketLocation, on_silent: Callable[[str], None] = lambda _: None) -> None:
        """Prepare; nothing is sent yet."""
        self.location = location
        self._prefix = f"{location.prefix}/" if location.prefix else ""
        self._on_silent: Callable[[str], None] | None = on_silent
        self.service = services.Service(location)
        """The credentials and obstore's store."""

    def key(self, path: str) -> str:
        return self._prefix + path

    # --- reading -----------------------------------------------------------------------------------------

    def find(self, path: str) -> Found | None:
        def head(store: Any) -> Found:
            found = obstore.get(store, self.key(path), options={"head": True})
            return self._found(cast("Mapping[str, Any]", found.meta), found.attributes)

        return self._send("look at", path, head, missing_ok=True)

    def read(self, path: str, longest: int) -> tuple[Found, bytes] | None:
        """Return an object and its content; None if there is none, or it is longer."""

        def get(store: Any) -> tuple[Found, bytes] | None:
            reply = obstore.get(store, self.key(path))
            found = self._found(cast("Mapping[str, Any]", reply.meta), reply.attributes)
            return None if found.size > longest else (found, bytes(reply.bytes()))

        return self._send("read", path, get, missing_ok=True)

    def read_range(self, path: str, start: int, length: int, etag: str | None) -> bytes:
        """Return bytes of an object."""

        def get(store: Any) -> bytes:
            options: Any = {"range": (start, start + length)}
            if etag is not None:
                options["if_match"] = etag
            return bytes(obstore.get(store, self.key(path), options=options).bytes())

        found = self._send("read", path, get)
        if found is None or len(found) != length:
            raise DestinationError(f"{self.name_of(path)} was replaced or removed while it was read.")
        return found

    def pages(self, directory: str = "") -> Iterator[list[Found]]:
        """Yield the objects below a directory in pages, sorted by key, without attributes."""
        prefix = self.key(directory + "/" if directory else "")
        offset: str | None = None
        while True:  # a page at a time: a failed page is requested again

            def page(store: Any, offset: str | None = offset) -> list[Any]:
                pages = obstore.list(store, prefix or None, offset=offset, chunk_size=1000)
                return list(next(iter(pages), []))

            listed = self._send("list", directory, page) or []
            found = [one for one in listed if offset is None or one["path"] > offset]  # Azure repeats it
            if not found:
                return
            yield [self._found(entry) for entry in found if not entry["path"].endswith("/")]
            offset = found[-1]["path"]

    def directory(self, directory: str) -> tuple[list[str], list[str]]:
        prefix = self.key(directory + "/" if directory else "")
        listed: Any = self._send(
            "list", directory, lambda store: obstore.list_with_delimiter(store, prefix or None)
        )
        names = [str(entry["path"])[len(prefix) :] for entry in listed["objects"]]
        inner = [str(one)[len(prefix) :].rstrip("/") for one in listed["common_prefixes"]]
        return [name for name in names if name], inner

    # --- writing -----------------------------------------------------------------------------------------

    def put(
        self, path: str, body: bytes | memoryview | Path, attributes: Mapping[str, str], *, create: bool
    ) -> bool:
        """Store an object."""
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        is_long = size > _SINGLE_PUT
        part = max(_SHORTEST_PART, -(-size // _MOST_PARTS))

        def send(store: Any) -> bool:
            if is_long and create and self.find(path) is not None:  # parts have no condition
                return False
            try:
                obstore.put(
                    store,
                    self.key(path),
                    body if is_long or not isinstance(body, Path) else body.read_bytes(),
                    attributes=cast("Any", dict(attributes)),
                    mode="create" if create and not is_long else "overwrite",
                    use_multipart=is_long,
                    chunk_size=part,
                    max_concurrency=_PARTS_AT_ONCE,
                )
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
                if " 409 " in str(error) and self.find(path) is None:  # two writers at once; S3 says: repeat
                    raise _RepeatError(str(error)) from error
                return False
            return True

        return bool(self._send("write", path, send))

    def remove(self, path: str) -> None:
        self._send("remove", path, lambda store: obstore.delete(store, self.key(path)), missing_ok=True)

    # --- requests ----------------------------------------------------------------------------------------

    def name_of(self, path: str) -> str:
        return self.location.url_of(self.key(path))

    def _found(self, meta: Mapping[str, Any], attributes: Mapping[Any, Any] | None = None) -> Found:
        path = str(meta["path"])[len(self._prefix) :]
        named = {str(name).lower(): str(value) for name, value in (attributes or {}).items()}
        return Found(path, int(meta["size"]), meta["last_modified"], meta.get("e_tag"), named)

    def _send(self, doing: str, path: str, call: Callable[[Any], T], *, missing_ok: bool = False) -> T | None:
        """Call obstore until it succeeds, or fails for good."""
        until, pause = time.monotonic() + _PATIENCE, 0.2
        while True:
            try:
                return call(self.service.store)
            except (exceptions.NotFoundError, FileNotFoundError) as error:
                failure: Exception = error
                if "NoSuchUpload" not in str(error):
                    if missing_ok:
                        return None
                    raise self._translated(doing, path, error) from error
            except (exceptions.BaseError, OSError) as error:
                failure = error
                if not _is_passing(error):
                    raise self._translated(doing, path, error) from error
            if time.monotonic() + pause > until:
                raise self._translated(doing, path, failure) from failure
            if pause > 1 and self._on_silent is not None:
                on_silent, self._on_silent = self._on_silent, None
                on_silent(f"{self.location.url} does not answer; still waiting.")
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - not a secret
            pause = min(_LONGEST_PAUSE, 2 * pause)

    def _translated(self, doing: str, path: str, error: Exception) -> DestinationError | CredentialsError:
        text = str(error)
        code = next(iter(_CODE.findall(text)), "")
        url = self.location.url
        if _UNTRUSTED in text:
            return DestinationError(
                f"The TLS certificate of {url} is not trusted: --ca-bundle FILE trusts one."
            )
        if isinstance(error, exceptions.UnauthenticatedError) or code in _REFUSED_KEYS:
            return CredentialsError(f"{url} refuses the credentials ({code or 'not authenticated'}).")
        if isinstance(error, exceptions.PermissionDeniedError):
            return CredentialsError(
                f"{url} does not allow to {doing} {path or 'its objects'} (access denied)."
            )
        if (
            code == "NoSuchBucket"
            or "ContainerNotFound" in text
            or (
                isinstance(error, exceptions.NotFoundError | FileNotFoundError) and doing in {"list", "write"}
            )
        ):
            return DestinationError(f"There is no bucket {self.location.bucket}: create it first ({url}).")
        first = re.sub(r"\s+", " ", text.partition("Debug source:")[0]).strip()[:_FIRST_ERROR]
        return DestinationError(
            f"{url} failed to {doing} {path or 'its objects'} ({code or first.rstrip('.')}): check the "
            "bucket, then `stacpull resume`."
        )


def _is_passing(error: Exception) -> bool:
    """Return True if the same request may succeed later."""
    if isinstance(error, exceptions.UnauthenticatedError | exceptions.PermissionDeniedError):
        return False
    if isinstance(error, _RepeatError):
        return True
    text = str(error)
    codes = set(_CODE.findall(text))
    if codes & _REPEATED_CODES:
        return True
    status = _STATUS.search(text)
    if status is not None:
        return int(status[1]) in _REPEATED
    return isinstance(error, exceptions.GenericError) and "HTTP error" in text and _UNTRUSTED not in text
