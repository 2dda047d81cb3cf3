"""Take pictures of the report and the dashboard: see `scripts/take-screenshots`."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
from pathlib import Path

from tests.export.browser import SCHEMES, WIDTHS, Page, opened_page

from stacpull_replicas import MlhubReplica, run_in_thread
from stacpull_replicas.faults import PlannedFaults, parse_faults

COMMAND = str(Path(sys.executable).with_name("stacpull"))
FAULTS = """
[[fault]]
server = "blob"
nth = 1200
what = "status"
code = 429
headers = {"Retry-After" = "20"}

[[fault]]
server = "blob"
kind = "object"
per = "path"
nth = 1
probability = 0.01
what = "close"
after = 100
"""
SHOWN = (1100, 900)
"""Width and height of the pictures in the docs."""


async def take(page: Page, to: Path, name: str, *, everything: bool) -> None:
    """Take the picture for the docs of the page that is open, or one for each look."""
    if not everything:
        await page.look(SHOWN[0], "light")
        await asyncio.sleep(1.5)
        await asyncio.to_thread((to / f"{name}.png").write_bytes, await page.picture(*SHOWN))
        return
    for (called, width), scheme in itertools.product(WIDTHS.items(), SCHEMES):
        await page.look(width, scheme)
        await page.call("Page.reload")
        await asyncio.sleep(1.5)
        await asyncio.to_thread((to / f"{name}-{called}-{scheme}.png").write_bytes, await page.picture())


async def main(to: Path, *, everything: bool) -> None:
    replica = MlhubReplica(items=400, seed=7, latency_ms=40, faults=PlannedFaults(parse_faults(FAULTS)))
    with run_in_thread(replica), tempfile.TemporaryDirectory() as work:
        kept = {n: value for n, value in os.environ.items() if not n.startswith(("AWS_", "STACPULL_"))}
        env = {**kept, **replica.exports(), "AWS_EC2_METADATA_DISABLED": "true"}
        mirror = await asyncio.create_subprocess_exec(
            COMMAND, "mirror", replica.base_url, "rice", "-C", "bigearthnet_v1_labels",
            "--exclude-asset", "B10", "--retries", "1", "--dashboard", "0", "--no-progress",
            cwd=work, env=env, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        if mirror.stderr is None:
            raise SystemExit("The mirror was not started.")
        url = (await mirror.stderr.readline()).decode().partition("dashboard: ")[2].strip()
        async with opened_page() as page:
            await page.open(url)
            await page.wait_for("document.body.innerText.includes('waits ')")
            await take(page, to, "dashboard", everything=everything)
            await asyncio.gather(mirror.stderr.read(), mirror.wait())
            report = await asyncio.create_subprocess_exec(COMMAND, "report", "rice", cwd=work, env=env)
            if await report.wait() != 0:
                raise SystemExit("The report was not written.")
            await page.look(SHOWN[0], "light")
            await page.open((Path(work) / "report.html").as_uri())
            await take(page, to, "report", everything=everything)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    parser.add_argument("--all", action="store_true", help="in light and dark, narrow and wide")
    given = parser.parse_args()
    asyncio.run(main(given.to.resolve(), everything=given.all))
