"""`tcp://host:port/path`: a scheme that looks up hosts, as one on sockets does. Its files are in memory."""

import asyncio

from stacpull.hosts import host_of, origin_of
from stacpull.net.addresses import AddressPolicy, AddressRefusedError
from stacpull.net.connection_errors import connection_failure
from stacpull.net.transport import BufferedResponse, Request, Response, TransferError, Transport
from stacpull.schemes import Scheme, TransportSetup

FILES: dict[str, bytes] = {}
TCP = Scheme(name="tcp", factory="tests.schemes.tcp:transport")


def transport(setup: TransportSetup) -> Transport:
    return TcpTransport(setup.ip_policy)


class TcpTransport:
    def __init__(self, ip_policy: AddressPolicy) -> None:
        self._ip_policy = ip_policy

    async def send(self, request: Request) -> Response:
        _, host, port = origin_of(request.url)
        found = await asyncio.get_running_loop().getaddrinfo(host, port)
        try:
            address, *_ = self._ip_policy.allowed(host, [str(info[4][0]) for info in found])
        except AddressRefusedError as error:
            raise TransferError(connection_failure(error, host_of(request.url))) from error
        self._ip_policy.connected(host, address)
        body = FILES[request.url]
        return BufferedResponse(request.url, 200, {"Content-Length": str(len(body))}, body)

    async def close(self) -> None:
        """There is no connection to close."""
