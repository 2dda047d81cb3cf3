"""HTTPS through the tunnel of a hostile proxy: it receives no secret, and its statements are not trusted."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.net.wire_server import StreamServer
from tests.security.secrets import found_in, found_under

from stacpull import Options, Secret, StacpullError, mirror

KEY = "planted-key-of-the-source"
PASSWORD = "planted-proxy-password"
ITEMS = json.dumps({"type": "FeatureCollection", "features": [], "links": []}).encode()
IN_CLEAR = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(ITEMS), ITEMS,
)  # fmt: skip

CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
ANSWERS = {
    "an answer in clear": CONNECTED + IN_CLEAR,
    "an answer in place of the tunnel": IN_CLEAR,
    "nothing": b"",
    "the tunnel ends at once": CONNECTED,
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "credentials": b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n",
    "credentials of the source": b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
    "a refusal": b"HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nno!!",
    "fields without end": b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 100_000,
    "many fields": b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: x\r\n" % n for n in range(5000)) + b"\r\n",
    "no HTTP": b"\x15\x03\x01\x00\x02\x02\x28",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
}


def hostile_proxy(answer: bytes, heads: list[bytes]) -> StreamServer:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        if answer:
            heads.append(await asyncio.wait_for(reader.read(1 << 16), 1))

    return StreamServer(serve)


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_hostile_proxy(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    heads: list[bytes] = []

    async def course() -> str:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        async with hostile_proxy(ANSWERS[kind], heads) as proxy:
            monkeypatch.setenv("https_proxy", f"http://me:{PASSWORD}@127.0.0.1:{proxy.port}")
            headers = {"Authorization": Secret(f"Bearer {KEY}")}
            options = Options(retries=0, headers=headers, query={"token": Secret(KEY)})
            with pytest.raises(StacpullError) as caught:
                await mirror("https://far.example/collections/c", tmp_path / "m", options=options)
            return str(caught.value)

    message = asyncio.run(asyncio.wait_for(course(), 30))
    assert message
    assert heads[0].startswith(b"CONNECT far.example:443 ")
    assert all(head.startswith(b"CONNECT far.example:443 ") for head in heads[::2] if b"CONNECT" in head)
    assert found_in(b"".join(heads), [KEY]) == []
    printed = "".join(capfd.readouterr()) + message
    assert found_in(printed.encode(), [KEY, PASSWORD]) == []
    assert found_under(tmp_path, [KEY, PASSWORD]) == []
