"""Reads JSON documents (pages, collections, items), with retries, because a failed page ends the walk.

A document that is not JSON is requested twice: proxies garble bodies, and load balancers send pages of their
own. The errors are `TransferError` (it could not be read: the caller judges the status), `CredentialsError`
(SOURCE's host refuses), and `SourceError` (it is not JSON).
"""

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final, NamedTuple

import msgspec
import orjson
from msgspec.structs import replace

from stacpull.errors import CredentialsError, SourceError
from stacpull.hosts import host_of
from stacpull.json_values import MAX_VALUES, count_values
from stacpull.models import Failure, FailureKind, Headers, Json, PageRequest
from stacpull.net.client import Client, Exchange
from stacpull.net.retry import Retries
from stacpull.net.status import RANGES, is_web_page
from stacpull.net.transport import Request, Response, TransferError, is_framed
from stacpull.redact import public_url
from stacpull.urls import same_site

PAGE_LIMIT: Final = 64_000_000  # the maximum size of a document in bytes, after undoing the content coding
SOURCE_LIMIT: Final = 256 * 1024 * 1024  # bytes of the document at SOURCE's URL: 1.6 million links to items
LENIENT_LIMIT: Final = 16 * 1024 * 1024  # bytes decoded leniently, which takes ten times as long
SMALL: Final = 256 * 1024  # bytes up to which many documents are read at once; larger ones are read alone

_BYTES_PER_VALUE = 32  # a limit above the usual one allows one value per this many bytes
_MIN_BYTES_PER_VALUE = 8  # with more values, a document is not a collection of items
_MEMORY_PER_VALUE = 128
_MAX_INTEGER_LENGTH = 20  # the longest that fits into 64 bits: longer ones are never converted to `int`
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
_CHARSETS = re.compile(r"(?i)(iso-?8859|windows|cp|utf-16|utf-32|koi8|big5|gb|shift_jis|euc)[-\w]*")
"""Charsets that Python decodes in linear time."""
_BEGINNINGS = (b"{", b"[", b"\xff\xfe", b"\xfe\xff")  # of a document; the last two mark UTF-16 and UTF-32
_SURROGATE = re.compile("[\ud800-\udfff]")
_BACKSLASHES = re.compile(r"(?<!\\)\\++(?=[ux])")
_MAX_GARBLED = 2  # requests for one document after which it fails, because its responses are not JSON
_MAX_STALLED = 3  # requests for one document after which it fails, because they stall
_ACCEPT = "application/geo+json, application/json"
_IN_THREAD = 1_000_000  # bytes: decoding more would hold the loop for several milliseconds
_SEARCHED = 64 * 1024  # bytes of a web page


class TooManyValuesError(ValueError):
    """A document has too many values to be decoded: 64 MB of `[],` would take 1.4 GB."""


def decode(data: bytes, limit: int = PAGE_LIMIT, charset: str | None = None) -> tuple[object, bool]:
    """Decode a JSON document, and return whether it is strict JSON."""
    max_values = max(limit // _BYTES_PER_VALUE, MAX_VALUES)
    if len(data) > max_values and count_values(data) > max_values:
        raise TooManyValuesError(f"more than {max_values} values")
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return orjson.loads(data), True
    except orjson.JSONDecodeError as error:
        if len(data) > LENIENT_LIMIT or not data.lstrip().startswith(_BEGINNINGS):
            raise
        strict = error
    if charset is not None and _CHARSETS.fullmatch(charset):  # often wrong, so UTF-8 was tried first
        with suppress(LookupError, ValueError):
            data = data.decode(charset).encode()
            return orjson.loads(data), True
    try:
        return orjson.loads(_as_strict(data)), False
    except (ValueError, RecursionError):
        raise strict from None


def _as_strict(data: bytes) -> str:
    text = data.decode("utf-8", "surrogateescape")
    # more backslashes than the text has in a row: different texts stay different (but at most 4, for memory)
    longest = max(map(len, _BACKSLASHES.findall(text)), default=0)
    mark = r"\\" * min(longest // 2 + 1, 4)
    # invalid bytes, which are surrogates now, become `\xXX`
    text = text.translate({0xDC00 + byte: f"{mark}x{byte:02X}" for byte in range(0x80, 0x100)})
    # NaN becomes null, and a number out of range a text
    strict_text = json.dumps(_PARSER.decode(text), ensure_ascii=False, allow_nan=False)
    # half a surrogate pair becomes `\uXXXX`
    return _SURROGATE.sub(lambda half: f"{mark}u{ord(half[0]):04x}", strict_text)


def _number(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


_PARSER = json.JSONDecoder(
    parse_int=lambda text: int(text) if len(text) <= _MAX_INTEGER_LENGTH else _number(text),
    parse_float=_number,
    parse_constant=lambda _: None,
    strict=False,
)


def decode_without_features(data: bytes) -> Json | None:
    """Return a FeatureCollection with undecoded features, which take less memory, or None."""
    if count_values(data) > len(data) // _MIN_BYTES_PER_VALUE:
        return None
    try:
        members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        features = msgspec.json.decode(members.pop("features", b""), type=list[msgspec.Raw])
        return {name: orjson.loads(bytes(text)) for name, text in members.items()} | {"features": features}
    except (msgspec.DecodeError, orjson.JSONDecodeError):
        return None


class Document(NamedTuple):
    body: object
    size: int  # the size of the document after undoing the content coding
    url: str  # of the last response, after redirects, without known secrets. It is not for messages
    memory: int = 0  # estimated, in bytes

    @property
    def members(self) -> Json:
        return self.body if isinstance(self.body, dict) else {}


class _NotJsonError(TransferError):
    """A completely received document is not JSON; `html` is the body of a web page, otherwise empty."""

    def __init__(self, failure: Failure, html: bytes = b"") -> None:
        super().__init__(failure)
        self.html = html


class JsonReader(msgspec.Struct, eq=False):
    """Reads documents. If `source` refuses, messages name the credentials used, or the `key_variable`."""

    client: Client
    retries: Retries
    source: str
    credential_names: tuple[str, ...] = ()
    key_variable: str | None = None  # named in place of credentials, if there are none
    limit: int = PAGE_LIMIT
    warn: Callable[[str], None] = lambda _: None  # for requests that stalled, and once for lenient JSON
    large_document_lock: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
    """Held by readers of many documents while they read one of more than `SMALL` bytes."""
    has_warned: bool = False
    last_read_url: str = ""  # of the last page, without its query: credentials were valid there

    @property
    def advice(self) -> str:
        if self.credential_names:
            return f"Check {' and '.join(self.credential_names)}."
        if self.key_variable:
            return f"{self.key_variable} is not set: export {self.key_variable}=..."
        return "Pass credentials with --credentials, --header or in the environment."

    async def read(self, request: PageRequest) -> Document:
        """Read a document without which the walk ends."""
        plain = request.url.partition("?")[0]
        try:
            document = await self._read(request, warns=True)
        except _NotJsonError as error:
            is_login = b"password" in error.html[:_SEARCHED].lower()
            if is_login or (error.html and plain != self.last_read_url):
                hint = (
                    "Use the URL of an API or a catalog.json, log in, or wait: it may be under maintenance."
                )
                raise CredentialsError(f"{error.failure.message} {hint} {self.advice}") from error
            hint = " SOURCE must be a STAC document, or a .ndjson or .ndjson.gz file of items, or .parquet."
            text = error.failure.message
            if request.url == self.source:
                text += hint
            raise SourceError(text) from error.__cause__
        except TransferError as error:
            self._raise_if_source_refuses(error, request.url)
            raise
        self.last_read_url = plain
        return document

    async def read_optional(self, request: PageRequest, limit: int | None = None) -> Document:
        """Read a document that may be left out. Only 50 refusals in a row end the walk."""
        try:
            return await self._read(request, limit)
        except _NotJsonError as error:
            if error.html:
                raise
            raise TransferError(Failure(FailureKind.ITEM, str(error), host=host_of(request.url))) from error

    @asynccontextmanager
    async def stream(self, url: str, headers: Headers) -> AsyncIterator[Response]:
        """Open a response (200, 206, 416), with retries. If it is truncated, the caller requests the rest."""
        request = Request(url, headers=headers)
        async with AsyncExitStack() as stack:
            try:
                response = await self.retries.run(
                    lambda: stack.enter_async_context(self.client.stream(request, accept=RANGES))
                )
            except TransferError as error:
                self._raise_if_source_refuses(error, url)
                raise
            with response.gate.lend_permit():  # its reader may wait for other requests to this host
                yield response

    def _raise_if_source_refuses(self, error: TransferError, url: str) -> None:
        if error.failure.status in {401, 403} and same_site(self.source, url):
            raise CredentialsError(f"{error.failure.message} {self.advice}") from error

    async def _read(self, request: PageRequest, limit: int | None = None, *, warns: bool = False) -> Document:
        headers = {"accept": _ACCEPT, **(request.headers or {})}
        body = None
        if request.method == "POST":
            headers["Content-Type"] = "application/json"
            body = orjson.dumps(request.body or {})
        outgoing = Request(request.url, request.method, headers, body, purpose="document")
        usual_limit = max(SOURCE_LIMIT, self.limit) if request.url == self.source else self.limit
        last_failure: Failure | None = None  # not the error: its traceback holds this frame
        garbled = stalled = 0  # attempts

        async def attempt() -> Document:
            nonlocal last_failure, garbled, stalled
            if warns and last_failure is not None and last_failure.kind is FailureKind.STALLED:
                self.warn(f"{last_failure.message} Requesting it again.")
            try:
                return await self._attempt(outgoing, limit or usual_limit)
            except TransferError as error:
                last_failure = failure = error.failure
                garbled += isinstance(error, _NotJsonError)
                stalled += failure.kind is FailureKind.STALLED
                if garbled == _MAX_GARBLED or stalled == _MAX_STALLED:
                    error.failure = replace(failure, retry=False)
                if failure.is_over_limit and limit is None:
                    text = f"{failure.message} STACPULL_MAX_PAGE_SIZE raises the limit."
                    raise TransferError(replace(failure, message=text)) from error
                raise

        return await self.retries.run(attempt)

    async def _attempt(self, outgoing: Request, limit: int) -> Document:
        async with self.client.stream(outgoing) as response:
            body = await response.read(limit)
            value: object = None
            if len(body) > LENIENT_LIMIT and outgoing.url == self.source:
                value = await asyncio.to_thread(decode_without_features, body)
            if value is None:
                value = await self._decoded(body, limit, response)
            memory = len(body) + _MEMORY_PER_VALUE * count_values(body)
            return Document(value, len(body), response.url, memory)

    async def _decoded(self, body: bytes, limit: int, response: Exchange) -> object:
        status = response.status
        charset_field = _CHARSET.search(response.headers.get("Content-Type", ""))
        charset = charset_field and charset_field[1]
        url = public_url(response.url, keep_tokens=True)
        host = host_of(response.url)
        try:
            if len(body) > _IN_THREAD:
                value, is_strict = await asyncio.to_thread(decode, body, limit, charset)
            else:
                value, is_strict = decode(body, limit, charset)
        except TooManyValuesError as error:
            message = f"{host or url} sent a document of {error}."
            raise TransferError(Failure(FailureKind.OVERLONG, message, status, host, retry=False)) from error
        except ValueError as error:
            if host and is_web_page(response.headers, body):  # a file has no host, and no login
                message = f"{host} answered with a web page instead of JSON."
                # of another site, a link may be wrong: then credentials do not help
                kind = FailureKind.REFUSED if same_site(self.source, response.url) else FailureKind.ITEM
                raise _NotJsonError(Failure(kind, message, status, host, retry=True), body) from error
            if not is_framed(response.headers):
                message = f"{host} sent truncated JSON without stating its length."
                raise TransferError(Failure(FailureKind.TRUNCATED, message, status, host)) from error
            problem = "nested too deeply" if "limit exceeded" in str(error) else "not JSON"
            raise _NotJsonError(Failure(FailureKind.SERVER, f"{url} is {problem}.", status, host)) from error
        if not is_strict:
            self.warn_lenient(url)
        return value

    def warn_lenient(self, name: str) -> None:
        if not self.has_warned:
            self.has_warned = True
            problems = "numbers out of range and invalid Unicode are read as text, NaN as null"
            self.warn(f"{name} is not strict JSON: {problems}. Later documents like this are not reported.")
