"""Text of servers is shown, not obeyed: terminals act on control characters."""

import json
from collections.abc import Callable

import pytest
from tests.cli.conftest import Library, mirror_report
from tests.ran import Ran

from stacpull.cli import main, printing
from stacpull.cli.printing import Verbosity, duration, rate, size
from stacpull.errors import SourceError, quantity

HOSTILE = "a\x1b]0;owned\x07b\r\nstacpull: all is well\x9b2Jc\x7fd\u202ee\u2066f\u2028g"
OBEYED = set("\x1b\x07\r\x9b\x7f\u202e\u2066\u2028")


def test_json_is_one_line_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    printing.json_line({HOSTILE: [HOSTILE, "Ærø 😀", "d\udcff"]})
    out = capsys.readouterr().out
    assert json.loads(out) == {HOSTILE: [HOSTILE, "Ærø 😀", "d\ufffd"]}
    assert not OBEYED & set(out)
    assert "Ærø 😀" in out
    assert out.count("\n") == 1


@pytest.mark.parametrize("verbose", [0, 2])
def test_error_messages_reach_the_terminal_without_control_characters(capsys, monkeypatch, verbose):
    def fails(*_arguments: object, **_options: object) -> None:
        raise SourceError(f"The host said {HOSTILE}.")

    monkeypatch.setattr(main.cli, "main", fails)
    monkeypatch.setattr(Verbosity, "verbose", verbose)
    assert main.execute(["status"]) == 4
    message = capsys.readouterr().err
    assert message.splitlines()[-1].startswith("stacpull: The host said a")
    assert ("Traceback" in message) is (verbose == 2)
    assert not OBEYED & set(message)
    assert verbose or message.count("\n") == 1


@pytest.mark.parametrize("options", [(), ("--json",), ("--json", "--no-progress"), ("-v",)])
@pytest.mark.parametrize("command", [("mirror", "http://s", "d"), ("resume", "d"), ("retry", "d")])
def test_text_of_a_source_reaches_the_terminal_without_escape_sequences(
    library: Library, stacpull_command: Callable[..., Ran], command: tuple[str, ...], options: tuple[str, ...]
) -> None:
    library.answers[command[0]] = mirror_report(state="interrupted", reason=HOSTILE)
    ran = stacpull_command(*command, *options)
    assert not set(ran.out + ran.err) & OBEYED
    assert "a\ufffd]0;owned\ufffdb\ufffd\ufffdstacpull: all is well" in (
        ran.err if "--json" in options else ran.out
    )


def test_numbers_are_shown_with_their_units() -> None:
    sizes = {0: "0 B", 999: "999 B", 999_949: "999.9 kB", 999_950: "1.0 MB", 1e18: "1.0 EB"}
    assert {amount: size(amount) for amount in sizes} == sizes
    times = {0: "0.0 s", 9.94: "9.9 s", 9.96: "10 s", 59.4: "59 s", 59.6: "1 min 0 s", 7500: "2 h 5 min"}
    assert {seconds: duration(seconds) for seconds in times} == times
    assert duration(1.6e6) == "18 d 12 h"
    assert (rate(2_400_000, 2), rate(5, 0)) == ("1.2 MB/s", "- B/s")
    assert (quantity(1, "item"), quantity(7_674_238, "file")) == ("1 item", "7,674,238 files")
