"""The watch over secrets would notice: each place that it looks into, with a secret put there."""

import asyncio
import base64
import sys
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import quote_plus

import aiohttp
import pytest
from tests.security.secrets import found_in
from tests.security.watch import Watch, arguments_of

from stacpull_replicas import MlhubReplica, run_in_thread

KEY = "planted-key/with+odd=characters"
BASIC = base64.b64encode(f"me:{KEY}".encode()).decode()


@pytest.fixture
def watch() -> Watch:
    watch = Watch()
    watch.note(MlhubReplica(items=1, key=KEY))
    return watch


@pytest.mark.parametrize("spelled", [KEY, quote_plus(KEY), KEY.encode().hex(), BASIC])
@pytest.mark.parametrize("place", ["nowhere", "log", "name", "printed", "arguments", "table", "answers"])
def test_a_secret_is_found_in_each_place_and_spelling(watch, tmp_path, place, spelled):
    own = tmp_path / "m" / ".stacpull"
    own.mkdir(parents=True)
    (own / "log.ndjson").write_text(f"asked with {spelled}." if place == "log" else "a key, but which?")
    (tmp_path / "out.csv.stacpull").write_text(spelled if place == "answers" else "")
    (tmp_path / "out.csv").write_text(f"name,href\na,{spelled}\n" if place == "table" else "")
    if place == "name":
        (own.parent / spelled.replace("/", "%2F")).touch()
    watch.printed += [f"asked with {spelled}."] if place == "printed" else []
    watch.arguments |= {f"python\0-m\0worker\0{spelled}\0".encode()} if place == "arguments" else set()
    with nullcontext() if place == "nowhere" else pytest.raises(AssertionError):
        watch.assert_clean(tmp_path)


def test_a_key_sent_to_another_server_is_found(tmp_path: Path) -> None:
    watch = Watch()

    async def send_key(url: str) -> None:
        async with aiohttp.ClientSession() as session, session.get(url, headers={"X": KEY}) as response:
            await response.read()

    with run_in_thread(MlhubReplica(items=1, key=KEY)) as replica:
        watch.note(replica)
        asyncio.run(send_key(f"{replica.base_url}?key={KEY}"))
        watch.assert_clean(tmp_path)
        asyncio.run(send_key(replica.blob_url))
        with pytest.raises(AssertionError, match="blob"):
            watch.assert_clean(tmp_path)


def test_arguments_of_child_processes_are_watched() -> None:
    async def course() -> set[bytes]:
        inner = "import sys; sys.stdin.read()"
        outer = (
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}, 'planted-argument'])"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", outer, stdin=asyncio.subprocess.PIPE
        )
        inner_ones: set[bytes] = set()
        while not inner_ones:
            found = arguments_of(process.pid)
            inner_ones = {line for line in found if line and b"import subprocess" not in line}
            await asyncio.sleep(0.01)
        await process.communicate(b"")
        return inner_ones

    assert any(found_in(line, ["planted-argument"]) for line in asyncio.run(course()))
