"""A store process that is killed: the command ends with exit code 5 and a sentence, and can be resumed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.acceptance.asset_host import AssetHost, Connection, item_collection
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
