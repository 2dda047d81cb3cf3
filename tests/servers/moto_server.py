"""moto's S3 with signatures on: some first calls may go unsigned, every one after those is checked."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.buckets import Keys, client
from tests.servers.process import is_listening, program_path, running
from tests.serving import free_ports

_UNSIGNED_CALLS = 4  # user, policy, attachment, key
_STATEMENT = {"Effect": "Allow", "Action": ["s3:*"], "Resource": "*"}
_EVERYTHING = {"Version": "2012-10-17", "Statement": [_STATEMENT]}
_PROGRAM = """
from functools import cache
from moto import server
application = server.DomainDispatcherApplication
application.get_backend_for_host = cache(application.get_backend_for_host)
server.main()
"""
"""moto's server. It would match the host of each request with the patterns of all services, for 2 ms."""


@dataclass(frozen=True)
class Moto:
    """A server that runs, and the keys of its one user."""

    port: int
    keys: Keys

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def moto(work: Path, *, checks_keys: bool = True) -> Iterator[Moto]:
    """Start moto and make a user with a key.

    Args:
        checks_keys: False to accept every signature: moto computes another one than Amazon for some lists.
    """
    python = Path(program_path("moto_server", venv="moto")).with_name("python")
    port = free_ports(1)
    env = dict(os.environ)
    if checks_keys:
        env["INITIAL_NO_AUTH_ACTION_COUNT"] = str(_UNSIGNED_CALLS)
    arguments = [python, "-c", _PROGRAM, "-H", "127.0.0.1", "-p", str(port)]
    with running(arguments, work / "moto.out", ready=lambda: is_listening(port), env=env):
        yield Moto(port, _first_keys(f"http://127.0.0.1:{port}"))


def _first_keys(url: str) -> Keys:
    """Make the user with the calls that may go unsigned: exactly as many as there are."""
    iam = client(url, Keys("nobody", "nothing"), "iam")
    iam.create_user(UserName="user")
    arn = iam.create_policy(PolicyName="all", PolicyDocument=json.dumps(_EVERYTHING))["Policy"]["Arn"]
    iam.attach_user_policy(UserName="user", PolicyArn=arn)
    made = iam.create_access_key(UserName="user")["AccessKey"]
    iam.close()
    return Keys(made["AccessKeyId"], made["SecretAccessKey"])
