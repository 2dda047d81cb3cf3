"""Run `stacpull` in this process and report the processor time of each thread.

    python -m tests.bench.by_thread RESULT ARGUMENT...

Writes a JSON object to RESULT with `seconds` by name of the thread. `loop` is the main thread, including the
imports of the command. `store process` is the whole child process.
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
    """Run the command with `arguments`, and write the times to `result` when it exits."""
    taken: Counter[str] = Counter()
    run = threading.Thread.run

    def counted(thread: threading.Thread) -> None:
        run(thread)
        name = thread.name.removeprefix(_OURS) if thread.name.startswith(_OURS) else "others"
        taken[name] += time.thread_time()  # type: ignore[assignment] # a Counter of seconds

    threading.Thread.run = counted  # type: ignore[method-assign] # counts each thread when it ends

    def report() -> None:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken["store process"] = children.ru_utime + children.ru_stime  # type: ignore[assignment] # likewise
        taken["loop"] = time.thread_time()  # type: ignore[assignment]
        Path(result).write_text(json.dumps({"seconds": taken}))

    atexit.register(report)  # the command exits the process
    sys.argv = ["stacpull", *arguments]
    from stacpull.cli.entry import main as command  # noqa: PLC0415 - its imports are measured

    command()


if __name__ == "__main__":
    main(*sys.argv[1:])
