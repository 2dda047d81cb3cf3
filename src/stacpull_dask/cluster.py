"""The workers of a Dask cluster. Only this module imports `distributed`.

Jobs are not Dask tasks. They are sent over a separate connection, as between Dask workers. So the first free
worker gets a job, the jobs of a lost worker are known, hrefs and credentials do not pass through the
scheduler, and messages are decoded by type. Each Dask worker runs one task that waits for the end of the
session, because Dask may stop a worker without tasks. Credentials are sent only over private connections
(`is_private`); otherwise a worker uses those of its environment and profiles, which are compared by name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import platform
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module, metadata
from typing import Any
from urllib.parse import urlsplit

import attrs
from msgspec.structs import replace

import stacpull
from stacpull.clock import Clock
from stacpull.config.options import Options
from stacpull.entry_points import names, require
from stacpull.errors import CredentialsError, StacpullError, UsageError, WorkerError
from stacpull.events import Listener, Notice
from stacpull.schemes import SCHEMES
from stacpull.store.protocol import store_kind
from stacpull.system import variables_of
from stacpull_dask import relay
from stacpull_dask.worker_messages import WorkerSettings

_LOOK = 0.5  # seconds between two requests for the list of workers
_STEADY = 3  # looks in a row with the same number of workers, after which the run starts
_PATIENCE = 10.0  # seconds to wait for a usable worker or for a response of the scheduler
_CONNECT = 10.0  # seconds to wait for a connection
_ABANDON = 0.5  # seconds to wait for a pending connection at the end of the run


def _imported() -> Any:
    """Import distributed, and cache what a client would read while it blocks: machine data and versions."""
    was_imported = "distributed" in sys.modules
    platform.processor()
    import_module("distributed.versions").get_versions()
    if not was_imported:
        for name in ("distributed", "distributed.client"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    return import_module("distributed")


def is_private(address: str) -> bool:
    """Return True if others cannot read the messages to a worker."""
    parts = urlsplit(address)
    if parts.scheme in ("tls", "inproc"):
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


@attrs.define(eq=False)
class DaskCluster:
    """The workers of the cluster that the options name, with the methods of `LocalWorkers`."""

    _options: Options
    _clock: Clock
    _emit: Listener
    _taken: set[str] = attrs.field(init=False, factory=set)
    _refused: dict[str, StacpullError] = attrs.field(init=False, factory=dict)
    """Why workers are not used, by address, while the scheduler lists them."""
    _client: Any = attrs.field(init=False, default=None)
    _calling: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)
    """Held during a call, because a cancelled call must not leave a connection that is being opened."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        distributed: Any = await asyncio.to_thread(_imported)
        settings: dict[str, Any] = {"asynchronous": True, "set_as_default": False, "name": "stacpull"}
        scheduler, client_of_user = self._options.dask or "", self._options.dask_client
        if client_of_user is not None:
            scheduler = client_of_user.scheduler.address
            settings["security"] = client_of_user.security
        is_file = "://" not in scheduler and scheduler.endswith(".json")
        settings["scheduler_file" if is_file else "address"] = scheduler
        self._client = client = distributed.Client(**settings, timeout=_CONNECT)
        try:
            await client
        except (OSError, TimeoutError, ValueError) as error:
            raise WorkerError(f"The Dask scheduler {scheduler} cannot be reached: {error}") from error
        except (asyncio.CancelledError, AssertionError, TypeError, MemoryError) as error:
            await client.close(timeout=_ABANDON)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise UsageError(f"--dask {scheduler} is no Dask scheduler, nor its complete file.") from error
        if link := client.dashboard_link:
            self._emit(Notice("info", f"Dask dashboard: {link}"))
        try:
            yield
        finally:
            for _ in range(2):  # the first fails if the client is closing by itself at the same time
                with suppress(RuntimeError):
                    await client.__aexit__(*sys.exc_info())

    async def count(self) -> int:
        counts: list[int] = []
        while len(counts) < _STEADY or set(counts[-_STEADY:]) != {counts[-1]} or not counts[-1]:
            counts.append(len(await self._addresses() or ()))
            if len(counts) * _LOOK == _PATIENCE and not counts[-1]:
                self._emit(Notice("warning", "The Dask scheduler has no workers yet: the run waits for one."))
            await self._clock.sleep(_LOOK)
        return counts[-1]

    async def take(self) -> str:
        since = self._clock.monotonic()
        while True:
            addresses = await self._addresses()
            is_late = self._clock.monotonic() - since > _PATIENCE and not self._taken
            if addresses is None and is_late:
                raise WorkerError(
                    f"The Dask scheduler {self._options.dask or 'of the client'} no longer responds: "
                    "resume when it is back, or without --dask."
                )
            if addresses is not None:
                for address in self._refused.keys() - addresses:
                    del self._refused[address]
                if free := addresses - self._refused.keys() - self._taken:
                    chosen = min(free)
                    self._taken.add(chosen)
                    return chosen
                if is_late and addresses and addresses == self._refused.keys():
                    raise self._refused[min(addresses)]
            await self._clock.sleep(_LOOK)

    def give_back(self, address: str, refused: StacpullError | None = None) -> None:
        self._taken.discard(address)
        if refused is not None:
            self._refused[address] = refused
            self._emit(Notice("warning", f"{refused} This worker is not used."))

    async def _addresses(self) -> set[str] | None:
        try:
            async with self._open_client() as client:
                return set(await client.scheduler.ncores())
        except OSError:
            return None

    @asynccontextmanager
    async def _open_client(self) -> AsyncIterator[Any]:
        """Yield the client for one call; raise OSError if it has closed, as it does without a scheduler."""
        try:
            async with self._calling, asyncio.timeout(_CONNECT):
                if self._client.status in {"closing", "closed"}:
                    raise OSError("the scheduler is gone")
                yield self._client
        except RuntimeError as error:  # the client was closed during the call
            raise OSError(str(error)) from error

    @asynccontextmanager
    async def connected(self, address: str) -> AsyncIterator[socket.socket]:
        """Start a worker process; yield this end of its socket. The process ends with the block."""
        try:
            version = await self._call(address, metadata.version, "stacpull")
        except metadata.PackageNotFoundError:
            version = "not installed"
        if version != stacpull.__version__:
            raise UsageError(
                f"The Dask worker {address} has stacpull {version}, and this is {stacpull.__version__}: "
                "install the same version."
            )
        await self._call(address, relay.install)
        comm, session = await self._connect(address), secrets.token_hex(8)
        try:
            await comm.write({"op": relay.HANDLER, "session": session, "reply": False})
            scheduling = {"workers": [address], "allow_other_workers": False, "retries": 0, "pure": False}
            async with self._open_client() as client:
                holding = client.submit(relay.hold, session, key=f"stacpull-{session}", **scheduling)
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            try:
                async with asyncio.TaskGroup() as group:
                    passing = group.create_task(relay.pass_bytes(comm, theirs))
                    try:
                        yield ours
                    finally:
                        passing.cancel()
            finally:
                theirs.close()
                holding.release()
        finally:
            comm.abort()

    async def _call(self, address: str, function: Any, *arguments: object) -> Any:
        async with self._open_client() as client:
            results = await client.run(function, *arguments, workers=[address])
        if address not in results:
            raise OSError(f"{address} is gone")
        return results[address]

    async def _connect(self, address: str) -> Any:
        core: Any = import_module("distributed.core")
        security = self._client.security.get_connection_args("client")
        connecting = asyncio.ensure_future(core.connect(address, timeout=_CONNECT, **security))
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            # tornado leaves the socket open if it is cancelled before the connection is made
            await asyncio.wait([connecting], timeout=_ABANDON)
            if not connecting.cancel() and connecting.exception() is None:
                connecting.result().abort()
            raise

    def settings_for(self, address: str, settings: WorkerSettings) -> WorkerSettings:
        if is_private(address):
            kinds = () if settings.bucket is None else store_kind(settings.bucket).variables
            return settings._replace(variables={**key_variables(), **variables_of(kinds)})
        options, source = settings.options, settings.resolved
        if options.headers:
            raise CredentialsError(
                f"The values of {' and '.join(options.headers)} (--header) are sent to Dask workers over TLS "
                "only: give the cluster TLS (docs/howto/dask.md)."
            )
        profile = None if options.filled_profile is None else options.filled_profile.name
        return settings._replace(
            resolved=replace(source, headers={}, query={}),
            options=attrs.evolve(options.without_secrets(), credential_names=()),
            wanted=source.credential_names,
            profile=profile,
        )


def key_variables() -> dict[str, str]:
    group = "stacpull.schemes"
    of_packages = [require(group, name, "--dask") for name in names(group, everywhere=True)]
    known = {name for scheme in (*SCHEMES.values(), *of_packages) for name in scheme.key_variables}
    return {name: value for name, value in variables_of().items() if name in known}
