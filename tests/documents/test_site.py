"""The docs site builds without warnings, and its reference is complete."""

import html
import inspect
import re
import subprocess
import sys
from pathlib import Path

import griffe
import pytest

import stacpull
from stacpull import Options, S3Options, Selection
from stacpull.cli import COMMANDS
from stacpull.config.options import OPTIONS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=Path(__file__).resolve().parents[2],
        env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def test_the_reference_lists_every_option_and_command(site: Path) -> None:
    options = text_of(site / "reference/options/index.html")
    assert [o.name for o in OPTIONS if f"{'--' * (o.form != 'no_flag')}{o.name}" not in options] == []
    assert [v for o in OPTIONS for v in o.variables if v not in options] == []
    commands = text_of(site / "reference/commands/index.html")
    assert [name for name in COMMANDS if f"stacpull {name}" not in commands] == []


def test_the_reference_lists_every_public_python_name(site: Path) -> None:
    page = (site / "reference/python/index.html").read_text()
    names = [name for name in stacpull.__all__ if not name.startswith("_")]
    assert [name for name in names if f'id="stacpull.{name}"' not in page] == []


@pytest.mark.parametrize("kind", [Selection, Options, S3Options])
def test_the_reference_has_a_row_for_each_argument(kind: type) -> None:
    sections = griffe.Docstring(inspect.getdoc(kind) or "").parse("google")
    [rows] = [section.value for section in sections if section.kind.value == "attributes"]
    shown = {row.name: " ".join(row.description.split()) for row in rows}
    declared = {option.field: option.help for option in OPTIONS if option.holder is kind}
    declared = {name: words.removesuffix(" May be repeated.") for name, words in declared.items()}
    assert declared.items() <= shown.items()


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        text = page.read_text()
        assert re.findall(r"""<(?:script|img|iframe|link rel="stylesheet")[^>]*"https?://[^"]*""", text) == []
        assert 'data-md-component="source"' not in text, "the theme asks api.github.com where repo_url is set"
