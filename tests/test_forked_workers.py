"""`--workers N`: each test runs once, in one of N processes, and is reported as pytest would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tests.conftest import ROOT

_CONFTEST = """
import os
from pathlib import Path
import pytest
from tests.forked_workers import pytest_addoption, pytest_configure, worker_number

NOTES = Path(__file__).with_name("notes")
NOTES.mkdir(exist_ok=True)
(NOTES / f"collected-{os.getpid()}").touch()

def note(name):
    number = len(list(NOTES.glob(f"{name}-*")))
    (NOTES / f"{name}-{number}-{worker_number()}").touch()

@pytest.fixture(autouse=True)
def noted(request):
    note(request.node.name)

@pytest.fixture(scope="session", autouse=True)
def server():
    note("started")
    yield
    note("stopped")
"""
_TESTS = """
import os, signal
import pytest

@pytest.mark.parametrize("number", range(6))
def test_passes(number, tmp_path):
    assert os.listdir(tmp_path) == []

def test_fails():
    print("what it printed")
    assert [1, 2] == [1, 3]

def test_is_skipped():
    pytest.skip("a reason")

@pytest.mark.xfail(reason="known", strict=True)
def test_fails_as_expected():
    assert False

def test_is_killed():
    os.kill(os.getpid(), signal.SIGKILL)

def test_exits():
    os._exit(3)

@pytest.fixture
def broken():
    yield
    raise ValueError("the end of the fixture")

def test_has_an_error_at_its_end(broken):
    pass

@pytest.mark.parametrize("number", range(6))
def test_passes_later(number):
    pass
"""
_EXPECTED = {
    "test_fails": ("failure", "assert [1, 2] == [1, 3]"),
    "test_is_skipped": ("skipped", "a reason"),
    "test_fails_as_expected": ("skipped", "known"),
    "test_is_killed": ("failure", "the worker ended with -9 while it ran this test"),
    "test_exits": ("failure", "the worker ended with 3 while it ran this test"),
    "test_has_an_error_at_its_end": ("error", "the end of the fixture"),
    **{f"test_passes[{number}]": ("", "") for number in range(6)},
    **{f"test_passes_later[{number}]": ("", "") for number in range(6)},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_some.py").write_text(_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]")
    return tmp_path


def _run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "--workers", "2", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_each_test_runs_once_and_is_reported_also_when_its_process_ends(project: Path) -> None:
    ran = _run(project, "--junitxml", "report.xml")
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout + ran.stderr
    assert "3 failed, 13 passed, 1 skipped, 1 xfailed, 1 error" in ran.stdout
    assert "what it printed" in ran.stdout
    reported = {}
    for case in ET.parse(project / "report.xml").iter("testcase"):  # noqa: S314 - pytest has written it
        kinds = {child.tag: (child.get("message") or "") + (child.text or "") for child in case}
        kind = next((kind for kind in ("failure", "error", "skipped") if kind in kinds), "")
        name = case.get("name", "")
        assert name not in reported or not reported[name][0]
        reported[name] = (kind, kinds.get(kind, ""))
    assert {name: kind for name, (kind, _) in reported.items()} == {
        name: kind for name, (kind, _) in _EXPECTED.items()
    }
    assert [name for name, (_, text) in _EXPECTED.items() if text not in reported[name][1]] == []
    notes = sorted(path.name for path in (project / "notes").iterdir())
    began = [name.rsplit("-", 2)[0] for name in notes if name.startswith("test_")]
    assert sorted(began) == sorted(_EXPECTED)
    assert {name[-1] for name in notes if name.startswith("test_")} == {"0", "1"}
    assert sum(name.startswith("collected") for name in notes) == 1
    assert [sum(name.startswith(what) for name in notes) for what in ("started", "stopped")] == [4, 2]


def test_the_first_failure_ends_the_run_when_asked_and_fixtures_end_as_well(project: Path) -> None:
    (project / "test_some.py").write_text("def test_fails():\n    assert False\n" + _TESTS)
    ran = _run(project, "-x", "-k", "passes or fails")
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout + ran.stderr
    assert "1 failed" in ran.stdout
    notes = [path.name for path in (project / "notes").iterdir()]
    assert [sum(name.startswith(what) for name in notes) for what in ("started", "stopped")] == [2, 2]
