"""Users and passwords from the netrc file in `NETRC` or `~/.netrc`.

The `default` entry is never used: it would send a password to any host (GNU inetutils manual, "The .netrc
file").
"""

from __future__ import annotations

import netrc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from stacpull.net.logins.profile import HostPattern
from stacpull.redact import Secret
from stacpull.system import expanded, usual_file


@dataclass(frozen=True)
class Netrc:
    """The netrc file, read on first use. A missing file has no entries."""

    environ: Mapping[str, str] = field(repr=False)

    @property
    def path(self) -> Path:
        """The path of the file."""
        return expanded(self.environ.get("NETRC") or "~/.netrc")

    def entry(self, host: str) -> tuple[Secret, Secret] | None:
        """Return user and password for a host, or None if it has no entry."""
        return self._read[0].get(host)

    def below(self, hosts: tuple[HostPattern, ...]) -> Iterator[tuple[HostPattern, tuple[Secret, Secret]]]:
        """Yield the hosts of the file that `hosts` cover, each with user and password."""
        for name, entry in self._read[0].items():
            for pattern in hosts:
                if pattern.covers(pattern.scheme, name, pattern.port):
                    yield HostPattern(pattern.scheme, name, pattern.port), entry

    @property
    def problem(self) -> str:
        """A message if the file cannot be read; else empty."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[Mapping[str, tuple[Secret, Secret]], str]:
        """The entries by host, and the problem. An invalid file has no entries: logins may not need it."""
        if usual_file(str(self.path)) is None:
            return {}, ""
        try:
            hosts = netrc.netrc(str(self.path)).hosts
        except FileNotFoundError:
            return {}, ""
        except netrc.NetrcParseError as problem:  # its message may quote the file, perhaps a password
            return {}, f"{self.path}, line {problem.lineno}: this is not a valid netrc file."
        except (OSError, UnicodeDecodeError):
            return {}, f"{self.path} cannot be read as a netrc file."
        return {
            host.lower(): (Secret(user), Secret(password))
            for host, (user, _, password) in hosts.items()
            if host != "default" and password
        }, ""
