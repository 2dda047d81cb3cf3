"""A small proxy (RFC 9110, 9.3.6: CONNECT; and whole URLs for http) that records everything it receives.

Whatever the requested host, it connects to one port of loopback: the proxy is the one that looks names up.
"""

import asyncio
import base64

from tests.net.wire_server import StreamServer


class Proxy(StreamServer):
    """`with Proxy(port) as proxy`: leads all to `port`; `user` (`name:password`) is required."""

    def __init__(self, port: int, *, user: str | None = None) -> None:
        super().__init__(self._answer)
        self.heads: list[str] = []
        """Heads of requests in clear, as the proxy saw them."""
        self.passed: list[bytes] = []
        """What went through the tunnels."""
        self._target = port
        self._wanted = None if user is None else base64.b64encode(user.encode()).decode()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head.decode("latin-1"))
        if self._wanted is not None and f"Basic {self._wanted}".encode() not in head:
            writer.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return
        upstream, onward = await asyncio.open_connection("127.0.0.1", self._target)
        if head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        tunnel = head.startswith(b"CONNECT ")
        forth = self._copy(reader, onward) if tunnel else self._forward(head, reader, onward)
        try:
            await asyncio.gather(forth, self._copy(upstream, writer, note=False))
        finally:
            onward.transport.abort()

    async def _forward(self, head: bytes, reader: asyncio.StreamReader, onward: asyncio.StreamWriter) -> None:
        """Send requests without bodies on, one after the other, with their paths alone."""
        while True:
            method, url, rest = head.split(b" ", 2)
            path = b"/" + url.split(b"/", 3)[3]
            fields = [line for line in rest.split(b"\r\n") if not line.lower().startswith(b"proxy-")]
            onward.write(b" ".join([method, path, b"\r\n".join(fields)]))
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head.decode("latin-1"))

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, note: bool = True
    ) -> None:
        while data := await reader.read(1 << 16):
            if note:
                self.passed.append(data)
            writer.write(data)
            await writer.drain()
        writer.close()
