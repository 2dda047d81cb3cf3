"""Run the tests in several processes, which are forked once the tests have been collected: `--workers N`.

Each worker has what was imported and collected, so both are done once. It gets an equal share of the tests,
in their order, so that tests with a common fixture stay together. One that has none left takes the second
half of what remains of the longest share. A worker knows the test after the one it runs: pytest asks for it.

A test whose worker ends has failed, and another worker takes the place of that one. Warnings of tests are not
shown at the end: they are errors here.
"""

from __future__ import annotations

import atexit
import gc
import os
import random
import sys
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NoReturn

import pytest

_number = 0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--workers", type=int, default=0, metavar="N", help="run the tests in N forked processes"
    )


def pytest_configure(config: pytest.Config) -> None:
    count: int = config.getoption("workers")
    if count > 1:
        config.pluginmanager.register(ForkedWorkers(count))


def worker_number() -> int:
    """Return the number of this worker, from 0; 0 also without workers."""
    return _number


class _Worker:
    """A worker as the process that forked it sees it.

    Args:
        number: Its number, from 0.
        share: The tests that are left for it.
    """

    def __init__(self, number: int, share: list[pytest.Item]) -> None:
        self.number = number
        self.share = share
        self.running: list[pytest.Item] = []
        """The tests that were handed to it and have not ended: the one it runs and the next."""
        self.connection: Connection
        self.pid: int

    def end(self) -> int:
        """Wait for its end, and return its exit code, negative for the signal that ended it."""
        self.connection.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class ForkedWorkers:
    """The plugin: it forks workers, hands tests to them and passes their reports on.

    Args:
        count: How many there shall be.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._workers: list[_Worker] = []
        self._places: dict[pytest.Item, int] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run the tests; leave it to pytest if there are none to run."""
        items = session.items
        if session.config.option.collectonly or session.testsfailed or not items:
            return None
        self._places = {item: place for place, item in enumerate(items)}
        session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        gc.collect()
        gc.freeze()  # what workers share stays shared
        bounds = [len(items) * number // self._count for number in range(self._count + 1)]
        for number in range(self._count):
            worker = _Worker(number, items[bounds[number] : bounds[number + 1]])
            self._workers.append(worker)
        for worker in self._workers:
            self._fork(session, worker)
        try:
            self._serve(session)
        finally:
            codes = [worker.end() for worker in self._workers]
        if any(codes):  # every test has been reported, with the end of its fixtures
            print(f"\nThe workers ended with {codes} after their last tests.", file=sys.stderr)  # noqa: T201
        return True

    def _fork(self, session: pytest.Session, worker: _Worker) -> None:
        worker.connection, theirs = Pipe()
        worker.pid = os.fork()
        if worker.pid == 0:
            for other in self._workers:
                if hasattr(other, "connection"):
                    other.connection.close()
            _run_worker(session, worker.number, theirs)
        theirs.close()
        self._hand(worker)
        self._hand(worker)

    def _hand(self, worker: _Worker) -> None:
        """Hand a worker another test, or tell it that there are no more."""
        if not worker.share:
            longest = max(self._workers, key=lambda other: len(other.share))
            half = len(longest.share) // 2
            worker.share, longest.share = longest.share[half:], longest.share[:half]
        place = None
        if worker.share:
            item = worker.share.pop(0)
            worker.running.append(item)
            place = self._places[item]
        with suppress(OSError):  # it has ended, which reading from it shows
            worker.connection.send(place)

    def _serve(self, session: pytest.Session) -> None:
        """Receive reports until all tests have ended."""
        while connections := {worker.connection: worker for worker in self._workers if worker.running}:
            for ready in wait(connections):
                worker = connections[ready]
                try:
                    reports = worker.connection.recv()
                except (EOFError, OSError):
                    self._replace(session, worker)
                    continue
                self._hand(worker)
                self._pass_on(session, worker.running.pop(0), reports)
                if session.shouldfail:
                    raise session.Failed(session.shouldfail)
                if session.shouldstop:
                    raise session.Interrupted(session.shouldstop)

    def _replace(self, session: pytest.Session, worker: _Worker) -> None:
        """Fork another worker in the place of one that has ended; the test that it ran has failed."""
        code = worker.end()
        item, *others = worker.running
        worker.running, worker.share = [], others + worker.share
        reason = f"the worker ended with {code} while it ran this test"
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", reason, "call")
        self._pass_on(session, item, [_as_data(session.config, report)])
        self._fork(session, worker)

    def _pass_on(self, session: pytest.Session, item: pytest.Item, reports: list[dict[str, Any]]) -> None:
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for data in reports:
            hook = session.config.hook
            report = hook.pytest_report_from_serializable(config=session.config, data=data)
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _as_data(config: pytest.Config, report: pytest.TestReport) -> dict[str, Any]:
    data: dict[str, Any] = config.hook.pytest_report_to_serializable(config=config, report=report)
    return data


class _Reports:
    """The plugin of a worker that keeps the reports of a test until it has ended."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.kept: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.kept.append(_as_data(self._config, report))


class _Silent:
    """Stands for the plugin that prints the reports, for those who look for its terminal."""

    def __init__(self, terminal: object) -> None:
        self._tw = terminal


def _run_worker(session: pytest.Session, number: int, connection: Connection) -> NoReturn:
    code = 1
    try:
        _begin(session.config, number)
        try:
            _run_tests(session, connection)
        finally:
            session._setupstate.teardown_exact(None)
            session.config._ensure_unconfigure()
        code = 0
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        pass  # the process that forked it says so
    except BaseException:  # noqa: BLE001 - nothing of the worker may go on as the process that forked it
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _begin(config: pytest.Config, number: int) -> None:
    """Have this process share neither directory nor captured output with other workers."""
    global _number  # noqa: PLW0603 - it is that of the process
    _number = number
    random.seed()
    plugins = config.pluginmanager
    plugins.register(_Silent(plugins.unregister(name="terminalreporter")._tw), "terminalreporter")
    capture = plugins.getplugin("capturemanager")
    capture.stop_global_capturing()
    capture.start_global_capturing()
    capture.suspend_global_capture()
    factory = config._tmp_path_factory  # type: ignore[attr-defined]
    factory._basetemp = factory.getbasetemp() / f"worker-{number}-{os.getpid()}"
    factory._basetemp.mkdir(0o700)


def _run_tests(session: pytest.Session, connection: Connection) -> None:
    reports = _Reports(session.config)
    session.config.pluginmanager.register(reports)
    place = connection.recv()
    while place is not None and not session.shouldfail:  # the process that forked it stops as well
        following = connection.recv()
        item, nextitem = session.items[place], None if following is None else session.items[following]
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
        connection.send(reports.kept)
        reports.kept = []
        place = following
