"""rclone's S3 over a directory: it sends ranges with status 200."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.buckets import Keys
from tests.servers.process import is_listening, program_path, running
from tests.serving import free_ports

KEYS = Keys("AKIARCLONERCLONE0000", "rclone-secret")


@dataclass(frozen=True)
class Rclone:
    """A server that runs; the folders of `root` are its buckets."""

    port: int
    root: Path


@contextmanager
def rclone(work: Path) -> Iterator[Rclone]:
    """Serve a new directory below `work`, which tests fill directly: it is read again for each request."""
    command = program_path("rclone", venv="rclone")
    root = work / "buckets"
    root.mkdir()
    port = free_ports(1)
    arguments = [
        command, "serve", "s3", "--config", os.devnull, "--cache-dir", str(work / "cache"),
        "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEYS.access_key},{KEYS.secret_key}",
        "--dir-cache-time", "0s", str(root),
    ]  # fmt: skip
    with running(arguments, work / "rclone.out", ready=lambda: is_listening(port)):
        yield Rclone(port, root)
