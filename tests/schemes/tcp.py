"""`tcp://host:port/path`: the path goes to a server, the file comes back. A scheme on sockets."""

from __future__ import annotations

import asyncio
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from stacpull.hosts import host_of, origin_of
from stacpull.net.addresses import AddressPolicy, AddressRefusedError
from stacpull.net.connection_errors import no_connection
from stacpull.net.transport import BufferedResponse, Request, Response, TransferError, Transport
from stacpull.schemes import Scheme, TransportSetup

TCP = Scheme(name="tcp", maker="tests.schemes.tcp:transport")


def transport(setup: TransportSetup) -> Transport:
    return TcpTransport(setup.ip_policy)


class TcpTransport:
    def __init__(self, ip_policy: AddressPolicy) -> None:
        self._ip_policy = ip_policy

    async def send(self, request: Request) -> Response:
        _, host, port = origin_of(request.url)
        found = await asyncio.get_running_loop().getaddrinfo(host, port)
        reasons = self._ip_policy.note_lookup(host, [str(info[4][0]) for info in found])
        address, reason = next(iter(reasons.items()))
        if reason is not None:
            raise TransferError(no_connection(AddressRefusedError(address, reason), host_of(request.url)))
        reader, writer = await asyncio.open_connection(address, port)
        self._ip_policy.connected(host, address)
        writer.write(request.url.partition("://")[2].partition("/")[2].encode() + b"\n")
        body = await reader.read()
        writer.close()
        return BufferedResponse(request.url, 200, {"Content-Length": str(len(body))}, body)

    async def close(self) -> None:
        """Each request has a connection of its own."""


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serve `files` by path. Yield `tcp://host:port`, and the list of the paths that were requested."""
    requested: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            requested.append(self.rfile.readline().decode().strip())
            self.wfile.write(files[requested[-1]])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"tcp://127.0.0.1:{cast('tuple[str, int]', server.server_address)[1]}", requested
        server.shutdown()
