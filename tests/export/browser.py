"""Pages in a real browser: chromium, driven over its DevTools protocol."""

import asyncio
import base64
import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import aiohttp

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS: Final = {"narrow": 360, "wide": 1280}
SCHEMES: Final = ("light", "dark")


class Page:
    """One tab. Its errors are in `errors`, and every URL that it requested in `requests`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def listen(self) -> None:
        async for message in self._socket:
            reported = message.json()
            if "id" in reported:
                self._answers.pop(reported["id"]).set_result(reported)
                continue
            method, found = reported["method"], reported["params"]
            if method == "Network.requestWillBeSent":
                self.requests.append(found["request"]["url"])
            elif method == "Runtime.exceptionThrown":
                self.errors.append(str(found["exceptionDetails"]))
            elif method == "Log.entryAdded" and found["entry"]["level"] in ("error", "warning"):
                self.errors.append(f"{found['entry']['text']} {found['entry'].get('url')}")
            elif method == "Runtime.consoleAPICalled":
                self.errors.append(str(found["args"]))

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        reported = await answer
        assert "error" not in reported, reported
        found: dict[str, Any] = reported["result"]
        return found

    async def run(self, script: str) -> Any:
        found = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def wait_for(self, script: str) -> None:
        async with asyncio.timeout(300):
            while not await self.run(script):  # noqa: ASYNC110 - the browser sets no event
                await asyncio.sleep(0.05)

    async def look(self, width: int, scheme: str) -> None:
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                        mobile=False)  # fmt: skip
        await self.call("Emulation.setScrollbarsHidden", hidden=True)
        await self.call(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.wait_for("document.body?.dataset.drawn === 'yes'")

    async def picture(self, width: int = 0, height: int = 0) -> bytes:
        clip = {"clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}} if height else {}
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=True, **clip)
        return base64.b64decode(found["data"])

    async def busy(self) -> float:
        """Return the seconds of the processor that the thread of this page has taken."""
        found = await self.call("Performance.getMetrics")
        return float(next(one["value"] for one in found["metrics"] if one["name"] == "ThreadTime"))

    async def is_too_wide(self) -> bool:
        return bool(
            await self.run("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        )


@asynccontextmanager
async def opened_page() -> AsyncIterator[Page]:
    assert CHROMIUM is not None
    with TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank",
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            port = await _port(Path(profile) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    tabs = await answer.json(content_type=None)
                tab = next(one for one in tabs if one["type"] == "page")
                async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    page = Page(socket)
                    listening = asyncio.create_task(page.listen())
                    for domain in ("Page", "Runtime", "Log", "Network", "Performance"):
                        await page.call(f"{domain}.enable")
                    yield page
                    listening.cancel()
                    with suppress(asyncio.CancelledError):
                        await listening
        finally:
            process.kill()
            await process.wait()


async def _port(file: Path) -> int:
    async with asyncio.timeout(300):
        while True:
            with suppress(OSError, ValueError, IndexError):
                return int((await asyncio.to_thread(file.read_text)).splitlines()[0])
            await asyncio.sleep(0.05)
