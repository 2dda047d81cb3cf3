"""`--concurrency auto` against the best fixed number, on one simulated link of each kind of the benchmark."""

import pytest
from scripts.benchmarks.adapt_links import CHANGES, END, ROWS, Host, Row, Simulation, compare

KINDS = {
    "50 ms, nothing else", "200 ms, 250/s", "50 ms, 10 MB/s, 100 KB", "200 ms, 40 MB/s, 8 MB",
    "50 ms, 4 MB/s a connection, 20 KB and 4 MB mixed", "50 ms, slower by 20 % a request",
    "10 ms, 8 served in 2 to 38 ms", "50 ms, 10 % break", "10 ms, breaks down past 8",
    "50 ms, 429 past 6 at once", "50 ms, 429 past 100/s",
}  # fmt: skip


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in KINDS], ids=lambda row: row.name)
def test_auto_is_as_good_as_the_best_fixed_number(row: Row) -> None:
    _, soon, steady = compare(Simulation(row.host).run(END), 5, 10, END)
    assert soon >= row.soon
    assert steady >= row.steady


@pytest.mark.parametrize(("name", "before", "after"), CHANGES, ids=[row[0] for row in CHANGES])
def test_a_changed_link_is_detected_in_ten_seconds(name: str, before: Host, after: Host) -> None:
    auto = Simulation(before, change=(20.0, after)).run(50)
    assert min(compare(auto, 30, 35, 50)[1:]) >= 0.9, name
