"""The library, as the README shows it: functions, events, `stacpull.sync`."""

import subprocess
import sys

from tests.acceptance.command import LABELS
from tests.acceptance.mirrored import options_for
from tests.acceptance.trees import damage, expected_files

from stacpull import MirrorReport, Progress, RunEnded, RunStarted, Selection, Stage, mirror, plan


class Received(list):
    __call__ = list.append


async def test_mirror_and_plan(tmp_path, small_hub):
    received = Received()  # false as long as it is empty
    how = {
        "selection": Selection(collections=(LABELS,), exclude_assets=("B10",), max_items=4),
        "options": options_for(small_hub),
    }
    planned = await plan(small_hub.base_url, **how)
    report = await mirror(small_hub.base_url, str(tmp_path / "m"), **how, on_event=received)
    assert isinstance(report, MirrorReport)
    assert (report.state, report.exit_code, report.assets_done) == ("complete", 0, planned.assets)
    assert not damage(tmp_path / "m", expected_files(small_hub.dataset, range(4)))
    assert isinstance(next(one for one in received if not isinstance(one, Stage)), RunStarted)
    assert isinstance(received[-1], RunEnded)
    assert received[-1].state == "complete"
    last = [event for event in received if isinstance(event, Progress)][-1]
    assert (last.assets_done, last.walk_ended) == (report.assets_done, True)


def test_the_blocking_functions_are_found_without_importing_their_module() -> None:
    code = "import sys, stacpull; assert 'stacpull.sync' not in sys.modules; print(stacpull.sync.mirror)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("<function mirror at ")
