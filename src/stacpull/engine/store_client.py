"""The store process, as the network process sees it: functions to call, and where plans and outcomes go."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from stacpull.catalog.item import public_document
from stacpull.child_process import ConnectedProcess, reap
from stacpull.engine import messages
from stacpull.engine.channel import Channel, OnWritable, OutcomeSender
from stacpull.engine.messages import CALLS, StoreCalls, decoders, encoded, error_of
from stacpull.engine.network import Network, WalkSetup
from stacpull.engine.open_mirror import OpenMirror
from stacpull.engine.pool import JobQueue
from stacpull.errors import RUN_AGAIN, DestinationError
from stacpull.events import AssetFailed, Notice, Stage
from stacpull.ledger.runs import Run
from stacpull.models import Job, WalkBatch
from stacpull.proxies import proxy_variables
from stacpull.store.protocol import store_kind
from stacpull.system import variables_of
from stacpull.threads import background_task

MAX_SENT_SIZE = 32 << 10  # maximum bytes of a body that is sent: it is faster to write a longer one here
_ENDED = (
    "The process of stacpull that writes to the destination ended unexpectedly: it was killed, or crashed. "
    f"What it recorded is safe: {RUN_AGAIN} to resume."
)


class StoreClient:
    """Within the block of `connect`, makes `calls` to the store process, and sends outcomes."""

    def __init__(self, process: ConnectedProcess, opened: OpenMirror, run: Run, setup: WalkSetup) -> None:
        self.counters: Mapping[str, int] = run.counters
        self.fatal_error: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        """Gets the first error after which nothing more can be written."""
        # `calls.NAME(...)` runs `StoreOperations.NAME(...)` in the store process, in the order of the calls
        functions = {name: partial(self._call, name) for name in CALLS}
        self.calls = cast("StoreCalls", SimpleNamespace(**functions))
        self._channel = Channel(self._take_message, self.fail_with)
        self._channel.lost.add_done_callback(self._take_end)
        self.sender = OutcomeSender(
            setup.network.slots,
            opened.store.staged,
            self._send_outcomes,
            setup.network.secrets,
            max_size=MAX_SENT_SIZE,
            digest_algorithm=run.digest_algorithm,
            on_error=self.fail_with,
        )
        self._process, self._socket = process
        self._opened = opened
        self._run_id = run.id
        self._network = setup.network
        self._sent_secrets = self._network.secrets.values
        self._results: deque[asyncio.Future[messages.OperationResult]] = deque()
        self._all_recorded = False

    @asynccontextmanager
    async def connect(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Open the mirror in the store process, which also holds the mirror's lock until it ends.

        When the block ends, it publishes everything and exits. Its error is raised, unless the block has one.
        """
        bucket = self._opened.bucket
        variables = {}
        if bucket is not None:
            variables = variables_of(store_kind(bucket).variables) | proxy_variables()
        stopping, stops = socket.socketpair()

        async def pass_on_stop() -> None:
            await stop.wait()
            stopping.close()

        with stopping, stops:
            descriptors = [self._opened.lock, stops.fileno()]
            try:
                socket.send_fds(self._socket, [b"\0"], descriptors)
            except OSError as error:
                raise DestinationError(_ENDED) from error
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)  # if the system allows it
            await self._channel.open(self._socket)
            work = os.fsencode(self._opened.store.staged.work)
            opening = messages.OpeningRequest(work, bucket, self._run_id, self._sent_secrets, variables)
            self._channel.send(opening)
            async with background_task(pass_on_stop()):
                try:
                    yield
                finally:
                    had_failed = self.fatal_error.done()
                    stopping.close()
                    await self._channel.close()
                    if not self._all_recorded:
                        await asyncio.wait([self.fatal_error])
                    await asyncio.to_thread(reap, self._process)
            if self.fatal_error.done() and not had_failed:
                raise self.fatal_error.result()

    async def _call(self, name: str, *arguments: object) -> Any:
        future = self._start_call(name, *arguments)
        ends: list[asyncio.Future[Any]] = [future, self._channel.lost]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            self.fail_with(DestinationError(_ENDED))
            raise self.fatal_error.result()
        result = future.result()
        if result.error is not None:
            raise error_of(result.error, "store process")
        _, decoder = decoders(name)
        return decoder.decode(result.result)

    def _start_call(self, name: str, *arguments: object) -> asyncio.Future[messages.OperationResult]:
        operation = messages.Operation(name, msgspec.Raw(encoded(arguments)))
        secrets = self._network.secrets.values
        if secrets is not self._sent_secrets:
            operation.secrets = secrets
            self._sent_secrets = secrets
        self._channel.send(operation)
        future = asyncio.get_running_loop().create_future()
        self._results.append(future)
        return future

    def _send_outcomes(self, outcomes: messages.Outcomes, on_writable: OnWritable) -> None:
        """Send outcomes. Long parts for a bucket keep their slots while earlier ones are being uploaded."""
        are_long = any(file.part and file.size > 8 * MAX_SENT_SIZE for file in outcomes.files)
        if self._opened.bucket is not None and are_long:
            self._channel.send(outcomes)
            self._start_call("acknowledge").add_done_callback(lambda _: on_writable())
        else:
            self._channel.send(outcomes, on_writable)

    def fail_with(self, error: BaseException) -> None:
        if not self.fatal_error.done():
            self.fatal_error.set_result(error)

    def _take_message(self, data: bytes) -> None:
        try:
            message = messages.decode_to_network(data)
        except msgspec.DecodeError:
            self._socket.shutdown(socket.SHUT_RDWR)  # a call may wait for this result
            raise
        match message:
            case messages.OperationResult() as result:
                self._results.popleft().set_result(result)
            case messages.EventMessage(messages.RunCounters(counters)):
                self.counters = counters
            case messages.EventMessage(AssetFailed() | Notice() | Stage() as event):
                self._network.emit(event)
            case messages.ProcessEnded(messages.ErrorReport() as error):
                self.fail_with(error_of(error, "store process"))
            case messages.ProcessEnded():
                self._all_recorded = True

    def _take_end(self, _lost: asyncio.Future[None]) -> None:
        if not self._all_recorded:
            self.fail_with(DestinationError(_ENDED))


class PlanSaver:
    """Saves what the walk of a run plans, and queues its jobs. While the queue is full, the walk waits."""

    def __init__(self, network: Network, store_client: StoreClient, queue: JobQueue[Job]) -> None:
        self._network = network
        self._store_client = store_client
        self._calls = store_client.calls
        self._queue = queue
        self.planned_this_run = self._calls.planned_this_run
        self.restart = self._calls.restart_walk

    @property
    def counters(self) -> Mapping[str, int]:
        return self._store_client.counters

    async def queue_pending(self, *, take_over: bool = False) -> None:
        last = 0
        while jobs := await self._calls.pending_jobs(last, 1000, take_over):
            await self._queue.put(jobs)
            last = jobs[-1].rowid

    async def add_batch(self, batch: WalkBatch) -> None:
        if batch.update.walk_ended:  # the walk can no longer list the pending assets of earlier runs
            await self.queue_pending(take_over=True)
        planned_items = []
        for planned in batch.items:
            public_json = public_document(planned.document, self._network.secrets)
            planned_items.append(planned._replace(document={}, public_json=public_json))
        batch.items = planned_items  # the walk does not use the documents again
        saved = await self._calls.save_batch(batch, self._network.clock.time())
        for item, key, failure in saved.failures:
            self._network.emit(AssetFailed(item, key, failure.kind, failure.message))
        await self._queue.put(saved.jobs)
