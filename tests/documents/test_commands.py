"""Every command and Python block of the README and the docs runs and prints the output on the page."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.documents.earth_search import earth_search_replica
from tests.documents.pages import blocks_of, differs, is_run, run_page, steps_of
from tests.servers.buckets import client
from tests.servers.process import found
from tests.servers.radosgw import OWNER, radosgw
from tests.serving import free_ports

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ENVIRONMENT = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "COLUMNS": "100",
    "http_proxy": "http://127.0.0.1:9",  # a page with another host fails instead of connecting to it
    "https_proxy": "http://127.0.0.1:9",
    "no_proxy": "127.0.0.1,localhost",
}
MAY_FAIL = {"--label 'Rice feilds'": 2}
"""Commands that fail on purpose, by a part of the command, with their exit codes."""
PYTHON_OF = {"open.md": "open", "torchgeo.md": "torchgeo"}
"""Pages whose Python needs libraries of others: the venv of tools that has them."""


@pytest.fixture(scope="module")
def earth_search(shared_data: Path) -> Iterator[str]:
    """The URL of its replica."""
    with earth_search_replica(shared_data) as url:
        yield url


@pytest.fixture
def bucket_service(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Return the URL of a service with the bucket `my-bucket` and the keys of the profile `archive`."""
    folder = tmp_path_factory.mktemp("service")
    with radosgw(folder) as gateway:
        client(gateway.url, OWNER).create_bucket(Bucket="my-bucket")
        shared = folder / "credentials"
        shared.write_text(
            f"[archive]\naws_access_key_id={OWNER.access_key}\naws_secret_access_key={OWNER.secret_key}\n"
        )
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
        yield gateway.url


@pytest.mark.timeout(118)
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES if steps_of(page.read_text())],
)
def test_a_page_runs_as_it_is_written(page, tmp_path, earth_search, request):
    text = page.read_text()
    service = "https://s3.example.org"
    port = free_ports(3)
    # one page runs the installed command; Dask starts its own processes
    is_started = page.name in {"README.md", "dask.md"}
    programs = [] if is_started else [request.getfixturevalue("forked_command")]
    if page.name in PYTHON_OF:
        programs.insert(0, Path(found("python", venv=PYTHON_OF[page.name])).parent)
    ran = run_page(
        text,
        tmp_path,
        {
            service: request.getfixturevalue("bucket_service") if service in text else service,
            "https://earth-search.aws.element84.com/v1": earth_search,
            "8801": str(port),
            "8811": str(port),
            "/tmp/stacpull-docs-copy": str(tmp_path / "moved"),  # noqa: S108 - the path on the page
        },
        ENVIRONMENT,
        programs,
    )
    for one in ran:
        where = f"{page.name}:{one.step.line}: {one.step.text}\n{one.out}\n{one.err}"
        allowed = next((code for part, code in MAY_FAIL.items() if part in one.step.text), 0)
        assert one.code == allowed, where
        missing = differs(one.step.shown, one.out) and differs(one.step.shown, one.err)
        assert missing is None, f"{where}\nshown, and not printed: {missing}"


def test_commands_that_are_not_run_are_few_and_known() -> None:
    skipped = [step.text for page in PAGES for step in steps_of(page.read_text()) if not is_run(step)]
    commands = [[word for word in text.split() if not re.match("[A-Z_]+=", word)] for text in skipped]
    assert {words[0] for words in commands} <= {"pip", "git", "bash", ".venv/bin/mkdocs"}
    scripts = {words[1] for words in commands if words[0] == "bash"}
    assert scripts <= {"scripts/test", "scripts/demo", "scripts/make-venv"}


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_options_that_a_page_names_exist(page: Path) -> None:
    help_texts = _all_help()
    for command in re.findall(r"stacpull (?:-q )?(\w+)([^\n`]*)", page.read_text()):
        name, arguments = command
        if name not in help_texts:
            continue
        for flag in re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", arguments):
            assert flag in help_texts[name], f"{page.name}: stacpull {name} has no {flag}"


_help: dict[str, str] = {}


def _all_help() -> dict[str, str]:
    if not _help:
        code = (
            "import click\n"
            "from stacpull.cli.main import COMMANDS, cli\n"
            "for name in COMMANDS:\n"
            "    command = cli.get_command(click.Context(cli), name)\n"
            "    below = command.commands.values() if isinstance(command, click.Group) else ()\n"
            "    every = [p for c in (command, *below) for p in c.params]\n"
            "    print(name, *(flag for p in every for flag in (*p.opts, *p.secondary_opts)))\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        _help.update(line.split(" ", 1) for line in done.stdout.splitlines())
        for name in _help:
            _help[name] += " --help --version --quiet --verbose"
    return _help


def test_shell_scripts_of_the_pages_parse() -> None:
    for page in PAGES:
        for block in blocks_of(page.read_text()):
            if block.language in {"sh", "bash"} and "* * *" not in block.text:
                done = subprocess.run(
                    ["bash", "-n"], input=block.text, text=True, capture_output=True, check=False
                )
                assert done.returncode == 0, f"{page.name}:{block.line}: {done.stderr}"
