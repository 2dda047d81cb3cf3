"""rustac's server: a STAC API that claims more than it supports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from tests.servers.process import found, is_listening, running
from tests.serving import free_ports


@contextmanager
def rustac(
    work: Path, collections: Iterable[Mapping[str, Any]], items: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """Serve collections and items from memory; yields the URL of the API."""
    command = found("rustac", venv="rustac")
    files = [work / "items.json"]
    files[0].write_bytes(orjson.dumps({"type": "FeatureCollection", "features": list(items)}))
    for number, document in enumerate(collections):
        files.append(work / f"collection{number}.json")
        files[-1].write_bytes(orjson.dumps(document))
    port = free_ports(1)
    arguments = [command, "serve", "--addr", f"127.0.0.1:{port}", *map(str, files)]
    with running(arguments, work / "rustac.out", ready=lambda: is_listening(port)):
        yield f"http://127.0.0.1:{port}"
