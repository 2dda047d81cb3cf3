"""Jobs of a pool, what becomes of them, and a pool whose requests a test answers."""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace
from tests.virtual_clock import VirtualClock

from stacpull.engine.pool import JobQueue, OutcomeSink, Pool
from stacpull.models import AssetFile, Failure, Job
from stacpull.net.retry import Retries, RetryPolicy
from stacpull.sources.item_reader import ItemReader

ITEM = "https://api.example/v1/collections/c/items/i"
BODY = AssetFile(1, 1, 0, "c/i", "f.tif", 1, body=memoryview(b"x"))


def job(rowid: int = 1, key: str = "a", *, href: str | None = None, **changes: Any) -> Job:
    href = href or f"https://blob.example/{key}?sig=0"
    made = Job(key, href, "c/i", f"{key}.tif", rowid=rowid, item_rowid=1, generation=0, item_href=ITEM)
    return replace(made, **{"item_name": "i", **changes})


class Outcomes(OutcomeSink[Job, AssetFile]):
    def __init__(self, slots: int = 64) -> None:
        super().__init__(slots)
        self.received: dict[int, Job] = {}
        self.failed: dict[int, tuple[Failure, int]] = {}

    def put(self, job: Job, received: AssetFile) -> None:
        assert received is BODY
        self.received[job.rowid] = job
        self.release_slots()

    def fail(self, job: Job, failure: Failure) -> None:
        self.failed[job.rowid] = (replace(failure, attempts=1), failure.attempts)


def bare_pool(
    workers: int, size: int, fetch: Callable[[Job], Awaitable[AssetFile]], **limits: Any
) -> tuple[Pool[Job, AssetFile], JobQueue[Job], Outcomes]:
    class Fetcher:
        async def fetch(self, wanted: Job) -> AssetFile:
            return await fetch(wanted)

    clock = VirtualClock()
    queue = JobQueue[Job](size)
    outcomes = Outcomes(workers)
    reader = ItemReader(lambda _href: unreachable(), clock)
    pool = Pool(queue, outcomes, Fetcher(), reader, Retries(RetryPolicy(), clock), **limits)
    return pool, queue, outcomes


async def unreachable() -> Any:
    raise AssertionError("no item is read here")
