"""What tests of parts share: parts that are opened in a thread, as in a run."""

from __future__ import annotations

import asyncio
from pathlib import Path

from stacpull.store.partial_downloads import PartialDownloads


async def opened_parts(directory: Path) -> PartialDownloads:
    return await asyncio.to_thread(PartialDownloads, directory)
