"""Part files for tests that run on an event loop."""

import asyncio
from pathlib import Path

from stacpull.store.parts import FileParts


async def opened_parts(directory: Path) -> FileParts:
    """Return the parts in a directory, which is read in a thread, as in a run."""
    return await asyncio.to_thread(FileParts, directory)
