"""A new page takes five files: its module, the name of its function in two, its command and its entry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.changed_copy import ChangedCopy

from .conftest import item

pytestmark = pytest.mark.behaviour

MODULE = '''
from functools import partial
from html import escape
from pathlib import Path

from stacpull.config.dest import dest_path, output_path
from stacpull.outputs.mirrored_items import open_contents
from stacpull.reports import ExportReport
from stacpull.store.atomic import whole_file
from stacpull.threads import StoppableThread


async def gallery(dest, out=None, *, stop=None):
    """Write an HTML page with the ids of the items of the mirror at `dest`."""
    path = output_path("gallery.html" if out is None else out)
    return await StoppableThread(stop).run(partial(_gallery, dest_path(dest), path))


def _gallery(dest, out):
    with open_contents(dest) as contents:
        contents.refuse_own(out)
        ids = sorted(one.id for one in contents.items())
        with whole_file(out) as file:
            file.write("".join(f"<p>{escape(one)}</p>" for one in ids).encode())
    return ExportReport(len(ids), (out.name,), out.stat().st_size)
'''
COMMAND = '''
import click

from stacpull.cli import parameters
from stacpull.cli.command import command


@command(
    "gallery",
    parameters.dest(),
    click.Option(["-o", "--output", "out"], type=parameters.OutputPath(), metavar="FILE", help="The file."),
    *parameters.named("work", "json", "quiet"),
)
def gallery(session, dest, out):
    """Write a page with the ids of the items in DEST."""
    from stacpull.outputs.gallery import gallery

    written = session.run(lambda stop: gallery(dest, out, stop=stop))
    return session.finish(written, [f"{written.items} items"])
'''


def test_the_command_and_the_function_write_it(mirrored: Callable[..., Path], tmp_path: Path) -> None:
    copy = ChangedCopy(tmp_path / "copy")
    copy.add("outputs/gallery.py", MODULE)
    copy.publish("gallery", "stacpull.outputs.gallery")
    copy.add("cli/gallery_command.py", COMMAND)
    entry = '    "gallery": _LazyCommand("stacpull.cli.gallery_command:gallery", "Write a page with ids."),\n'
    copy.insert("cli/main.py", entry, before='    "trace": _LazyCommand(')
    assert copy.changed == {
        "outputs/gallery.py": None,
        "__init__.py": 2,
        "sync.py": 3,
        "cli/gallery_command.py": None,
        "cli/main.py": 1,
    }

    dest, page = mirrored([item("b"), item("<a>")]), tmp_path / "page.html"
    report = copy.run("gallery", dest, "-o", page, "--json")
    assert json.loads(report.stdout)["items"] == 2
    assert page.read_text() == "<p>&lt;a&gt;</p><p>b</p>"
    assert copy.run("gallery", dest, "-o", dest / "catalog.json").returncode == 2
    printed = copy.evaluated(
        f"import stacpull.sync; print(stacpull.sync.gallery({str(dest)!r}, {str(page)!r}).files)"
    )
    assert printed == "('page.html',)\n"
