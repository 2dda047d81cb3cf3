"""A small certificate authority, made with openssl for the length of a test session."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclass(frozen=True)
class Authority:
    """`bundle` is its own certificate: what a client must trust to believe those that it issues."""

    folder: Path
    name: str = "test authority"

    def __post_init__(self) -> None:
        if shutil.which("openssl") is None:
            import pytest  # noqa: PLC0415 - scripts/bench uses this where there is no pytest

            pytest.skip("openssl is not installed: no certificates to test TLS with")
        self.folder.mkdir()
        _openssl("req", "-x509", *_KEY, "-keyout", self._key, "-out", self.bundle, "-days", "2",
                 "-subj", f"/CN={self.name}", "-addext", "basicConstraints=critical,CA:TRUE",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip

    @property
    def bundle(self) -> Path:
        return self.folder / "authority.pem"

    @property
    def _key(self) -> Path:
        return self.folder / "authority.key"

    def certificate(self, name: str, *, days: int = 2) -> tuple[Path, Path]:
        """A certificate for `name` and its key; of 0 days, one that has expired."""
        stem = self.folder / f"{name}{days}"
        key, request, certificate, extensions = (Path(f"{stem}.{end}") for end in ("key", "csr", "pem", "x"))
        kind = "IP" if name[0].isdigit() else "DNS"
        extensions.write_text(
            f"subjectAltName={kind}:{name}\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n"
            "extendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\n"
        )
        _openssl("req", *_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl("x509", "-req", "-in", request, "-CA", self.bundle, "-CAkey", self._key, "-CAcreateserial",
                 "-days", str(days), "-extfile", extensions, "-out", certificate)  # fmt: skip
        return certificate, key

    def server(self, name: str = "localhost", *, days: int = 2) -> ssl.SSLContext:
        """What a server speaks that holds a certificate for `name`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certificate(name, days=days))
        return context


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
