"""Decoders of Parquet (`stacpull.sources.parquet_file`) that are forked instead of started.

Starting one takes a quarter of a second, most of it to import pyarrow. One process imports it once and forks
a child for each file. The child runs the same code on the same descriptors with the same memory limit, and
pyarrow may crash it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast

from stacpull.sources import parquet_file
from stacpull.sources.parquet_source import _Decoder

Decoders = Callable[[str, int], AbstractAsyncContextManager[_Decoder]]
"""The type of `parquet_source._decoder`."""


@contextmanager
def forked_decoders() -> Iterator[Decoders]:
    """Start the process that forks. It ends with the context."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.sources.forked_decoder", str(theirs.fileno())],
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
            pass_fds=(theirs.fileno(),),
            stderr=subprocess.DEVNULL,  # like that of a decoder
        )
        theirs.close()

        @asynccontextmanager
        async def decoder(url: str, descriptor: int) -> AsyncIterator[_Decoder]:
            near, far = socket.socketpair()
            with far:
                socket.send_fds(ours, [b"x"], [far.fileno(), descriptor])
            reader, writer = await asyncio.open_unix_connection(sock=near)
            try:
                pipes = SimpleNamespace(stdin=writer, stdout=reader)
                yield _Decoder(url, cast("Any", pipes))
            finally:
                writer.close()

        try:
            yield decoder
        finally:
            ours.close()
            process.wait()


def serve(control: socket.socket) -> None:
    """Fork a decoder for each received set of descriptors: its input, its output, and the file."""
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not descriptors:
            return
        if os.fork() == 0:
            connection, file = descriptors
            control.close()
            os.dup2(connection, 0)
            os.dup2(connection, 1)
            try:
                parquet_file.main(file)
            finally:
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
