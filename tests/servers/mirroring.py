"""One mirror of a test's items, and what became of each asset: bytes under its key, or why not."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attrs import evolve
from tests.engine.bench import tree

from stacpull.config.options import Options
from stacpull.engine.mirror_status import failures
from stacpull.reports import FailureRecord, MirrorReport
from stacpull.sync import mirror

LAYOUT = "{item}/{key}"
OPTIONS = Options(layout=LAYOUT, retries=2, stall_timeout=10)


@dataclass(frozen=True)
class Mirrored:
    report: MirrorReport
    files: dict[str, bytes]
    """`item/key` -> bytes."""
    failed: dict[str, FailureRecord] = field(default_factory=dict)
    """`item/key` -> why."""

    def why(self) -> tuple[str, int | None]:
        (record,) = self.failed.values()
        return record.kind, record.status


def mirrored(source: str, dest: Path, options: Options = OPTIONS, **more: Any) -> Mirrored:
    report = mirror(source, str(dest), options=evolve(options, **more))
    return Mirrored(report, tree(dest), {f"{f.item}/{f.key}": f for f in failures(str(dest))})


def part_bytes(dest: Path) -> int:
    return sum(path.stat().st_size for path in dest.glob(".stacpull/parts/*.part"))
