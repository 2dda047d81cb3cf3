"""`stacpull completion SHELL`: the script that makes a shell complete the command."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from stacpull.cli.help import Command
from stacpull.cli.main import cli
from stacpull.errors import UsageError

__all__ = ["command"]


@click.command("completion", cls=Command, examples=["completion bash >> ~/.bashrc"])
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    For bash, in ~/.bashrc: eval "$(stacpull completion bash)"
    """
    completion = get_completion_class(shell)
    if completion is None:
        raise UsageError(f"there is no completion for {shell}: use bash, zsh or fish")
    click.echo(completion(cli, {}, "stacpull", "_STACPULL_COMPLETE").source())
