"""stub"""

from pathlib import Path

from stacpull.engine.reporting import Reporter
from stacpull.reports import RebuildReport


def rebuild_ledger(dest: Path, reporter: Reporter) -> RebuildReport | None:
    raise NotImplementedError
