"""`mem://bucket/key`: an object store in a dict that may want a key, as an example of a new scheme."""

import os
from collections.abc import Mapping

import orjson
from multidict import CIMultiDict

from stacpull.models import Failure, FailureKind
from stacpull.net.client import Client
from stacpull.net.transport import BufferedResponse, Request, Response, TransferError, Transport
from stacpull.planning.prefixes import ListedObject
from stacpull.redact import Secret
from stacpull.schemes import Scheme, TransportSetup

MEM = Scheme(
    name="mem", is_object_store=True, key_variables=("MEM_KEY",), factory="tests.schemes.mem:transport"
)
OBJECTS: dict[str, bytes] = {}
"""The objects by URL."""
RIGHT = {"key": ""}


def transport(setup: TransportSetup) -> Transport:
    key = os.environ.get("MEM_KEY", "")
    setup.secrets.add(Secret(key))
    return MemTransport(OBJECTS, is_allowed=key == RIGHT["key"], key=key)


async def list_prefix(client: Client, prefix: str) -> tuple[ListedObject, ...]:
    async with client.stream(Request(prefix, query="list", purpose="document")) as response:
        sizes = orjson.loads(await response.read(1 << 20))
    if not sizes:
        message = f"The prefix {prefix} cannot be mirrored: nothing is there."
        raise TransferError(Failure(FailureKind.PREFIX, message))
    return tuple(ListedObject(name, size) for name, size in sizes.items())


class MemTransport:
    """Answers requests as an HTTP server would."""

    def __init__(self, objects: Mapping[str, bytes], *, is_allowed: bool, key: str) -> None:
        self._objects = objects
        self._is_allowed = is_allowed
        self._key = key

    async def send(self, request: Request) -> Response:
        if not self._is_allowed:
            message = f"{self._key!r} is not the key of {request.url}."
            raise TransferError(Failure(FailureKind.REFUSED, message, 403))
        body = self._objects.get(request.url)
        if request.query:
            under = {url: len(found) for url, found in self._objects.items() if url.startswith(request.url)}
            body = orjson.dumps({url.removeprefix(request.url): size for url, size in under.items()})
        fields = CIMultiDict({"Content-Length": str(len(body or b""))})
        return BufferedResponse(request.url, 404 if body is None else 200, fields, body or b"")

    async def close(self) -> None:
        """Nothing is open."""
