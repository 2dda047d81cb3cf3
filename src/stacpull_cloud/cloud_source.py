"""Objects of a `Service` as SOURCE and assets, through obstore (`stacpull.schemes`).

Keys are not decoded. Credentials are sent only where `Service.split` says. Redirects to these URLs are not
followed (`net.client`). Without `--aws-metadata`, no metadata service is asked.
Requests use obstore's async calls, because a stop can end them at once: it would wait for a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from email.utils import format_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import obstore
import orjson
from msgspec.structs import replace
from multidict import CIMultiDict
from obstore import exceptions

from stacpull.errors import StacpullError, UsageError
from stacpull.hosts import origin_text
from stacpull.models import BucketLocation, Failure, FailureKind
from stacpull.net.client import Client
from stacpull.net.fields import requested_range, validator_from
from stacpull.net.transport import BufferedResponse, Request, Response, TransferError
from stacpull.planning.prefixes import MAX_OBJECTS, ListedObject
from stacpull.schemes import TransportSetup
from stacpull_cloud.objects import MISSING, STATUS, plain_reason, unreachable

if TYPE_CHECKING:
    from stacpull_cloud.bucket_kinds import Service


async def list_prefix(client: Client, prefix: str) -> tuple[ListedObject, ...]:
    async with client.stream(Request(prefix, query="list", purpose="document")) as response:
        objects = orjson.loads(await response.read(64 << 20))
    if not objects or len(objects) > MAX_OBJECTS:
        why = f"it has more than {MAX_OBJECTS:,} objects" if objects else "nothing is there"
        message = f"The prefix {prefix} cannot be mirrored: {why}."
        raise TransferError(Failure(FailureKind.PREFIX, message))
    return tuple(ListedObject(name, size) for name, size in objects)


class CloudTransport:
    def __init__(self, kind: type[Service], setup: TransportSetup) -> None:
        self._kind, self._setup = kind, setup
        self._resolved = lru_cache(64)(kind.resolved)  # reads the environment; errors are not kept
        self._store = lru_cache(64)(self._open_bucket)

    async def send(self, request: Request) -> Response:
        location, key = self._split(request)
        try:
            store = await asyncio.to_thread(self._store, location)
            if request.query:
                return BufferedResponse(request.url, 200, {}, await _list_files(store, key))
            options: Any = await _options(store, key, request)
            reply = await obstore.get_async(store, key, options=options)
        except (OSError, exceptions.BaseError) as error:
            if (status := STATUS.search(str(error))) is not None:
                _, bracket, body = str(error).partition("Debug source:")[0].partition("<")  # of XML
                return BufferedResponse(request.url, int(status[1]), {}, f"{bracket}{body}".encode())
            why = unreachable(str(error)) or f"cannot be read: {plain_reason(str(error))}"
            message = self._setup.secrets.masked(f"{origin_text(request.url)} {why}.")
            raise TransferError(Failure(FailureKind.NETWORK, message, host=location.bucket)) from error
        return _CloudResponse(request.url, reply, is_whole="range" not in options)

    async def close(self) -> None:
        """Obstore closes its connections itself."""

    def _split(self, request: Request) -> tuple[BucketLocation, str]:
        try:
            location, key = self._kind.split(request.url) or (BucketLocation(""), "")
            if not location.bucket or not (key or request.query):
                raise UsageError(f"{request.url} names no object.")
            options = self._setup.options
            bundle = None if options.ca_bundle is None else str(options.ca_bundle)
            metadata = options.s3.aws_metadata and location.is_signed
            used = {"ca_bundle": bundle, "metadata": metadata, "read_timeout": options.stall_timeout}
            return self._resolved(replace(location, **used)), key
        except StacpullError as error:
            raise TransferError(Failure(FailureKind.SCHEME, str(error))) from error

    def _open_bucket(self, location: BucketLocation) -> Any:
        service = self._kind(location)
        self._setup.secrets.add(*service.secrets)
        return service.store


async def _options(store: Any, key: str, request: Request) -> dict[str, Any]:
    """Return obstore's options for the fields of a request. It knows no If-Range, only If-Match."""
    sent = {name.lower(): value for name, value in request.headers.items()}
    options: dict[str, Any] = {"head": request.method == "HEAD"}
    if condition := sent.get("if-match") or validator_from(sent.get("if-range", "")).etag:  # not a date
        options["if_match"] = condition
    if "if-none-match" in sent:
        options["if_none_match"] = sent["if-none-match"]
    if span := requested_range(sent.get("range", "")):
        if span.start < 0:  # Azure does not support these
            span = slice(*span.indices((await obstore.head_async(store, key))["size"]))
        if span.stop != 0:  # an empty object is sent whole
            options["range"] = {"offset": span.start} if span.stop is None else (span.start, span.stop)
    return options


async def _list_files(store: Any, prefix: str) -> bytes:
    """Return the objects below a prefix, without placeholders of directories (`sub/`).

    obstore lists placeholders as empty objects without the slash: only a request tells them from empty files.
    """

    async def is_file(path: str) -> bool:
        with suppress(*MISSING):
            return bool(await obstore.head_async(store, path))
        return False

    files: list[tuple[str, int]] = []
    async for entries in obstore.list(store, prefix or None, chunk_size=1000):
        for entry in entries:
            path, size = entry["path"], entry["size"]
            if len(path) > len(prefix) and (size or await is_file(path)):
                files.append((path.removeprefix(prefix), size))
        if len(files) > MAX_OBJECTS:
            break
    return orjson.dumps(files)


class _CloudResponse:
    def __init__(self, url: str, reply: Any, *, is_whole: bool) -> None:
        self.url = url
        self._reply = reply
        start, end = reply.range
        self.status = 200 if is_whole else 206
        fields = {
            "Content-Length": str(end - start),
            "Content-Range": None if is_whole else f"bytes {start}-{end - 1}/{reply.meta['size']}",
            "Accept-Ranges": "bytes",
            "ETag": reply.meta["e_tag"],
            "Last-Modified": format_datetime(reply.meta["last_modified"], usegmt=True),
            **{name: reply.attributes.get(name) for name in ("Content-Type", "Content-Encoding")},
        }
        self.headers: Mapping[str, str] = CIMultiDict({k: v for k, v in fields.items() if v})

    async def chunks(self, size: int) -> AsyncGenerator[bytes]:
        try:
            async for piece in self._reply.stream(min_chunk_size=size):
                yield bytes(piece)
        except (OSError, exceptions.BaseError) as error:
            message = f"{self.url.split('/')[2]} broke off: {plain_reason(str(error))}."
            raise TransferError(Failure(FailureKind.TRUNCATED, message)) from error

    async def close(self) -> None:
        """Obstore closes its connections itself."""
