"""A store process that is killed, or whose disk fails: exit code 5, a sentence, and a run to resume."""

import os
import signal
from pathlib import Path

import pytest
from tests.acceptance.asset_host import AssetHost, Connection, item_collection, local_items
from tests.acceptance.command import Running, environment, run, wait_until
from tests.security.watch import stores_of


@pytest.mark.parametrize("moment", ["/items.json", "/assets/1"], ids=["before DEST is opened", "later"])
def test_a_store_process_that_is_killed_ends_the_run(tmp_path: Path, moment: str) -> None:
    running, killed = list[Running](), list[int]()

    def serve(connection: Connection) -> None:
        while (path := connection.request()) is not None:
            if path == moment and not killed and wait_until(lambda: running and stores_of(running[0].pid)):
                killed.extend(stores_of(running[0].pid))
                os.kill(killed[0], signal.SIGKILL)
            connection.answer(path)

    with AssetHost(serve) as host:
        host.contents["/items.json"] = item_collection([f"{host.url}/assets/1"])
        with Running(["mirror", f"{host.url}/items.json", str(tmp_path / "m")], environment()) as process:
            running.append(process)
            ran = process.ended()
        assert (ran.code, "ended unexpectedly" in ran.err, len(killed)) == (5, True, 1), ran
        assert run(["resume", str(tmp_path / "m")], environment()).code == 0


def test_a_bus_error_is_explained_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    """A disk has failed under mapped memory of the ledger."""
    dest = tmp_path / "mirror"
    index = dest / ".stacpull/ledger.sqlite-shm"

    def serve(connection: Connection) -> None:
        while (path := connection.request()) is not None:
            if path.endswith("/5.tif") and not failed:
                failed.append(path)
                os.truncate(index, 0)  # as if the file system were shut down: each access is a SIGBUS
            connection.answer(path)

    failed: list[str] = []
    with AssetHost(serve) as host:
        source = local_items(tmp_path, [f"{host.url}/assets/{n}.tif" for n in range(200)])
        ran = run(
            ["mirror", str(source), str(dest), "--concurrency", "1", "--allow-private-hosts"], environment()
        )
        assert (ran.code, "SIGBUS" in ran.err, failed) == (5, True, ["/assets/5.tif"]), ran
        resumed = run(["resume", str(dest), "--json", "--allow-private-hosts"], environment())
    assert (resumed.code, resumed.report["assets_done"]) == (0, 200), resumed.err
