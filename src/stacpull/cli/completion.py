"""`stacpull completion SHELL`: prints the completion script of a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from stacpull.cli.command import Command
from stacpull.cli.main import cli
from stacpull.errors import UsageError


@click.command("completion", cls=Command, examples=["completion bash >> ~/.bashrc"])
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    For bash, in ~/.bashrc: eval "$(stacpull completion bash)"
    """
    script = get_completion_class(shell)
    if script is None:
        raise UsageError(f"There is no completion for {shell}: use bash, zsh or fish.")
    click.echo(script(cli, {}, "stacpull", "_STACPULL_COMPLETE").source())
