"""`--dask`: worker processes on the machines of a Dask cluster. Only this module imports `distributed`.

    scheduler ──▶ the list of Dask workers (twice per second), their versions, one task each to look busy
    coordinator ═══ jobs, outcomes, gates, limits ═══ each Dask worker (`dask_relay.py`) ══ worker process

Jobs are not Dask tasks. They are sent to a worker over a separate connection, which Dask opens as it does
between workers. Compared with batches as tasks:

- The first free worker gets a job, and its outcome arrives immediately. No batch size has to be guessed, and
  no result is delivered twice, because the jobs of a lost worker are always known.
- One message closes a gate on all workers, and one message divides the limits again.
- Jobs (whose hrefs may be signed) and credentials do not pass through the scheduler, its graph or its logs.
- Messages of a worker process are decoded by type. Results of tasks would be unpickled here. (Dask unpickles
  responses of Dask workers to calls of the scheduler, but Dask workers never read responses of servers.)

The disadvantage: the coordinator must reach the workers directly, as Dask workers reach each other.

Each Dask worker runs one task that only waits for the end of the session, because Dask may stop a worker or a
whole cluster without tasks.

Credentials are sent only over private connections (`is_private`): over TLS, or within this machine. Otherwise
a worker uses those of its own environment and credential profiles, which are compared by name.

DEST must be a directory that all workers share (the work directory, if DEST is a bucket). Each worker has its
own directory among the parts (`store.worker_parts`), so that a lost worker that still runs does no harm.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import pickle
import platform
import secrets
import socket
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
from msgspec.structs import replace

import stacpull
from stacpull.clock import Clock
from stacpull.config.environment import key_variables
from stacpull.config.options import Options, without_secret_fields
from stacpull.engine import dask_relay
from stacpull.engine import worker_messages as messages
from stacpull.engine.network import Network
from stacpull.engine.shares import HostShares, Share
from stacpull.engine.store_client import StoreClient
from stacpull.engine.store_operations import StoreOperations
from stacpull.engine.worker_messages import CredentialNames, WorkerSettings
from stacpull.engine.workers import OnMessage, StartWorker, WorkerProcess, WorkerSupply, worker_settings
from stacpull.errors import CredentialsError, DestinationError, StacpullError, UsageError, WorkerError
from stacpull.events import Listener, Notice
from stacpull.selection import Selection
from stacpull.store.worker_parts import new_name
from stacpull.system import boot_id

_LOOK = 0.5
"""Seconds between two requests for the list of workers."""
_PATIENCE = 10.0
"""Seconds to wait for a usable worker or for a response of the scheduler."""
_CONNECT = 10.0
"""Seconds to wait for a connection to a scheduler or worker."""
_ABANDON = 0.5
"""Seconds to wait for a pending connection at the end of the run."""
_NO_WORKERS = "The Dask scheduler has no workers: the run waits for some."


def check_dask(options: Options) -> None:
    """Reject options that contradict each other, and start to import distributed, which takes a second.

    Raises:
        UsageError: They contradict each other, or distributed is not installed.
    """
    if options.dask is not None and options.dask_client is not None:
        raise UsageError("--dask and `client` contradict each other: give one of them.")
    if sys.modules.get("tornado", sys) is None:  # the command hides it from libraries that do not need it
        del sys.modules["tornado"]
    if util.find_spec("distributed") is None:
        raise UsageError("--dask needs distributed, which is not installed: pip install 'stacpull[dask]'")
    threading.Thread(target=_import_early, name="stacpull-import", daemon=True).start()


def is_private(address: str) -> bool:
    """Return True if others cannot read the messages to a worker."""
    parts = urlsplit(address)
    if parts.scheme in ("tls", "inproc"):
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def _imported() -> Any:
    """Import distributed, and cache the machine's data and the versions, which a client reads blocking."""
    with _importing:
        was_imported = "distributed" in sys.modules
        platform.processor()
        versions: Any = import_module("distributed.versions")
        versions.get_versions()  # the result is cached
        if not was_imported:
            for name in ("distributed", "distributed.client"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
        return import_module("distributed")


def _import_early() -> None:
    with suppress(Exception):  # raised again when it is needed
        _imported()


_importing = threading.Lock()


class DaskCluster(WorkerSupply):
    """The workers of a Dask cluster.

    Args:
        options: The options of the run.
        network: The network of the run.
        dest: DEST, or the work directory of a bucket.
        selection: The selection of the run.
        run: The number of the run.
        store: The store process.
        emit: Called with notices for the user.
    """

    def __init__(
        self,
        options: Options,
        network: Network,
        dest: Path,
        selection: Selection,
        run: int,
        *,
        store: StoreClient,
        emit: Listener,
    ) -> None:
        self.jobs_to_start = 1
        self.most_processes = network.share.per_host
        self._clock = network.clock
        self._store = store
        self._dest = dest
        self._boot = ""
        """The boot of this machine."""
        self._options = options
        self._network = network
        self._selection = selection
        self._run = run
        self._emit = emit
        self.shares: HostShares[WorkerProcess] = HostShares(
            network.share.per_host, options.concurrency, WorkerProcess.limit
        )
        self._refused: dict[str, StacpullError] = {}
        """Why workers are not used, by address, while the scheduler lists them."""
        self._unreached: set[str] = set()
        """Addresses of workers that could not be reached and will be tried again."""
        self._started: dict[str, DaskWorker] = {}
        """The last worker process at each address."""
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._address = ""
        self._group = asyncio.TaskGroup()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """See `WorkerSupply.opened`."""
        self._boot = await asyncio.to_thread(boot_id)
        async with self._group, self._stack:
            yield

    # --- the list of workers -----------------------------------------------------------------------------

    async def places(self) -> AsyncIterator[StartWorker]:
        """See `WorkerSupply.places`.

        Raises:
            WorkerError: The scheduler is lost, or cannot be reached.
            StacpullError: No worker can be used.
        """
        self._client = await self._open_client()
        self._address = self._client.scheduler.address
        if link := self._client.dashboard_link:
            self._emit(Notice("info", f"Dask dashboard: {link}"))
        known: set[str] = set()
        since = answered = self._clock.monotonic()
        is_waiting = False
        while True:
            addresses = await self.addresses()
            if addresses is None:
                if not len(self.shares) and self._clock.monotonic() - answered > _PATIENCE:
                    raise WorkerError(
                        f"The Dask scheduler {self._address} no longer responds: "
                        "resume when it is back, or without --dask."
                    )
                await self._clock.sleep(_LOOK)
                continue
            answered = self._clock.monotonic()
            known = self._still_known(known, addresses)
            for address in sorted(addresses - known):
                known.add(address)
                yield partial(self.start_at, address)
            now = self._clock.monotonic()
            if addresses - self._refused.keys():
                since = now
            elif now - since > _PATIENCE:
                if addresses:
                    raise self._refused[min(addresses)]
                if not is_waiting:
                    self._emit(Notice("warning", _NO_WORKERS))
                    is_waiting = True
            await self._clock.sleep(_LOOK)

    def _still_known(self, known: set[str], addresses: set[str]) -> set[str]:
        """Return the workers that need not be tried again. Addresses of lost workers may be reused."""
        known = (known & addresses) - self._unreached
        self._unreached.clear()
        for gone in self._refused.keys() - addresses:
            del self._refused[gone]
        return known

    # --- the cluster -------------------------------------------------------------------------------------

    async def _open_client(self) -> Any:
        """Connect to the user's scheduler.

        Raises:
            WorkerError: It cannot be reached.
        """
        distributed: Any = await asyncio.to_thread(_imported)
        where: dict[str, Any] = {"asynchronous": True, "set_as_default": False, "name": "stacpull"}
        named, given = self._options.dask or "", self._options.dask_client
        if given is not None:
            where |= {"address": given.scheduler.address, "security": given.security}
        elif named.isdecimal():
            where["address"] = await self._start_cluster(int(named))
        elif "://" in named or Path(named).suffix != ".json":
            where["address"] = named
        else:
            where["scheduler_file"] = named
        client: Any = distributed.Client(**where, timeout=_CONNECT)
        try:
            return await self._stack.enter_async_context(client)
        except (OSError, TimeoutError, ValueError) as error:
            place = where.get("address") or named
            raise WorkerError(f"The Dask scheduler {place} cannot be reached: {error}") from error
        except asyncio.CancelledError:
            await client.close(timeout=_ABANDON)
            raise

    async def _start_cluster(self, workers: int) -> str:
        """Start a scheduler and workers in this process; return the scheduler's address.

        Another user of this machine could join a scheduler that listens on a port, and be sent credentials.
        """
        distributed: Any = import_module("distributed")
        cluster = await self._stack.enter_async_context(
            distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=False,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",
                worker_dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                asynchronous=True,
            )
        )
        address: str = cluster.scheduler_address
        return address

    async def addresses(self) -> set[str] | None:
        """Return the addresses of the scheduler's workers; None if it does not respond."""
        try:
            async with asyncio.timeout(_CONNECT):
                scheduler = self._client.scheduler  # None once the client has given up
                return None if scheduler is None else set(await scheduler.ncores())
        except (OSError, TimeoutError):
            return None

    async def _call(self, address: str, function: Any, *arguments: object) -> Any:
        """Call a function on a Dask worker.

        Raises:
            OSError: The worker is lost.
            Exception: Any error of the function.
        """
        if self._client.scheduler is None:
            raise OSError("the scheduler is gone")
        async with asyncio.timeout(_CONNECT):
            found: Mapping[str, Any] = await self._client.run(function, *arguments, workers=[address])
        if address not in found:
            raise OSError(f"{address} is gone")
        return found[address]

    async def connect(self, address: str) -> Any:
        """Open a connection to a Dask worker.

        Raises:
            OSError: It cannot be reached.
        """
        core: Any = import_module("distributed.core")
        security = self._client.security
        connecting = asyncio.ensure_future(
            core.connect(address, timeout=_CONNECT, **security.get_connection_args("client"))
        )
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            # tornado leaves the socket open if it is cancelled before the connection is made
            await asyncio.wait([connecting], timeout=_ABANDON)
            if not connecting.cancel() and connecting.exception() is None:
                connecting.result().abort()
            raise

    def _keep_busy(self, address: str, session: str) -> Any:
        """Start a task on a Dask worker that waits for the end of a session; return its future."""
        return self._client.submit(
            dask_relay.hold,
            session,
            key=f"stacpull-{self._run}-{session}",
            workers=[address],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )

    # --- a worker ----------------------------------------------------------------------------------------

    async def start_at(self, address: str, on_message: OnMessage) -> DaskWorker | None:
        """Start a worker process at a Dask worker. If it cannot be used, report that and return None.

        Raises:
            CredentialsError: It would lack a credential.
        """
        try:
            comm = await self.connect(address)
            try:
                worker_parts, durable = await self._prepare(address)
                settings = self._settings(address, worker_parts, durable=durable)
                session = secrets.token_hex(8)
                await comm.write({"op": dask_relay.HANDLER, "session": session, "reply": False})
                busy = self._keep_busy(address, session)
                worker = DaskWorker(comm, worker_parts, on_message, self._clock, busy)
                try:
                    await worker.connect(self._group)
                except BaseException:
                    busy.release()
                    raise
            except BaseException:
                comm.abort()
                raise
        except StacpullError as error:
            if isinstance(error, UsageError | DestinationError) and address in str(error):
                self._refuse(address, error)
                return None
            raise
        except (OSError, TimeoutError) as error:
            self._unreached.add(address)
            if address in (await self.addresses() or ()):
                text = f"The Dask worker {address} cannot be reached from here: {error}."
                self._refuse(address, UsageError(text))
            return None
        self._refused.pop(address, None)
        if (before := self._started.get(address)) is not None:
            before.kill()  # the address was used again, and its first user may hang
        self._started[address] = worker
        worker.send(messages.Start(pickle.dumps(settings)))
        return worker

    def _refuse(self, address: str, error: StacpullError) -> None:
        """Exclude a worker, and report why."""
        if address not in self._refused:
            self._refused[address] = error
            self._emit(Notice("warning", f"{error} This worker is not used."))

    async def _prepare(self, address: str) -> tuple[str, bool]:
        """Check that a worker can be used, and create its directory among the parts.

        Returns:
            The name of the directory, and whether the worker must sync its files.

        Raises:
            UsageError: It has another version of stacpull, or none.
            DestinationError: It does not see DEST.
            OSError: It is lost.
        """
        try:
            version = await self._call(address, metadata.version, "stacpull")
        except metadata.PackageNotFoundError as error:
            raise UsageError(f"The Dask worker {address} has no stacpull installed.") from error
        if version != stacpull.__version__:
            raise UsageError(
                f"The Dask worker {address} has stacpull {version}, and this is {stacpull.__version__}: "
                "install the same version."
            )
        boot = await self._call(address, dask_relay.install)
        is_here = boot == self._boot != ""
        worker_parts, token = new_name(here=is_here), secrets.token_hex(16)
        await self._store.call(StoreOperations.make_worker_parts, worker_parts, token)
        seen = self._dest.absolute() / ".stacpull" / "parts" / worker_parts
        if await self._call(address, dask_relay.token_seen, str(seen)) != token:
            await self._store.call(StoreOperations.publish_parts_of_worker, frozenset[int](), worker_parts)
            raise DestinationError(
                f"The Dask worker {address} does not see {self._dest.absolute()}: "
                "it must be a directory that all workers share, under the same path."
            )
        return worker_parts, not is_here

    def _settings(self, address: str, worker_parts: str, *, durable: bool) -> WorkerSettings:
        """Return the settings of a worker, with credentials only over a private connection.

        Raises:
            CredentialsError: The worker does not have a credential itself.
        """
        network, options = self._network, self._options
        settings = worker_settings(
            network,
            attrs.evolve(options, dask=None, dask_client=None),
            self._dest.absolute(),
            self._selection,
            Share(slots=1, per_host=1),
        )._replace(worker_parts=worker_parts, durable=durable)
        if is_private(address):
            return settings._replace(variables=key_variables())
        if options.headers:
            raise CredentialsError(
                f"The values of {' and '.join(options.headers)} (--header) are sent to Dask workers over TLS "
                "only: give the cluster TLS (docs/howto/dask.md)."
            )
        profile = None if options.filled_profile is None else options.filled_profile.name
        bare = attrs.evolve(without_secret_fields(settings.options), credential_names=())
        return settings._replace(
            address=replace(network.address, headers={}, query={}),
            options=bare,
            credentials=CredentialNames(network.address.credential_names, profile),
        )


class DaskWorker(WorkerProcess):
    """A worker process of a Dask worker, at the other end of a connection.

    Args:
        comm: The connection (`distributed.comm.Comm`).
        worker_parts: Its directory among the parts.
        on_message: Called with each of its messages.
        clock: The clock of the run.
        busy: The task that keeps the Dask worker busy.
    """

    def __init__(self, comm: Any, worker_parts: str, on_message: OnMessage, clock: Clock, busy: Any) -> None:
        super().__init__(0, on_message, clock, worker_parts)
        self._comm = comm
        self._busy = busy

    async def connect(self, group: asyncio.TaskGroup) -> None:
        """Start to send and receive in tasks of `group`."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        group.create_task(self._pass_bytes(theirs))
        await self.channel.open(ours)

    async def _pass_bytes(self, sock: socket.socket) -> None:
        with sock:
            try:
                await dask_relay.pass_bytes(self._comm, sock)
            except Exception as error:  # noqa: BLE001 -- raised at the end of the run
                self.fail(error)
            finally:
                self._comm.abort()

    def kill(self) -> None:
        """See `WorkerProcess.kill`: the relay ends the process."""
        self._comm.abort()

    async def reap(self) -> str:
        """See `WorkerProcess.reap`: it may still run, but does no harm (`store.worker_parts`)."""
        await self.lost
        self._busy.release()
        return "was lost"
