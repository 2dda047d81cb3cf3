from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.config import toml
from stacpull.config.options import BY_NAME, OPTIONS
from stacpull.errors import UsageError


def write(folder: Path, text: str) -> Path:
    file = folder / "some.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("written", "interval"),
    [
        ("2018-02-01", "2018-02-01"),
        ("2018-02-01T06:00:00Z", "2018-02-01T06:00:00+00:00"),
        ("2018-02-01 06:00:00", "2018-02-01T06:00:00"),
    ],
)
def test_a_date_without_quotes_is_the_same_as_its_text(tmp_path: Path, written: str, interval: str) -> None:
    config = toml.read_config_file(write(tmp_path, f"datetime = {written}\n"))
    assert BY_NAME["datetime"].read(config.options["datetime"].value) == BY_NAME["datetime"].read(interval)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("destination = 'd'", "some.toml, line 1, destination: there is no such option."),
        ("AWS-Region = 'r'", "some.toml, line 1, AWS-Region: there is no such option."),
        (
            "dest-profle = 'p'",
            "some.toml, line 1, dest-profle: there is no such option; did you mean dest-profile?",
        ),
        ("no-push-down = false", "some.toml, line 1, no-push-down: there is no such option; did you mean"),
        (
            "push-down = true\nno_push_down = true",
            "some.toml, line 2, no_push_down: this option is set twice",
        ),
        ("config = 'x'", "some.toml, line 1, config: there is no such option: a config file cannot name"),
        ("collections = 'c'", "some.toml, line 1, collections: there is no such option: use --collection"),
        ("processes = 2", "some.toml, line 1, processes: there is no such option: use --dask N"),
        ("yes = true", "some.toml, line 1, yes: there is no such option: use --prune, which lists"),
        ("retries = 1\nper-host = 2\nper_host = 3", "some.toml, line 3, per_host: this option is set twice"),
        ('layout = """\na\nb = 1"""\nbb = 1', "some.toml, line 4, bb: there is no such option"),
        ('label = [\n ["a"],\n ["b"]\n]\nbb = 1', "some.toml, line 5, bb: there is no such option"),
        ('label = "a" # """\nbb = 1', "some.toml, line 2, bb: there is no such option"),
        ("\n\n[network]\n", "some.toml, line 3, network: there is no such option; options do not belong"),
        ("[credentials]\nkey = 'x'", "some.toml, line 2, key: there is no such key: use profile, query."),
        ("[credentials]\nquery = 'x'", "some.toml, line 2, query: must be a table"),
        (
            "[credentials]\n\n# c\nqueri = 'x'",
            "some.toml, line 4, queri: there is no such key; did you mean query?",
        ),
        ("a = x", "some.toml, a is not valid TOML: Invalid value (at line 1, column 5); text needs quotes."),
        ("a = 1\nb = = 2", "some.toml, b is not valid TOML: Invalid value (at line 2, column 5)"),
        ("a = 1\na = 2", "some.toml, a is not valid TOML: Cannot overwrite a value (at line 2"),
    ],
)
def test_mistakes_are_reported_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        toml.read_config_file(write(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path}/{message}")
    assert str(caught.value)[-1] in ".?"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        toml.read_config_file(tmp_path / "none.toml")
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        toml.read_config_file(tmp_path / "x.toml")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[credentials]\nquery = { key = "k" }', 2),
        ('credentials = { query = { key = "k" } }', 1),
        ('[credentials.query]\nkey = "k"', 2),
        ('[credentials]\nprofile = "p"\n\n[credentials.query]\n# c\nkey = "k"', 6),
        ('retries = 1\ncredentials.query.key = "k"', 2),
    ],
)
def test_notations_of_query_parameters(tmp_path: Path, text: str, line: int) -> None:
    file = write(tmp_path, text)
    assert toml.read_config_file(file).query == {"key": ("k", f"{file}, line {line}, key")}


@pytest.mark.parametrize("name", ["push-down", "source-links", "seasonal_snow"])
def test_an_option_may_have_the_name_of_its_negative_flag(tmp_path: Path, name: str) -> None:
    written = f"no_{name}" if "_" in name else f"no-{name}"
    options = toml.read_config_file(write(tmp_path, f"{written} = true")).options
    assert {kebab: setting.value for kebab, setting in options.items()} == {name.replace("_", "-"): False}


@pytest.mark.parametrize("text", ['credentials = "p"', '[credentials]\nprofile = "p"'])
def test_the_profile_is_the_option_credentials(tmp_path: Path, text: str) -> None:
    assert toml.read_config_file(write(tmp_path, text)).options["credentials"].value == "p"


NOISE = st.sampled_from(["", "# a comment = 1", "   ", "\t# [table]"])
VALUES = st.sampled_from(["1", '"a"', '["a",\n\n  "b"]', "'''\nretries = 1\n'''", "true  # why"])


@given(st.lists(st.tuples(st.lists(NOISE, max_size=3), VALUES), min_size=1, max_size=8))
def test_lines_are_those_of_the_file(tmp_path_factory, parts) -> None:
    names = [option.name for option in OPTIONS][: len(parts)]
    text, lines = "", {}
    for name, (noise, value) in zip(names, parts, strict=True):
        text += "".join(f"{line}\n" for line in noise)
        lines[name] = text.count("\n") + 1
        text += f"{name} = {value}\n"
    file = write(tmp_path_factory.getbasetemp(), text)
    found = toml.read_config_file(file).options
    assert {name: setting.where for name, setting in found.items()} == {
        name: f"{file}, line {line}, {name}" for name, line in lines.items()
    }
