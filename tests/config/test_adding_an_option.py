"""A new option is declared in one file and used in another. A copy of the code proves it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import stacpull

PACKAGE = Path(stacpull.__file__).parent
FIELD = """
    greeting: str = option("hello", "Begin the output with this word.", metavar="WORD")
    retries: """
PLACE = "    report = session.run_cancelled(work)\n"
EFFECT = f'    print(f"greeting: {{session.options.greeting}}")\n{PLACE}'


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the new option `--greeting`, for which two files were changed."""
    top = tmp_path_factory.mktemp("copy")
    package = top / "stacpull"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    declared = package / "config" / "options.py"
    declared.write_text(declared.read_text().replace("\n    retries: ", FIELD, 1))
    used = package / "cli" / "plan_command.py"
    used.write_text(used.read_text().replace(PLACE, EFFECT, 1))
    changed = [
        path
        for path in package.rglob("*.py")
        if path.read_text() != (PACKAGE / path.relative_to(package)).read_text()
    ]
    assert len(changed) == 2
    return top


def run(copy: Path, *arguments: str, **environ: str) -> str:
    environment = {**os.environ, **environ, "PYTHONPATH": str(copy), "COLUMNS": "100"}
    command = [sys.executable, "-m", "stacpull", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    return ran.stdout + ran.stderr


def test_the_help_shows_it_with_its_default_and_group(copy: Path) -> None:
    section = run(copy, "mirror", "--help").partition("\nTransfer:\n")[2].partition("\n\n")[0]
    assert "--greeting WORD" in section
    assert "Begin the output with this word. [default: hello]" in " ".join(section.split())


def test_the_option_is_read_from_all_its_origins(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "items.json").write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "c.toml").write_text('greeting = "from the file"\n')
    plan = ["plan", str(tmp_path / "items.json")]
    file = ["--config", str(tmp_path / "c.toml")]
    assert run(copy, *plan).startswith("greeting: hello\n")
    assert run(copy, *plan, *file).startswith("greeting: from the file\n")
    assert run(copy, *plan, *file, STACPULL_GREETING="set").startswith("greeting: set\n")
    assert run(copy, *plan, *file, "--greeting", "flag", STACPULL_GREETING="set").startswith(
        "greeting: flag\n"
    )


def test_an_invalid_value_is_reported_with_its_origin(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("\ngreeting = 7\n")
    output = run(copy, "plan", "x", "--config", str(tmp_path / "c.toml"))
    assert "c.toml, line 2, greeting must be text in quotes, not 7" in output
    assert "greetin: there is no such option; did you mean greeting?" in run(
        copy, "plan", "x", "--config", written(tmp_path, "greetin = 'x'\n")
    )


def test_python_and_the_reference_have_the_option(copy: Path) -> None:
    code = (
        "import stacpull; from stacpull.config.options import BY_NAME\n"
        "option = BY_NAME['greeting']\n"
        "print(stacpull.Options(greeting='x').greeting, option.default, option.variables)"
    )
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert ran.stdout == "x hello ('STACPULL_GREETING',)\n"


def written(folder: Path, text: str) -> str:
    path = folder / "d.toml"
    path.write_text(text)
    return str(path)
