"""A config file with SOURCE and DEST is a complete job."""

import json
import time
from pathlib import Path

import pytest
from tests.acceptance.command import stacpull
from tests.changed_copy import item_with
from tests.items import feature
from tests.net.memory import Answer
from tests.net.wire_server import WireServer


def test_source_and_dest_stand_in_a_config_file(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_text("12345")
    (tmp_path / "item.json").write_text(item_with({"a": {"href": "a.bin"}}))
    job = 'source = "item.json"\ndest = "m"\nchecksum = "none"\nlabel = []\n'
    (tmp_path / "nightly.toml").write_text(job)
    missing = stacpull("mirror", "item.json", "--config", "bigearthnet", cwd=tmp_path)
    assert (missing.code, "Missing argument 'DEST'." in missing.err) == (2, True)
    ran = stacpull("mirror", "--config", "nightly.toml", "--json", cwd=tmp_path)
    assert ran.report["assets_done"] == 1
    assert (tmp_path / "m" / "catalog.json").is_file()
    assert stacpull("plan", "--config", "nightly.toml", cwd=tmp_path).out.count("already in m") == 1
    for name in ("resume", "status", "failures", "report", "verify"):
        assert stacpull(name, "--config", "nightly.toml", cwd=tmp_path).code == 0
    ran = stacpull("mirror", "other", "--config", "nightly.toml", cwd=tmp_path)
    assert ran.code == 2
    assert "other would replace source of nightly.toml: give both SOURCE and DEST, or neither." in ran.err
    assert stacpull("mirror", "item.json", "other", "--config", "nightly.toml", cwd=tmp_path).code == 0
    assert (tmp_path / "other" / "catalog.json").is_file()
    (tmp_path / "report.toml").write_text('dest = "m"\noutput = "m/catalog.json"\n')
    report = ("report", "--config", "report.toml")
    assert (stacpull(*report, cwd=tmp_path).code, stacpull(*report, "-o", "r", cwd=tmp_path).code) == (2, 0)
    for line, problem in {
        'header = ["X: ${UNSET}"]': "The header X needs the environment variable UNSET",
        'credentials = "planet"': "The credentials planet are not complete: ",
    }.items():
        (tmp_path / "nightly.toml").write_text(f"{job}{line}\n")
        assert stacpull("verify", "--config", "nightly.toml", cwd=tmp_path).code == 0
        assert stacpull("mirror", "--config", "nightly.toml", cwd=tmp_path).code == 3
        assert f"exit 3: {problem}" in stacpull("status", "m", cwd=tmp_path).out


@pytest.mark.parametrize(
    "line",
    [
        *("filter = 'a <'", "layout = '{nope'", "where = ['nope']", "retries = 'x'", "source = 3"),
        *("credentials.query.key = 3", "sample = 3"),
    ],
)
def test_a_bad_value_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "c.toml").write_text(f"max-items = 2\n{line}\n")
    ran = stacpull("mirror", "item.json", "m", "--config", "c.toml", cwd=tmp_path)
    assert (ran.code, f"c.toml, line 2, {line.partition(' ')[0].rpartition('.')[2]}" in ran.err) == (2, True)
    assert not (tmp_path / "m").exists()


def test_a_bad_value_of_the_environment_is_named_with_its_variable(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("layout = '{item}'\n")
    ran = stacpull("plan", "item.json", "--config", "c.toml", cwd=tmp_path, STACPULL_LAYOUT="{nope")
    assert ran.err.endswith(" --layout is set by STACPULL_LAYOUT.\n"), ran.err


def test_a_trace_has_keys_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("method = 'mode'\nresolution = 'x'\n")
    ran = stacpull("trace", "c", "-o", "t", "--config", "c.toml", cwd=tmp_path)
    assert (ran.code, "c.toml, line 2, resolution must be " in ran.err) == (2, True)


def test_limits_that_verify_has_no_option_for_apply_to_a_repair(tmp_path: Path) -> None:
    sent = list[float]()

    def answer(_: object) -> Answer:
        sent.append(time.monotonic())
        return Answer(body=b"data")

    (tmp_path / "c.toml").write_text("requests-per-second = 5\nallow-private-hosts = true\nrepair = true\n")
    with WireServer({f"/{name}": answer for name in "abcde"}) as server:
        hrefs = {name: server.url(f"/{name}") for name in "abcde"}
        (tmp_path / "items.ndjson").write_text(json.dumps(feature("i", hrefs)))
        assert stacpull("mirror", "items.ndjson", "m", "--allow-private-hosts", cwd=tmp_path).code == 0
        for name in "abcde":
            (tmp_path / f"m/c/i/{name}").unlink()
        sent.clear()
        assert stacpull("verify", "m", "--config", "c.toml", cwd=tmp_path).code == 0
    assert len(sent) == 5
    assert sent[-1] - sent[0] > 0.7
