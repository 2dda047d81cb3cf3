"""A certificate authority for one benchmark: it signs the origin's certificate, and every tool trusts it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from scripts.benchmarks.lacking import program

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
_ISSUED = """subjectAltName=IP:{host}
basicConstraints=CA:FALSE
keyUsage=digitalSignature
extendedKeyUsage=serverAuth
"""


class Certificate(NamedTuple):
    """PEM files: the certificate of the authority, and the certificate and key of the server."""

    authority: Path
    server: Path
    key: Path


def certificate(folder: Path, host: str) -> Certificate:
    """Create an authority and a server certificate for the address `host`. Raises Unavailable."""
    names = ("authority.pem", "server.pem", "server.key", "authority.key", "server.csr", "extensions")
    authority, server, key, authority_key, request, extensions = (folder / name for name in names)
    _openssl(
        *("req", "-x509", *_KEY, "-keyout", authority_key, "-out", authority, "-subj", "/CN=stacpull bench"),
        *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"),
    )
    extensions.write_text(_ISSUED.format(host=host))
    _openssl("req", *_KEY[:-2], "-keyout", key, "-out", request, "-subj", f"/CN={host}")
    _openssl(
        *("x509", "-req", "-in", request, "-CA", authority, "-CAkey", authority_key, "-CAcreateserial"),
        *("-days", "2", "-extfile", extensions, "-out", server),
    )
    return Certificate(authority, server, key)


def _openssl(*arguments: str | Path) -> None:
    subprocess.run([program("openssl"), *arguments], check=True, capture_output=True)
