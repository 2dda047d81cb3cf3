"""`stacpull credentials list|check NAME`: which profiles there are, and whether a service accepts one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from stacpull.cli import parameters, printing
from stacpull.cli.running import run

if TYPE_CHECKING:
    from stacpull.engine.credentials import ProfileState

__all__ = ["command"]


@click.group("credentials", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List the credential profiles, or check one. Secrets are never shown."""


@command.command("list", params=parameters.named("json"))
@click.pass_context
def list_(context: click.Context, /, **raw: object) -> None:
    """List the credential profiles for --credentials: shipped ones, and your own.

    Beside them --credentials takes the profiles of the AWS tools, which are not listed here.
    """
    from stacpull.config.profiles import listed
    from stacpull.engine.credentials import state_of

    told = parameters.told(context, raw)
    found = [state_of(one) for one in listed()]
    if told.output.json:
        printing.json_line({"profiles": [asdict(one) for one in found]})
        return
    printing.lines(line for one in found for line in _lines(one))


def _lines(one: ProfileState) -> list[str]:
    return [one.name, *([f"  {one.about}"] if one.about else []), f"  {_standing(one)}"]


def _standing(one: ProfileState) -> str:
    """Say whether a profile can be used; one without hosts signs for S3 with what the AWS tools find."""
    if one.problem:
        return f"not ready: {one.problem}"
    if not one.ready:
        return f"not ready: {one.needs}"
    return "ready" if one.hosts else "ready, if the AWS tools find credentials"


@command.command(
    "check",
    params=[
        click.Argument(["name"], metavar="NAME"),
        click.Option(["--url"], metavar="URL", help="Ask for this, in place of what the profile names."),
        *parameters.named("ca-bundle", "allow-private-hosts", "json", "quiet", "verbose"),
    ],
)
@click.pass_context
def check(context: click.Context, /, name: str, url: str | None, **raw: object) -> None:
    """Ask a service whether it accepts the credentials of the profile NAME.

    Exit codes: 0 accepted, 2 no such profile, 3 refused or not complete, 4 the service cannot be asked.
    """
    from stacpull.config.profiles import profile_options
    from stacpull.engine.credentials import check_credentials

    told = parameters.told(context, raw)
    found = run(check_credentials(profile_options(told.options, name), url))
    if told.output.json:
        printing.json_line(asdict(found))
    elif not told.output.quiet:
        printing.lines([f"{found.name}: accepted ({', '.join(found.accepted)})"])
