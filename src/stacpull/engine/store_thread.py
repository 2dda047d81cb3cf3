"""The thread of a mirror's store: it carries out operations and publishes what was received, one by one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Concatenate, ParamSpec, TypeVar

from stacpull.engine.mirror_store import MirrorStore
from stacpull.errors import DestinationError
from stacpull.ledger.outcomes import AssetFailure, Confirmed
from stacpull.models import Failure, FailureKind, Job
from stacpull.redact import Secrets
from stacpull.store.writer import Arrived

P = ParamSpec("P")
T = TypeVar("T")

_AFTER_FAILURE = frozenset({MirrorStore.add_effort, MirrorStore.findings, MirrorStore.end_run})
"""Operations that are still tried when publishing has failed."""


@dataclass(frozen=True, slots=True)
class _Call:
    operation: Callable[..., Any]
    arguments: tuple[Any, ...]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class StoreThread:
    """Runs a `MirrorStore` on a thread; every method may be called from any other thread.

    If publishing fails, `on_error` is called once, and every operation raises that error from then on, except
    those that record how the run ended.
    """

    def __init__(
        self, store: MirrorStore, secrets: Secrets, on_error: Callable[[BaseException], None]
    ) -> None:
        """Prepare; `secrets` are removed from messages of failures, `on_error` is called on the thread."""
        self._store = store
        self._secrets = secrets
        self._on_error = on_error
        self._queue: SimpleQueue[Sequence[Arrived] | AssetFailure | Confirmed | _Call | None] = SimpleQueue()
        self._failed: BaseException | None = None
        self._ended: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="stacpull-store", daemon=True)

    @property
    def counters(self) -> Mapping[str, int | None]:
        """The counters of the run after the last transaction."""
        return self._store.publisher.counters

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread after what it was given; nothing more is published (`MirrorStore.finish`)."""
        self._queue.put(None)
        if self._thread.ident is not None:  # it was started
            self._thread.join()

    def deliver(self, batch: list[Arrived]) -> None:
        """Hand in whole parts."""
        self._queue.put(batch)

    def fail(self, job: Job, failure: Failure, attempts: int) -> None:
        """Hand in an asset that failed for good, or that is not ready yet."""
        counted = 0 if failure.kind is FailureKind.ORDERED else attempts
        self._queue.put(AssetFailure(job.row, job.item_row, failure.scrubbed(self._secrets), counted))

    def confirm(self, job: Job) -> None:
        """Hand in an asset of which the source said that it has not changed."""
        self._queue.put(Confirmed(job.row, job.item_row, job.generation))

    async def call(
        self, operation: Callable[Concatenate[MirrorStore, P], T], *arguments: P.args, **_: P.kwargs
    ) -> T:
        """Carry out an operation between two groups, and return its result.

        Args:
            operation: A method of `MirrorStore`.
            arguments: Its arguments, by position.

        Raises:
            DestinationError: The ledger or the disk fails, or did before; also if the thread has ended.
            StacpullError: As the operation.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Call(operation, arguments, loop, future))
        if self._ended is not None:
            self._refuse_calls(self._ended)
        return await future

    # --- on the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._step():
            pass
        self._ended = self._failed or DestinationError("The mirror is closed: nothing can be written to it.")
        self._refuse_calls(self._ended)

    def _refuse_calls(self, error: BaseException) -> None:
        """Answer the calls that still wait: the thread has ended."""
        while True:
            try:
                message = self._queue.get_nowait()
            except Empty:
                return
            if isinstance(message, _Call):
                message.loop.call_soon_threadsafe(_answer, message.future, None, error)

    def _step(self) -> bool:
        """Carry out one message, or publish what is due; return False at the end."""
        try:
            message = self._queue.get(timeout=None if self._failed else self._store.publisher.wait())
        except Empty:
            message = ()
        if message is None:
            return False
        if isinstance(message, _Call):
            self._answer(message)
        if self._failed is None:
            try:
                with self._store.translated():
                    self._publish(message)
            except BaseException as error:  # noqa: BLE001 -- the run must hear of it, whatever it is
                self._failed = error
                self._store.publisher.distrust_ledger(error)
                self._on_error(error)
        return True

    def _publish(self, message: Sequence[Arrived] | AssetFailure | Confirmed | _Call) -> None:
        publisher = self._store.publisher
        if isinstance(message, AssetFailure):
            publisher.fail(message)
        elif isinstance(message, Confirmed):
            publisher.confirm(message)
        elif not isinstance(message, _Call):
            publisher.deliver(message)
        publisher.pace()

    def _answer(self, call: _Call) -> None:
        result, failure = None, self._failed
        if failure is None or call.operation in _AFTER_FAILURE:
            try:
                with self._store.translated():
                    result, failure = call.operation(self._store, *call.arguments), None
                    self._store.publisher.refresh_counters()
            except BaseException as error:  # noqa: BLE001 -- it belongs to the caller
                failure = error
                self._store.publisher.distrust_ledger(error)
        call.loop.call_soon_threadsafe(_answer, call.future, result, failure)


def _answer(future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    if future.cancelled():
        return
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(result)
