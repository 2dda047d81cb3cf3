"""A program that uses the public functions. mypy checks it with `src`, and expects the errors it names."""

from pathlib import Path
from typing import assert_type

from stacpull import MirrorReport, Progress, Selection, mirror, plan, sync
from stacpull.events import Event


async def main() -> int:
    selection = Selection(collections=("c",), labels=("Rice fields",), max_items=100)
    planned = await plan("https://api.example.org/v1", selection=selection)

    def listen(event: Event) -> None:
        if isinstance(event, Progress):
            assert_type(event.assets_done, int)

    report = await mirror("https://api.example.org/", "m", selection=selection, on_event=listen)
    assert_type(report, MirrorReport)
    rice = Selection(labels="Rice fields")
    assert_type(sync.mirror("https://api.example.org/", Path("m"), selection=rice).assets_done, int)
    await mirror("https://api.example.org/", "m", selecton=selection)  # type: ignore[call-arg]
    sync.mirror("https://api.example.org/", "m", selecton=selection)  # type: ignore[call-arg]
    wrong: str = report.assets_done  # type: ignore[assignment]
    return report.assets_done + planned.assets + len(wrong)
