"""Runs `stacpull` in this process and says what processor time each of its threads took.

    python -m tests.bench.by_thread RESULT ARGUMENT...

Writes a JSON object to RESULT: seconds by name of the thread (`loop` is the main one, from the end of the
imports of the command on; `start` what came before; threads of pools are one; `store process` is all of it),
`code` the exit code.
"""

from __future__ import annotations

import atexit
import json
import resource
import sys
import threading
import time
from collections import Counter
from pathlib import Path

_OURS = "stacpull-"


def main(result: str, *arguments: str) -> None:
    """Run the command with `arguments`; its own output goes where it always does."""
    taken: Counter[str] = Counter()
    run = threading.Thread.run

    def counted(thread: threading.Thread) -> None:
        run(thread)
        name = thread.name.removeprefix(_OURS) if thread.name.startswith(_OURS) else "others"
        taken[name] += time.thread_time()  # type: ignore[assignment] # a Counter of seconds

    threading.Thread.run = counted  # type: ignore[method-assign] # each thread tells when it ends

    def report() -> None:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken["store process"] = children.ru_utime + children.ru_stime  # type: ignore[assignment] # likewise
        taken["loop"] = time.thread_time()  # type: ignore[assignment]
        Path(result).write_text(json.dumps({"seconds": taken}))

    atexit.register(report)  # the command ends the process
    sys.argv = ["stacpull", *arguments]
    from stacpull.cli.entry import main as command  # noqa: PLC0415 - its imports are part of what is measured

    command()


if __name__ == "__main__":
    main(*sys.argv[1:])
