"""radosgw, the S3 of Ceph, alone on one machine: a monitor, one store in memory, and the gateway.

It verifies signatures, policies, who pays, presigned URLs, conditions and versions as Amazon does, and none of
its lines was written for this project.
"""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.buckets import Keys
from tests.servers.process import found, free_ports, is_listening, running

ROLE = "arn:aws:iam:::role/reader"
"""A role that OWNER may take on; it may read every object."""

_STS_KEY = "0123456789abcdef"

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
memstore_device_bytes = 2147483648
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
rgw_data = {work}/rgw
rgw_sts_key = {sts_key}
rgw_s3_auth_use_sts = true
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
def radosgw(work: Path) -> Iterator[Radosgw]:
    """Start the cluster in `work`, and end it in the order that lets each part take its leave."""
    mon, osd, rgw = found("ceph-mon"), found("ceph-osd"), found("radosgw")
    ceph, monmaptool = found("ceph"), found("monmaptool")
    mon_port, port = free_ports(2)
    fsid, osd_id = str(uuid.uuid4()), str(uuid.uuid4())
    configuration = work / "ceph.conf"
    configuration.write_text(
        _CONFIGURATION.format(fsid=fsid, mon_port=mon_port, work=work, sts_key=_STS_KEY)
    )
    conf = ["-c", str(configuration)]

    def call(*command: str) -> str:
        return _called(work, *command)

    call(
        monmaptool, "--create", "--clobber", "--fsid", fsid, "--addv", "a", f"[v1:127.0.0.1:{mon_port}]",
        str(work / "monmap"),
    )  # fmt: skip
    call(mon, *conf, "--mkfs", "-i", "a", "--monmap", str(work / "monmap"))
    for name in ("osd", "rgw"):
        (work / name).mkdir()
    with ExitStack() as stack:
        stack.enter_context(
            running([mon, *conf, "-f", "-i", "a"], work / "mon.out", ready=lambda: is_listening(mon_port))
        )
        call(ceph, *conf, "osd", "new", osd_id)
        call(osd, *conf, "-i", "0", "--mkfs", "--osd-uuid", osd_id)
        stack.enter_context(running([osd, *conf, "-f", "-i", "0"], work / "osd.out", ready=lambda: True))
        admin = [found("radosgw-admin"), *conf, "-n", "client.rgw"]
        stack.enter_context(
            running(
                [rgw, *conf, "-f", "-n", "client.rgw", "--rgw-frontends",
                 f"beast endpoint=127.0.0.1:{port} tcp_nodelay=1"],
                work / "rgw.out",
                ready=lambda: is_listening(port),
            )
        )  # fmt: skip
        for name, keys in _USERS.items():
            call(
                *admin, "user", "create", f"--uid={name}", f"--display-name={name}",
                f"--access-key={keys.access_key}", f"--secret-key={keys.secret_key}",
            )  # fmt: skip
        for role in _ROLE:
            call(*admin, *role)
        yield Radosgw(port, work / "client.rgw.log")


def _called(work: Path, *command: str) -> str:
    """Run a program to its end; its messages become those of a failure."""
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
