"""TLS is always verified: for pages and assets, over both transports, and no option turns that off."""

import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.net.memory import Answer
from tests.security.authority import Authority
from tests.security.sources import Source, data, feature

from stacpull import MirrorReport, Options, SourceError
from stacpull.cli import main
from stacpull.config.options import OPTIONS
from stacpull.net.transport import Request
from stacpull.sync import failures, mirror


def mirrored(
    dest: Path,
    api: ssl.SSLContext | None,
    assets: ssl.SSLContext | None,
    host: str,
    *,
    count: int = 1,
    **options: Any,
) -> tuple[MirrorReport, int]:
    """Mirror `count` assets; return the report, and how many requests reached their host."""
    with Source(others=data, tls=assets, name=host) as blobs, Source(tls=api, name="localhost") as source:
        source.features = [feature("i", {"a" * (n + 1): blobs.url(f"/{n}") for n in range(count)})]
        report = mirror(source.api, dest, options=Options(retries=0, **options))
        return report, len(blobs.requests)


def test_pages_and_assets_are_fetched_with_the_ca_bundle(tmp_path: Path, authority: Authority) -> None:
    context = authority.server()
    report, blobs = mirrored(tmp_path / "m", context, context, "localhost", ca_bundle=authority.bundle)
    assert (report.assets_done, blobs) == (1, 1)
    assert (tmp_path / "m" / "c" / "i" / "a").read_bytes() == b"data"


BAD: dict[str, Callable[[Authority, Authority], tuple[ssl.SSLContext, str]]] = {
    "of an authority nobody knows": lambda _known, unknown: (unknown.server(), "localhost"),
    "for another name": lambda known, _: (known.server("elsewhere.example"), "localhost"),
    "for a name, not the address": lambda known, _: (known.server(), "127.0.0.1"),
    "expired": lambda known, _: (known.server(days=0), "localhost"),
}


@pytest.mark.parametrize("bad", BAD)
def test_an_asset_behind_a_bad_certificate_is_a_final_failure_without_a_request(
    tmp_path: Path, authority: Authority, stranger: Authority, bad: str
) -> None:
    context, host = BAD[bad](authority, stranger)
    dest = tmp_path / "m"
    report, blobs = mirrored(dest, authority.server(), context, host, ca_bundle=authority.bundle)
    assert (report.assets_failed, report.retries, blobs) == (1, 0, 0)
    (failed,) = failures(dest)
    assert failed.kind == "network"
    assert "certificate" in failed.message
    assert "not trusted" in failed.message
    assert ("--ca-bundle" in failed.message) == ("nobody" in bad)


def test_many_assets_behind_a_bad_certificate_fail_at_once(tmp_path, authority, stranger):
    """Their host is not silent: to wait for it would change nothing."""
    servers = authority.server(), stranger.server()
    report, _ = mirrored(tmp_path / "m", *servers, "localhost", count=40, ca_bundle=authority.bundle)
    assert (report.assets_failed, report.assets_pending) == (40, 0)
    assert {failed.kind for failed in failures(tmp_path / "m")} == {"network"}


@pytest.mark.parametrize("with_bundle", [True, False], ids=["another bundle", "the system's"])
def test_a_source_behind_a_bad_certificate_ends_the_run(tmp_path, authority, stranger, with_bundle):
    bundle = stranger.bundle if with_bundle else None
    with pytest.raises(
        SourceError,
        match=r"certificate of localhost:[0-9]+ is not trusted: .*[^.]\. A private authority needs",
    ):
        mirrored(tmp_path / "m", authority.server(), None, "127.0.0.1", ca_bundle=bundle)


def test_from_https_an_asset_is_not_redirected_to_http(tmp_path: Path, authority: Authority) -> None:
    def plain(_request: Request) -> Answer:
        return Answer(302, headers={"Location": "http://127.0.0.1:1/x"})

    with Source(others=plain, tls=authority.server(), name="localhost") as source:
        source.features = [feature("i", {"a": source.url("/x")})]
        report = mirror(source.api, tmp_path / "m", options=Options(ca_bundle=authority.bundle))
    assert report.assets_failed == 1
    (failed,) = failures(tmp_path / "m")
    assert (failed.kind, "plain http" in failed.message) == ("redirect", True)


def test_no_option_turns_verification_off(tmp_path, authority) -> None:
    """Neither all those of Options that are true or false, nor one of a command with such a name."""
    flags = {one.name: not one.default for one in attrs.fields(Options) if isinstance(one.default, bool)}
    del flags["break_lock"]  # it is for a bucket
    with pytest.raises(SourceError, match="is not trusted"):
        mirrored(tmp_path / "m", authority.server(), None, "127.0.0.1", **flags)
    commands = [main.cli.get_command(main.click.Context(main.cli), name) for name in main.COMMANDS]
    params = [param for command in commands if command is not None for param in command.params]
    names = {name for param in params for name in (*param.opts, *param.secondary_opts)}
    names |= {name for option in OPTIONS for name in (option.name, *option.variables)}
    assert "--ca-bundle" in names
    telling = re.compile("tls|ssl|verif|certif|secur|trust|^-k$", re.IGNORECASE)
    assert [name for name in names if telling.search(name)] == []
