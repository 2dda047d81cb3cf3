"""A new option is declared in one file and used in another. A copy of the code proves it.

That holds for an option that a run keeps as well.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.changed_copy import ChangedCopy, item_with

pytestmark = pytest.mark.behaviour

FIELD = '    greeting: str = option("hello", "WORD", help="Begin the output with this word."{more})\n'


PRINT = 'print(f"greeting: {{{options}.greeting}}")\n'


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> ChangedCopy:
    """A copy of the package with the new option `--greeting`, which `plan` prints."""
    copy = ChangedCopy(tmp_path_factory.mktemp("copy"))
    copy.insert("config/options.py", FIELD.format(more=""), before="    retries: int")
    effect = f"    {PRINT.format(options='session.options')}"
    copy.insert("cli/inspect_command.py", effect, before="    report = session.run_cancelled(work)")
    assert copy.changed == {"config/options.py": 1, "cli/inspect_command.py": 1}
    return copy


def test_the_help_shows_it_with_its_default_and_group(copy: ChangedCopy) -> None:
    section = copy.output("mirror", "--help", "all").partition("\nTransfer:\n")[2].partition("\n\n")[0]
    assert "--greeting WORD" in section
    assert "Begin the output with this word. [default: hello]" in " ".join(section.split())


def test_the_option_is_read_from_all_its_origins(copy: ChangedCopy, tmp_path: Path) -> None:
    (tmp_path / "items.json").write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "c.toml").write_text('greeting = "from the file"\n')
    plan = ["plan", str(tmp_path / "items.json")]
    file = ["--config", str(tmp_path / "c.toml")]
    assert copy.output(*plan).startswith("greeting: hello\n")
    assert copy.output(*plan, *file).startswith("greeting: from the file\n")
    assert copy.output(*plan, *file, STACPULL_GREETING="set").startswith("greeting: set\n")
    assert copy.output(*plan, *file, "--greeting", "flag", STACPULL_GREETING="set").startswith(
        "greeting: flag\n"
    )


def test_an_invalid_value_is_reported_with_its_origin(copy: ChangedCopy, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("\ngreeting = 7\n")
    output = copy.output("plan", "x", "--config", str(tmp_path / "c.toml"))
    assert "c.toml, line 2, greeting must be text in quotes, not 7" in output
    assert "greetin: there is no such option; did you mean greeting?" in copy.output(
        "plan", "x", "--config", written(tmp_path, "greetin = 'x'\n")
    )


def test_python_and_the_reference_have_the_option(copy: ChangedCopy) -> None:
    printed = copy.evaluated(
        "import stacpull; from stacpull.config.options import BY_NAME\n"
        "option = BY_NAME['greeting']\n"
        "print(stacpull.Options(greeting='x').greeting, option.default, option.variables)"
    )
    assert printed == "x hello ('STACPULL_GREETING',)\n"


def with_stored(top: Path, how: str) -> ChangedCopy:
    """Return a copy with the option `--greeting`, which each run prints, and stores as `how` says."""
    copy = ChangedCopy(top)
    copy.insert("config/options.py", FIELD.format(more=f", {how}=True"), before="    retries: int")
    effect = f"        {PRINT.format(options='options')}"
    copy.insert(
        "engine/mirror.py", effect, before="        enter, emit = self.opened.enter_async_context, self.emit"
    )
    assert copy.changed == {"config/options.py": 1, "engine/mirror.py": 1}
    return copy


def test_resume_uses_a_kept_value_again_unless_another_is_given(tmp_path: Path) -> None:
    copy = with_stored(tmp_path / "copy", "kept")
    dest = unfinished(copy, tmp_path)
    stopped = ("--max-failures", "1", "--concurrency", "1")
    assert "greeting: hi\n" in copy.output("resume", dest, *stopped)
    assert "greeting: new\n" in copy.output("resume", dest, "--greeting", "new", *stopped)
    assert "greeting: hello\n" in copy.output("retry", dest)


def test_resume_and_retry_use_a_fixed_value_again_and_refuse_another(tmp_path: Path) -> None:
    copy = with_stored(tmp_path / "copy", "fixed")
    dest = unfinished(copy, tmp_path)
    given = copy.run("resume", dest, "--greeting", "new")
    assert (given.returncode, "`stacpull mirror SOURCE DEST --greeting ...`" in given.stderr) == (2, True)
    assert "greeting: hi\n" in copy.output("resume", dest)
    assert "greeting: hi\n" in copy.output("retry", dest)


def unfinished(copy: ChangedCopy, folder: Path) -> Path:
    """Return a mirror whose run stopped at the first failure: none of its files exists."""
    assets = {f"a{n}": {"href": f"{n}.bin"} for n in range(60)}
    (folder / "item.json").write_text(item_with(assets))
    limits = ("--max-failures", "1", "--concurrency", "1")
    ran = copy.run("mirror", folder / "item.json", folder / "m", "--greeting", "hi", *limits)
    assert "greeting: hi\n" in ran.stdout
    return folder / "m"


def written(folder: Path, text: str) -> str:
    path = folder / "d.toml"
    path.write_text(text)
    return str(path)
