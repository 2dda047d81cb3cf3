"""Memory does not grow with the number of items.

`TESTS_MEMORY_ITEMS=50000 pytest tests/acceptance/test_memory.py` mirrors more of them than the suite does.
"""

import os
import time
from pathlib import Path
from statistics import median

import pytest
from tests.acceptance.asset_host import ApiHost, Connection
from tests.acceptance.command import Running, environment
from tests.security.watch import children_of

ITEMS = int(os.environ.get("TESTS_MEMORY_ITEMS", "12000"))
PER_ITEM = 500
"""Bytes of own memory that an item of the second half may add. The first half fills the caches of SQLite."""
MAX_PEAK = 120e6
"""Bytes of own memory of the network process and the store process together, whatever the number."""


def redirected(connection: Connection) -> None:
    """Answer as a host of assets that redirects to signed URLs of its own."""
    while (path := connection.request()) is not None:
        if path.startswith("/assets/"):
            signed = f"{path.replace('assets', 'files')}?X-Amz-Signature={'0' * 64}"
            head = f"HTTP/1.1 302 Found\r\nLocation: {signed}\r\nContent-Length: 0\r\n\r\n"
            connection.sock.sendall(head.encode())
        else:
            connection.answer(path)


class ManyItems(ApiHost):
    count, per_page = ITEMS, 100

    def content(self, path: str) -> tuple[str, bytes]:
        return ("200 OK", path.encode()) if path.startswith("/files/") else super().content(path)


def own_memory(pid: int) -> int:
    """Return the memory of a process that no file holds, in bytes (proc(5), smaps_rollup).

    What it maps from files may be shared with other processes.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon:"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_items(tmp_path: Path) -> None:
    """The medians of the third and the last quarter: a maximum is that of one moment, as a page is read."""
    measured: dict[int, list[int]] = {quarter: [] for quarter in range(4)}
    with ManyItems(redirected) as host:
        total = 2 * ITEMS + ITEMS // ManyItems.per_page
        command = ["mirror", f"{host.url}/collections/c", str(tmp_path / "m"), "--allow-private-hosts"]
        command += ["--metadata", "ndjson", "--json"]
        with Running(command, environment(), forked=False) as process:
            while process.is_alive():
                time.sleep(0.1)
                requested, stores = len(host.requests), children_of(process.pid)
                if stores and requested < total:
                    taken = sum(map(own_memory, (process.pid, *stores)))
                    measured[4 * requested // total].append(taken)
            ran = process.ended()
    assert (ran.code, ran.report["assets_done"]) == (0, ITEMS), ran.err
    third, last = median(measured[2]), median(measured[3])
    print(f"third quarter: {third / 1e6:.1f} MB, last: {last / 1e6:.1f} MB")  # noqa: T201 - with pytest -s
    assert last - third < PER_ITEM * ITEMS / 4
    assert 0 < max(map(max, measured.values())) < MAX_PEAK
