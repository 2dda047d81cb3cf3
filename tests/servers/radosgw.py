"""radosgw, the S3 of Ceph, alone on one machine: a monitor, one store in memory, and the gateway.

It verifies signatures, policies, who pays, presigned URLs, conditions and versions as Amazon does, and none
of its lines was written for this project.
"""

import json
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.buckets import Keys
from tests.servers.process import is_listening, program_path, running
from tests.serving import free_ports

ROLE = "arn:aws:iam:::role/reader"
"""A role that OWNER may take on; it may read every object."""

_STS_KEY = "0123456789abcdef"
# seconds: a monitor under load loses its leases, and refuses commands meanwhile
_PATIENCE, _PAUSE = 60.0, 0.2

_CONFIGURATION = """
[global]
fsid = {fsid}
mon_host = v1:127.0.0.1:{mon_port}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr2 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
run_dir = {work}
log_file = {work}/$name.log
admin_socket =
crash_dir = {work}
mon_data = {work}/mon
mon_allow_pool_size_one = true
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
mon_data_avail_warn = 0
mon_data_avail_crit = 0
osd_data = {work}/osd
osd_objectstore = memstore
memstore_device_bytes = {memory}
osd_crush_chooseleaf_type = 0
osd_crush_update_on_start = false
osd_class_update_on_start = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
rgw_data = {work}/rgw
rgw_sts_key = {sts_key}
rgw_s3_auth_use_sts = true
rgw_gc_obj_min_wait = 1
rgw_gc_processor_period = 2
rgw_gc_max_objs = 1
rgw_s3_auth_order = local, external, sts
"""

OWNER = Keys("AKIAOWNEROWNEROWNER0", "owner-secret-owner-secret-owner-secret-0")
STRANGER = Keys("AKIASTRANGERSTRANGER", "stranger-secret-stranger-secret-stranger")
_USERS = {"owner": OWNER, "stranger": STRANGER}


def _policy(**statement: object) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})


_TRUSTING = _policy(Principal={"AWS": ["arn:aws:iam:::user/owner"]}, Action=["sts:AssumeRole"])
_READING = _policy(Action=["s3:GetObject"], Resource=["arn:aws:s3:::*"])
_ROLE = (
    ("role", "create", "--role-name=reader", f"--assume-role-policy-doc={_TRUSTING}"),
    ("role-policy", "put", "--role-name=reader", "--policy-name=read", f"--policy-doc={_READING}"),
)


@dataclass(frozen=True)
class Radosgw:
    """A gateway that runs; it knows OWNER and STRANGER."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self, path: str) -> list[int]:
        """The statuses of all GETs of `path` (bucket and key, plain characters), by the gateway's own log."""
        found = re.findall(rf'"GET /{re.escape(path)} HTTP/1.1" (\d+)', self.log.read_text())
        return [int(status) for status in found]


@contextmanager
def radosgw(work: Path, *, memory: int = 4 << 30) -> Iterator[Radosgw]:
    """Start the cluster in `work`; its parts end in the order that lets each take its leave.

    Args:
        memory: Bytes that it can store: when it is full, writes wait for ever.
    """
    for program in ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool"):
        program_path(program)
    parts = _Parts(work, memory)
    with parts.monitor(), parts.store(), parts.gateway():
        parts.make_users()
        yield Radosgw(parts.port, work / "client.rgw.log")


class _Parts:
    """What the cluster is made of, to be started in this order: monitor, store, gateway."""

    def __init__(self, work: Path, memory: int) -> None:
        self.work = work
        self.mon_port = free_ports(2)
        self.port = self.mon_port + 1
        self.fsid = str(uuid.uuid4())
        self.conf = ["-c", str(work / "ceph.conf")]
        text = _CONFIGURATION.format(
            fsid=self.fsid, mon_port=self.mon_port, work=work, sts_key=_STS_KEY, memory=memory
        )
        (work / "ceph.conf").write_text(text)

    @contextmanager
    def monitor(self) -> Iterator[None]:
        monmap, address = str(self.work / "monmap"), f"[v1:127.0.0.1:{self.mon_port}]"
        self.call("monmaptool", "--create", "--clobber", "--fsid", self.fsid, "--addv", "a", address, monmap)
        self.call("ceph-mon", *self.conf, "--mkfs", "-i", "a", "--monmap", monmap)
        with self.server(["ceph-mon", "-i", "a"], lambda: is_listening(self.mon_port)):
            yield

    @contextmanager
    def store(self) -> Iterator[None]:
        (self.work / "osd").mkdir()
        number = str(uuid.uuid4())
        self.ceph("osd", "new", number)
        self.call("ceph-osd", *self.conf, "-i", "0", "--mkfs", "--osd-uuid", number)
        # its own message may go out before it knows the monitor's id, and would be its last
        self.ceph("osd", "crush", "add", "osd.0", "1.0", "root=default", "host=here")
        with self.server(["ceph-osd", "-i", "0"], lambda: "1 up" in self.ceph("osd", "stat")):
            yield

    @contextmanager
    def gateway(self) -> Iterator[None]:
        (self.work / "rgw").mkdir()
        frontend = f"beast endpoint=127.0.0.1:{self.port} tcp_nodelay=1"  # without: 44 ms a request
        command = ["radosgw", "-n", "client.rgw", "--rgw-frontends", frontend]
        with self.server(command, lambda: is_listening(self.port)):
            yield

    def make_users(self) -> None:
        admin = ["radosgw-admin", *self.conf, "-n", "client.rgw"]
        for name, keys in _USERS.items():
            secrets = f"--access-key={keys.access_key}", f"--secret-key={keys.secret_key}"
            self.call(*admin, "user", "create", f"--uid={name}", f"--display-name={name}", *secrets)
        for command in _ROLE:
            self.call(*admin, *command)

    def server(self, command: list[str], ready: Callable[[], bool]) -> AbstractContextManager[object]:
        return running(
            [program_path(command[0]), *self.conf, "-f", *command[1:]], self.work / command[0], ready=ready
        )

    def ceph(self, *arguments: str) -> str:
        """Run a command of the monitor, again if need be: it listens before it can answer."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return self.call("ceph", *self.conf, *arguments)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    def call(self, name: str, *arguments: str) -> str:
        """Run a program to its end; its messages become those of a failure."""
        command = [program_path(name), *arguments]
        done = subprocess.run(command, cwd=self.work, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout
