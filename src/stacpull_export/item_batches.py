"""Items of a mirror in batches, on which several processes work at once. Results come in order.

Reading and decoding documents is nearly all of the time of an export, and each batch is independent of the
others. For small mirrors, and where one processor is available, the work is done in this process.
"""

from __future__ import annotations

import gc
import os
import sys
from collections import deque
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from importlib import import_module
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from stacpull.child_process import ChildProcess, discard, spawn
from stacpull.errors import DestinationError, WorkerError
from stacpull.models import Json
from stacpull.pyarrow_import import hide_pandas
from stacpull.store.inspection import DirectoryFiles
from stacpull.system import available_processors
from stacpull_export.mirrored_items import ListedItem, MirrorContents, read_document

ITEMS = 500
"""Items per batch."""
MOST_PROCESSES = 2
"""Each takes about 90 MB of memory."""
FEWEST_ITEMS = 20_000
"""Items of a mirror for which starting processes is worth the time."""
OBJECTS = 100_000
"""Objects that are made between two searches for cycles: JSON has no cycles, and searching takes long."""
_LIST = msgspec.msgpack.Decoder(list[ListedItem])

Work = Callable[[Iterator[ListedItem]], bytes]
"""Takes the items of a batch, each with its text (None if it is missing), and returns the result."""


class Setup(msgspec.Struct):
    """What a process is started with: DEST, and the arguments of `batch_results`."""

    dest: bytes
    work: str
    options: Json


def batch_results(
    contents: MirrorContents,
    state: Json,
    work: str,
    options: Json,
    *,
    collections: Container[str] | None = None,
    linked: bool = True,
) -> Iterator[tuple[int, bytes]]:
    """Yield for each batch of items, in order, the number of items up to its end, and the result.

    Args:
        contents: The mirror.
        state: As `MirrorContents.state` gave it: batches begin behind it.
        work: `module:function`. The function takes `options` and returns the `Work`.
        options: Its argument; plain values.
        collections: Ids of the collections whose items are taken; None for all.
        linked: False to leave out items that were reached through a link of another one.

    Raises:
        DestinationError: The ledger or a document cannot be read.
        WorkerError: A process cannot be started, or ended.
    """
    batches = _batches(contents, contents.listed(state, collections, linked=linked))
    is_local = isinstance(contents.files, DirectoryFiles)
    processes = min(MOST_PROCESSES, available_processors()) if is_local else 1
    if processes == 1 or contents.items_total < FEWEST_ITEMS:
        with _rare_collections():
            made = _loaded(work, options)
            for position, items in batches:
                yield position, made(_read(items, contents.read))
        return
    setup = Setup(os.fsencode(contents.dest), work, options)
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(setup)) for _ in range(processes)]
        at_work = deque[tuple[BatchWorker, int]]()
        for one, (position, items) in zip(workers, batches, strict=False):
            one.send(items)
            at_work.append((one, position))
        while at_work:
            one, position = at_work.popleft()
            data = one.receive()
            for following, items in islice(batches, 1):
                one.send(items)
                at_work.append((one, following))
            yield position, data


def _batches(
    contents: MirrorContents, listed: Iterator[ListedItem]
) -> Iterator[tuple[int, list[ListedItem]]]:
    while items := list(islice(listed, ITEMS)):
        yield contents.position, items


@contextmanager
def _rare_collections() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _loaded(work: str, options: Json) -> Work:
    module, _, function = work.partition(":")
    made: Work = getattr(import_module(module), function)(options)
    return made


def _read(items: list[ListedItem], read: Callable[[str], bytes | None]) -> Iterator[ListedItem]:
    return (item if item.text is not None else ListedItem(*item[:-1], read(item.path)) for item in items)


class BatchWorker:
    """A process that works on one batch at a time.

    Attributes:
        connection: To the process, which ends when it is closed.
    """

    def __init__(self, process: ChildProcess, connection: Connection) -> None:
        self.connection = connection
        self._process = process

    def send(self, message: list[ListedItem] | Setup) -> None:
        """Send the worker its task, or a batch."""
        try:
            self.connection.send_bytes(msgspec.msgpack.encode(message))
        except OSError as error:
            raise self._ended() from error

    def receive(self) -> bytes:
        """Return the result for the batch.

        Raises:
            DestinationError: A document cannot be read.
            WorkerError: The process has ended.
        """
        try:
            data = self.connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        if data[:1] == b"!":
            raise DestinationError(data[1:].decode())
        return data[1:]

    def _ended(self) -> WorkerError:
        return WorkerError(f"A process of the export ended with exit code {self._process.wait()}.")


@contextmanager
def worker(setup: Setup) -> Iterator[BatchWorker]:
    """Start a process, which ends with the block."""
    process, sock = spawn(__name__)
    with Connection(sock.detach()) as connection:
        try:
            started = BatchWorker(process, connection)
            started.send(setup)
            yield started
        finally:
            discard((process, sock))


def main() -> None:
    """Run a worker: batches come from the socket that is argument 1, and results go there."""
    hide_pandas()
    with Connection(int(sys.argv[1])) as connection, suppress(EOFError, ConnectionError):
        setup = msgspec.msgpack.decode(connection.recv_bytes(), type=Setup)
        made = _loaded(setup.work, setup.options)
        with closing(DirectoryFiles(Path(os.fsdecode(setup.dest)))) as files:
            read = partial(read_document, files)
            while True:
                items = _LIST.decode(connection.recv_bytes())
                try:
                    result = b" " + made(_read(items, read))
                except DestinationError as error:
                    result = b"!" + str(error).encode()
                connection.send_bytes(result)
