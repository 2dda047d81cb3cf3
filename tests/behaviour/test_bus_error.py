"""A disk that fails under mapped memory of the ledger: exit code 5 and a sentence, not "Bus error"."""

from __future__ import annotations

import os
from pathlib import Path

from tests.acceptance.asset_host import AssetHost, Connection, local_items
from tests.acceptance.command import environment, run


def test_a_bus_error_is_explained_and_the_run_can_be_resumed(tmp_path: Path) -> None:
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
