"""The list of URLs that `plan` writes for other tools (`planning.url_formats` has the formats).

Credentials (signatures and keys in URLs) are left out unless they are requested. Header fields are never
written, because most tools would send them to every host that a URL redirects to.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TextIO

from stacpull.config.dest import output_path
from stacpull.engine.network import Network
from stacpull.models import Asset, PlannedItem, path_in_dest
from stacpull.net.transport import Request, TransferError
from stacpull.planning.url_formats import URL_FORMATS, PlannedUrl, RefusedEntry
from stacpull.store.atomic import whole_file
from stacpull.threads import in_thread
from stacpull.urls import wire_url

_PRIVATE = 0o600
"""Only the user may read a list with credentials."""


class UrlList:
    """Writes the URLs of planned assets.

    Attributes:
        written: How many entries were written.
        refused: How many assets were left out, by reason.

    Args:
        form: The name of a format.
        out: Receives the text.
        network: Knows the secrets, and which host the credentials of SOURCE are for.
        with_credentials: True to write URLs with their signatures, and with the key of SOURCE's own host.
    """

    def __init__(self, form: str, out: TextIO, network: Network, *, with_credentials: bool) -> None:
        self.written = 0
        self.refused: Counter[str] = Counter()
        self._format = URL_FORMATS[form]
        self._out = out
        self._network = network
        self._with_credentials = with_credentials
        self._cut = 0
        self._with_headers: Counter[str] = Counter()

    async def begin(self) -> None:
        """Write what comes before the first entry."""
        await asyncio.to_thread(self._out.write, self._format.header)

    async def add(self, assets: Sequence[tuple[PlannedItem, Asset]]) -> None:
        """Write the entries of assets."""
        text = "".join(self._entries(assets))
        if text:
            await asyncio.to_thread(self._out.write, text)

    def notes(self) -> Iterator[str]:
        """Yield what the user should know of the list."""
        if self._cut:
            yield (
                f"URLs that lack their signature or key, and may be refused: {self._cut:,}. "
                "--with-credentials writes them whole."
            )
        if self._network.logins is not None:
            yield "The list does not hold the logins of --credentials."
        for names, number in self._with_headers.items():
            yield f"URLs that need the header {names}, which is not in the list: {number:,}."
        for reason, number in self.refused.most_common():
            yield f"Assets that are not in the list: {number:,}, because {reason}."

    def _entries(self, assets: Sequence[tuple[PlannedItem, Asset]]) -> Iterator[str]:
        for item, asset in assets:
            try:
                prepared = self._prepared(asset.href)
                url = prepared.url if self._with_credentials else self._network.secrets.cut(asset.href)
                yield self._format.entry(_planned_url(item, asset, url))
            except RefusedEntry as refused:
                self.refused[str(refused)] += 1
                continue
            self.written += 1
            self._cut += url != prepared.url
            if prepared.headers:
                self._with_headers[" and ".join(sorted(prepared.headers))] += 1

    def _prepared(self, href: str) -> Request:
        client = self._network.client
        try:
            return client.prepare(Request(href), client.route(href))
        except TransferError as error:
            raise RefusedEntry("the URL cannot be fetched") from error


def _planned_url(item: PlannedItem, asset: Asset, url: str) -> PlannedUrl:
    path = None if asset.name is None else path_in_dest(asset.directory, asset.name)
    return PlannedUrl(
        item.id.collection,
        item.id.item,
        asset.key,
        wire_url(url),
        path,
        asset.size,
        asset.checksum,
        asset.media_type,
    )


@asynccontextmanager
async def text_output(out: str | Path | TextIO, *, private: bool) -> AsyncIterator[TextIO]:
    """Open `out` for text in UTF-8; a file is replaced when the block ends without an error.

    Raises:
        DestinationError: The file cannot be written; what was there is unchanged.
    """
    if not isinstance(out, str | os.PathLike):
        yield out
        return
    async with in_thread(_text_file(output_path(out), private=private)) as stream:
        yield stream


@contextmanager
def _text_file(path: Path, *, private: bool) -> Iterator[TextIO]:
    with whole_file(path) as file:
        if private:
            os.fchmod(file.fileno(), _PRIVATE)
        stream = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
        yield stream
        stream.flush()
        stream.detach()
