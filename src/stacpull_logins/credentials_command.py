"""`stacpull credentials list|check NAME`: lists the profiles, or checks whether a service accepts one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from msgspec.structs import asdict

from stacpull.cli import parameters
from stacpull.cli.command import CommandSession, command

if TYPE_CHECKING:
    from stacpull_logins.profiles import ProfileState


@command("list", *parameters.by_name("json"))
def list_profiles(session: CommandSession) -> None:
    """List the shipped profiles and your own.

    --credentials also accepts the profiles of the AWS tools, which are not listed here.
    """
    from stacpull_logins.profiles import listed

    found = listed()
    session.print(
        {"profiles": [asdict(credential) for credential in found]},
        (line for credential in found for line in _lines(credential)),
    )


def _lines(one: ProfileState) -> list[str]:
    """Return a profile and its state. One without hosts needs credentials that the AWS tools find."""
    state = "ready" if one.hosts else "ready, if the AWS tools find credentials"
    if one.problem or not one.ready:
        state = f"not ready: {one.problem or one.needs}"
    return [one.name, *([f"  {one.about}"] if one.about else []), f"  {state}"]


@command(
    "check",
    click.Argument(["name"], metavar="NAME"),
    click.Option(["--url"], metavar="URL", help="Request this URL instead of the URLs in the profile."),
    *parameters.by_name("ca-bundle", "allow-private-hosts", "json", "quiet", "verbose"),
)
def check(session: CommandSession, name: str, url: str | None) -> None:
    """Check whether a service accepts a profile.

    NAME is a profile that `stacpull credentials list` shows.

    Exit codes: 0 accepted, 2 no such profile, 3 refused or incomplete, 4 the service cannot be reached.
    """
    from stacpull_logins.credentials_check import check_credentials
    from stacpull_logins.profiles import profile_options

    found = session.run_cancellable(check_credentials(profile_options(session.options, name), url))
    accepted = f"{found.name}: accepted ({', '.join(found.accepted)})"
    session.print(asdict(found), () if session.output.quiet else [accepted])


credentials = click.Group(
    "credentials",
    commands=[list_profiles, check],
    help="List the credential profiles, or check one. Secrets are never shown.",
)
