import pytest

from stacpull.events import HostProgress, Progress, Rates, fetched


def at(seconds: float, files: int, **hosts: int) -> Progress:
    return Progress(
        seconds=seconds,
        assets_done=100 + files,
        assets_skipped=100,
        bytes_fetched=sum(hosts.values()),
        hosts=tuple(HostProgress(host, count) for host, count in hosts.items()),
    )


def test_one_sample_gives_no_speed() -> None:
    rates = Rates()
    assert (rates.per_second(fetched), rates.remaining(0, 5)) == (0, None)
    rates.update(at(1.0, 5, a=3))
    assert (rates.per_second(fetched), rates.remaining(0, 5)) == (0, None)


def test_rates_are_those_of_the_last_ten_seconds() -> None:
    rates = Rates()
    for second in range(60):
        rates.update(at(second, 2 * second, a=10 * second, b=1000 if second > 10 else 0))
    assert rates.per_second(fetched) == pytest.approx(2)
    assert rates.per_second(lambda progress: progress.bytes_fetched) == pytest.approx(10)
    assert rates.remaining(100, 120) == pytest.approx(10)


@pytest.mark.parametrize(
    ("files", "known_from"),
    [
        (lambda second: second > 0, 99),  # one file
        (lambda second: 5 * second, 10),
        (lambda second: max(0, second - 19), 29),  # the source was read for 19 s
    ],
)
def test_the_remaining_time_needs_ten_files_and_ten_seconds(files, known_from: int) -> None:
    rates = Rates()
    for second in range(31):
        rates.update(at(second, files(second)))
        assert (rates.remaining(0, 10) is None) is (second < known_from)


def test_an_item_that_was_read_ends_the_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Rates()
    for now in (1, 9):
        monkeypatch.setattr("time.monotonic", lambda now=now: now)
        rates.update(Progress(items_seen=now, seconds=now))
        assert rates.silence() == 0
