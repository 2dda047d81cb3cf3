"""What tests of parts share: parts that are opened in a thread, as in a run, and tests on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any

from stacpull.store.parts import FileParts


async def opened_parts(directory: Path) -> FileParts:
    return await asyncio.to_thread(FileParts, directory)


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*arguments, **named), 60))

    return run
