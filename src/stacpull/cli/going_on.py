"""What `resume` and `retry` share: a run started before goes on, with its own selection and layout."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol

import click

from stacpull.cli import parameters
from stacpull.cli.ending import finish
from stacpull.cli.progress import display
from stacpull.cli.running import run_until_stopped
from stacpull.config.options import Options, Scope
from stacpull.events import Listener
from stacpull.reports import MirrorReport

__all__ = ["go_on"]


class _Continuation(Protocol):
    """`stacpull.resume` or `stacpull.retry`."""

    def __call__(
        self, dest: Path, /, *, options: Options, on_event: Listener, stop: asyncio.Event
    ) -> Coroutine[Any, Any, MirrorReport]: ...


def go_on(context: click.Context, dest: Path, raw: Mapping[str, object], work: _Continuation) -> int:
    """Let `work` go on with the run in `dest`, and return the exit code.

    The source of the run, as the ledger has it, decides which built-in credentials are taken.
    """
    from stacpull.engine import api

    parameters.refuse_fixed(raw, str(context.info_name))
    source = api.status(dest).source
    told = parameters.told(
        context,
        raw,
        source=source,
        scopes=frozenset({Scope.TRANSFER, Scope.OUTPUT}),
    )
    show = display(told.output, source=source)
    try:
        report = run_until_stopped(
            lambda stop: work(dest, options=told.options, on_event=show, stop=stop), show
        )
    finally:
        show.close()
    return finish(report, told.output, show)
