"""`--adopt`: use existing files that the ledger does not know instead of fetching assets.

A file is adopted if size and checksum agree with the item or the server, or size and time with
`Last-Modified` (as set by wget and rclone). If it differs, the asset fails and the file stays. If nothing is
stated, the asset is fetched, and the file adopted if its content is the same.
"""

from __future__ import annotations

import asyncio

from stacpull.caches import Recent
from stacpull.engine.fetching import linked_part
from stacpull.errors import destination_errors
from stacpull.models import Arrival, Job, path_in_dest
from stacpull.net.bodies import coding_of
from stacpull.net.client import Client
from stacpull.net.fields import content_length, validator_of
from stacpull.net.status import moment_of
from stacpull.net.transport import Request, TransferError
from stacpull.planning.layout import arrival_of, final_name
from stacpull.store.protocol import Store, foreign_file
from stacpull.transfer.attempt import AssetFetcher
from stacpull.transfer.checks import Check, expected_checks, has_md5_etags
from stacpull.urls import filename_of


class AdoptingFetcher:
    def __init__(
        self,
        fetcher: AssetFetcher[Job, Arrival | None],
        client: Client,
        destination: Store,
        *,
        checksum: str | None,
    ) -> None:
        self._fetcher = fetcher
        self._client = client
        self._destination = destination
        self._checksum = checksum
        self._listed = Recent[str, frozenset[str]]()

    async def fetch(self, job: Job, *, count_refusal: bool = True) -> Arrival | None:
        found = await self._found(job) if job.generation == 0 else None
        return found or await self._fetcher.fetch(job, count_refusal=count_refusal)

    async def _found(self, job: Job) -> Arrival | None:
        names = self._listed.get(job.directory)
        if names is None:
            names = self._listed[job.directory] = await asyncio.to_thread(self._names_in, job.directory)
        if not names or (job.name is not None and job.name not in names):
            return None
        if job.name is not None and job.checksum is not None:
            check = Check(job.checksum, "file:checksum")
            return await asyncio.to_thread(self._judged, job, job.name, job.size, (check,))
        try:
            async with self._client.open(
                Request(job.href, method="HEAD"), accept=frozenset({200}), count_refusal=False
            ) as response:
                url, headers = response.url, response.headers
        except TransferError:  # many servers reject HEAD; the fetch will report any other error
            return None
        filename = filename_of(url)
        name = final_name(job.name, job.name_template, filename, job.directory)
        if name not in names or coding_of(headers) is not None:
            return None
        size = job.size if job.size is not None else content_length(headers)
        checks = expected_checks(job.checksum, 200, headers, is_s3=has_md5_etags(url, headers))
        modified, etag = moment_of(headers.get("Last-Modified", "")), validator_of(headers).etag_or_date
        return await asyncio.to_thread(self._judged, job, name, size, checks, modified, filename, etag)

    def _names_in(self, directory: str) -> frozenset[str]:
        """Return the entries of a directory at its first use. Later files are the mirror's own."""
        try:
            return frozenset(self._destination.names(directory))
        except OSError:
            return frozenset()

    def _judged(
        self,
        job: Job,
        name: str,
        stated_size: int | None,
        checks: tuple[Check, ...],
        last_modified: float | None = None,
        filename: str = "",
        etag: str | None = None,
    ) -> Arrival | None:
        """Return the existing file if it is the asset; None if nothing proves it. Blocks."""
        path, files = path_in_dest(job.directory, name), self._destination
        digests, size = dict[str | None, bytes | None](), None
        for algorithm in {self._checksum, *(check.checksum.algorithm for check in checks)}:
            state = files.state_of(path, algorithm=algorithm)
            if state.obstacle is not None:
                raise TransferError(foreign_file(path, f"{'it is ' * state.readable}{state.obstacle}"))
            digests[algorithm], size = state.digest, state.size
        if size is None:
            return None
        if stated_size not in (None, size):
            raise TransferError(foreign_file(path, f"it has {size} bytes, the source {stated_size}"))
        is_proven = (
            stated_size == size
            and last_modified is not None
            and int(files.modified(path) or 0) == int(last_modified)
        )
        for check in checks:
            if digests[check.checksum.algorithm] == check.checksum.digest:
                is_proven = True
            elif check.sure:
                why = f"its {check.checksum.algorithm} is not what {check.source} states"
                raise TransferError(foreign_file(path, why))
        if not is_proven:
            return None
        with destination_errors(files.staged.work):
            try:
                part = linked_part(files, job, path)
            except FileNotFoundError:
                return None
        digest = None if self._checksum is None else digests[self._checksum]
        return arrival_of(job, size, filename, etag, part, digest=digest)
