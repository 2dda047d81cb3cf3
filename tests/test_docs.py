"""The documents name tests, fields and messages that exist."""

import ast
import http
import re
import subprocess
from pathlib import Path

import pytest

from stacpull import reports
from stacpull.events import AssetFailed, Damage, ItemGone, Notice, RunEnded, RunStarted
from stacpull.filters.labels import BEN19
from stacpull.models import FailureKind
from stacpull_logins.credentials_check import CredentialsCheck
from stacpull_logins.profiles import ProfileState
from stacpull_raster.headers_report import HeadersReport
from stacpull_trace.report import TraceEstimate, TraceReport

TESTS = Path(__file__).resolve().parent
DOCS = TESTS.parent / "docs"
_NAMED = re.compile(r"`(?:tests/)?((?:[a-z_]+/)*test_[a-z0-9_]+\.py)(?:::(test_\w+)|: (test_\w+))?")


def named(text: str) -> list[tuple[str, str]]:
    return [(file, one or other) for file, one, other in _NAMED.findall(text)]


def missing(text: str) -> list[str]:
    """Return those that there are not. A bare file name is looked for anywhere."""
    found = []
    for file, function in named(text):
        paths = [TESTS / file] if "/" in file else list(TESTS.rglob(file))
        texts = [path.read_text() for path in paths if path.is_file()]
        if not any(f"def {function}" in one for one in texts):
            found.append(f"{file} {function}".rstrip())
    return found


@pytest.mark.parametrize("document", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_test_named_in_a_document_exists(document: str) -> None:
    assert missing((DOCS / document).read_text()) == []


def test_the_filters_page_lists_the_classes_of_ben19() -> None:
    assert f"`ben19` has {'; '.join(BEN19)}." in " ".join((DOCS / "howto/filters.md").read_text().split())


def test_the_line_for_cron_reports_a_disk_that_is_not_mounted_as_5() -> None:
    text = (DOCS / "howto/cron.md").read_text()
    (line,) = re.findall(r"^15 2 \* \* \* (.*mountpoint.*)$", text, re.MULTILINE)
    script = 'mountpoint() { return 32; }; curl() { echo "$@"; }; ' + line
    assert subprocess.check_output(["sh", "-c", script], text=True).endswith("/ping/ID/5\n")


def test_messages_that_the_docs_explain_are_printed() -> None:
    """Code at the beginning of a list item is text of the program; `…` stands for a value."""
    rows = _messages((DOCS / "troubleshooting.md").read_text() + (DOCS / "howto/proxies.md").read_text())
    assert len(rows) > 30
    texts = "\n".join(_texts_of_the_program())
    assert [part for part in rows if part not in texts] == []


def _messages(text: str) -> list[str]:
    items = re.findall(r"^- (`[^`]+`(?:, `[^`]+`)*)", text, re.MULTILINE)
    quoted = [code for item in items for code in re.findall(r"`([^`]+)`", item)]
    return [part.strip() for code in quoted for part in code.split("…") if part.strip(" :();,?s")]


def _texts_of_the_program() -> list[str]:
    """Return the texts in the code but docstrings, those of f-strings in the pieces between their values."""
    statuses = [f"answered {status.value} {status.phrase}" for status in http.HTTPStatus]
    nodes = [
        node
        for path in (TESTS.parent / "src").rglob("*.py")
        if "stacpull_replicas" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
    ]
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    constants = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in docstrings]
    return [node.value for node in constants if isinstance(node.value, str)] + statuses


LOGGED = (AssetFailed, ItemGone, Notice, RunEnded, RunStarted)
FIELDS: dict[str, tuple[type, ...]] = {
    "`mirror`": (reports.MirrorReport,),
    "`status`": (reports.StatusReport,),
    "`failures`": (reports.FailureRecord,),
    "`verify`": (Damage, reports.VerifyReport),
    "`plan`": (reports.PlanReport, reports.HostPlan),
    "`headers`": (HeadersReport,),
    "`credentials`": (ProfileState, CredentialsCheck),
    "`trace`": (TraceReport, TraceEstimate),
    "The event log": LOGGED,
}
"""The sections of docs/json.md, by how they begin, and what is printed as JSON."""
NOT_FIELDS = {"damaged"} | {"date", "value"} | {kind.value for kind in FailureKind}
NOT_FIELDS |= {"event", "AttemptFailed"} | {kind.__name__ for kind in LOGGED}
"""Other names in a first column: a property, a row of the median, kinds of failures, and events."""


@pytest.mark.parametrize("section", FIELDS)
def test_docs_of_json_name_the_fields_of_every_report(section: str) -> None:
    text = _section(section)
    fields = {name for kind in FIELDS[section] for name in kind.__struct_fields__}
    assert {name for name in fields if f"`{name}`" not in text} == set()
    cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    documented = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert documented - fields - NOT_FIELDS == set()


def test_docs_of_json_name_every_kind_of_failure() -> None:
    text = _section("`failures`")
    assert [kind for kind in FailureKind if f"`{kind.value}`" not in text] == []


def _section(begins: str) -> str:
    text = (DOCS / "json.md").read_text()
    found = re.search(rf"^## {begins}.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/json.md has no section {begins}"
    return found[0]
