"""A small mirror that is whole, made once: tests damage copies of it, and repair them from its replica."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.command import LABELS
from tests.acceptance.trees import TOKEN, files_in

from stacpull import Damage, MirrorReport, Options, S3Options, Secret, Selection, VerifyReport, sync
from stacpull_replicas import MlhubReplica

ASSET_ROUTES = (("api", "download"), ("blob", "blob"), ("s3", "object"))
NOTEBOOK = "bigearthnet/{parent}/{filename}"
SELECTION = Selection(collections=(LABELS,), exclude_assets=("B10",))


def asset_requests(replica: MlhubReplica) -> int:
    return sum(replica.counters[route] for route in ASSET_ROUTES)


@dataclass
class Mirrored:
    """A mirror of a replica: `dest` may be damaged at will."""

    replica: MlhubReplica
    dest: Path
    options: Options
    events: list[object] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        """Content by path of everything except `.stacpull`; tokens, which always differ, are cut."""
        found = {name: path.read_bytes() for name, path in files_in(self.dest).items() if path.is_file()}
        return {name: TOKEN.sub(rb"\1", data) for name, data in found.items()}

    @property
    def assets(self) -> list[str]:
        return sorted(name for name in files_in(self.dest) if name.startswith("bigearthnet/"))

    @property
    def asset_requests(self) -> int:
        return asset_requests(self.replica)

    def mirror(self, **changes: Any) -> MirrorReport:
        settings = {
            "selection": SELECTION,
            "options": self.options,
            "on_event": self.events.append,
            **changes,
        }
        return sync.mirror(self.replica.base_url, self.dest, **settings)

    def verify(self, **settings: Any) -> VerifyReport:
        self.events.clear()
        return sync.verify(self.dest, options=self.options, on_event=self.events.append, **settings)

    @property
    def damages(self) -> dict[str, str]:
        return {event.path: event.what for event in self.events if isinstance(event, Damage)}

    def copy_to(self, dest: Path) -> Mirrored:
        shutil.copytree(self.dest, dest, symlinks=True)
        return Mirrored(self.replica, dest, self.options)


def options_for(replica: MlhubReplica, **more: Any) -> Options:
    return Options(
        **{
            "query": {"key": Secret(replica.key)},
            "s3": S3Options(endpoint_url=replica.s3_url),
            "layout": NOTEBOOK,
            **more,
        }
    )


def is_same(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """The paths whose content differs, or that only one has."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return rewrite


def flipped(data: bytes, at: int = 0) -> bytes:
    changed = bytearray(data)
    changed[at % len(changed)] ^= 1
    return bytes(changed)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
