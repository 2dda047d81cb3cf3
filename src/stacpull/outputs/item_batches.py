"""Items of a mirror in batches, on which several processes work at once. Results come in order.

Reading and decoding documents is nearly all of the time of an export, and each batch is independent of the
others. For small mirrors, and where one processor is available, the work is done in this process.
"""

from __future__ import annotations

import gc
import os
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from stacpull.errors import DestinationError, WorkerError
from stacpull.models import Json
from stacpull.outputs.mirrored_items import ListedItem, MirrorContents, read_document
from stacpull.python_process import python_command, python_environment
from stacpull.store.inspection import DirectoryFiles
from stacpull.system import available_processors

ITEMS = 500
"""Items per batch."""
MOST_PROCESSES = 2
"""Each takes about 90 MB of memory."""
FEWEST_ITEMS = 20_000
"""Items of a mirror for which starting processes is worth the time."""
OBJECTS = 100_000
"""Objects that are made between two searches for cycles: JSON has none, and looking takes much time."""
_LENGTH = struct.Struct("<Q")
_START = "from stacpull.outputs.item_batches import work; work()"
_LIST = msgspec.msgpack.Decoder(list[ListedItem])

Work = Callable[[Iterator[ListedItem]], bytes]
"""What is made of a batch: it takes the items with their texts (None if there is none), and has no state."""


class BatchResult(NamedTuple):
    """What was made of a batch of items.

    Attributes:
        position: How many items of the mirror were passed with it.
        data: What was made.
    """

    position: int
    data: bytes


class _Setup(msgspec.Struct):
    """What a process is started with."""

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
) -> Iterator[BatchResult]:
    """Yield what is made of each batch of items, in the order of the items.

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
                yield BatchResult(position, made(_read(items, contents.read)))
        return
    setup = encoded_setup(contents.dest, work, options)
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
            yield BatchResult(position, data)


def encoded_setup(dest: Path, work: str, options: Json) -> bytes:
    """Return what a process is started with; the arguments are those of `batch_results`."""
    return msgspec.msgpack.encode(_Setup(os.fsencode(dest), work, options))


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
    """A process that works on one batch at a time."""

    def __init__(self, process: subprocess.Popen[bytes], requests: IO[bytes], results: IO[bytes]) -> None:
        self.process = process
        self._requests = requests
        self._results = results

    def send(self, items: list[ListedItem]) -> None:
        """Give it a batch."""
        self.send_frame(msgspec.msgpack.encode(items))

    def send_frame(self, data: bytes) -> None:
        """Send it anything."""
        try:
            _write_frame(self._requests, data)
        except BrokenPipeError as error:
            raise self._ended() from error

    def receive(self) -> bytes:
        """Return what it made of the batch.

        Raises:
            DestinationError: A document cannot be read.
            WorkerError: The process has ended.
        """
        data = _read_frame(self._results)
        if data is None:
            raise self._ended()
        if data[:1] == b"!":
            raise DestinationError(data[1:].decode())
        return data[1:]

    def _ended(self) -> WorkerError:
        return WorkerError(f"A process of the export ended with exit code {self.process.wait()}.")


@contextmanager
def worker(setup: bytes) -> Iterator[BatchWorker]:
    """Start a process, which ends with the block."""
    try:
        process = subprocess.Popen(  # noqa: S603 - this interpreter with a module of stacpull
            python_command("-c", _START),
            env=python_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process
        )
    except OSError as error:
        raise WorkerError(f"A process of the export cannot be started: {error}.") from error
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        started = BatchWorker(process, process.stdin, process.stdout)
        started.send_frame(setup)
        yield started
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        with suppress(BrokenPipeError):
            process.stdin.close()


def work() -> None:
    """Run a worker: batches come from standard input, results go to standard output."""
    gc.set_threshold(OBJECTS)
    sys.meta_path.insert(0, _NoPandas())
    requests, results = sys.stdin.buffer, sys.stdout.buffer
    first = _read_frame(requests)
    if first is None:
        return
    setup = msgspec.msgpack.decode(first, type=_Setup)
    made = _loaded(setup.work, setup.options)
    with DirectoryFiles(Path(os.fsdecode(setup.dest))) as files, suppress(BrokenPipeError):
        read = partial(read_document, files)
        while (data := _read_frame(requests)) is not None:
            try:
                result = b" " + made(_read(_LIST.decode(data), read))
            except DestinationError as error:
                result = b"!" + str(error).encode()
            _write_frame(results, result)


class _NoPandas:
    """Keeps pyarrow from importing pandas, which takes 47 MB, to see whether a list is a series."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _write_frame(file: IO[bytes], data: bytes) -> None:
    file.write(_LENGTH.pack(len(data)))
    file.write(data)
    file.flush()


def _read_frame(file: IO[bytes]) -> bytes | None:
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    data = file.read(size)
    return data if len(data) == size else None
