"""A mirror killed over and over at random moments, then completed, and judged by the replica's manifest.

The moments are random in what the replica has sent, not in time: so kills land mid-transfer on slow machines
and fast ones alike. Every fourth life is an early one: it ends within its first half second wherever it is,
in its start, in its recovery. Every other fourth ends when a certain file is first seen (`SIGHTS`). Those are
additional to the requested kills. After each end the mirror is inspected as it is (`inspected_mirror`); when
it nears its end, it is completed, judged as a whole, and a new one is begun.

What was fetched again is taken from the log of the replica: all that was sent for a file but its last body.
A body that was on its way when its receiver died counts as sent.
"""

import random
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from tests.acceptance.command import Running, environment, mirror_of, run, wait_until
from tests.acceptance.inspected_mirror import InspectedMirror
from tests.acceptance.trees import Damage, damage, expected_files
from tests.ran import Ran

from stacpull.engine.network import SLOTS as WORKERS
from stacpull_replicas import MlhubReplica, RequestRecord, run_in_thread

Kind = Literal["KILL", "TERM", "INT", "mix"]
SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "INT": signal.SIGINT}

GRACEFUL_SECONDS = 30.0
"""How long a stop may take after SIGINT or SIGTERM."""

_EARLY_EVERY = 4
_EARLY_SECONDS = 0.5

SIGHTS = {
    "a whole part": ".stacpull/parts/*.whole",
    "an item about to be placed": ".stacpull/parts/*.item.json",
    "a new directory": "bigearthnet/*",
}
"""Chosen points, by what is seen there: of the writer, and of the publisher before and during its renames."""
_BODIES = {("blob", "blob"), ("s3", "object")}


def catches_signals(pid: int) -> bool:
    """Return True if the command handles SIGTERM: before that, Python is starting up (proc(5), SigCgt)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught & 1 << (signal.SIGTERM - 1))


@dataclass
class Kill:
    """One end before the end, and the bytes, of `files_again` files, that it made to be sent again."""

    signal: str
    mid_transfer: bool
    point: str
    """The chosen point at which it came, if it was one."""
    again: int = 0
    files_again: int = 0


@dataclass
class ChaosReport:
    """What became of the mirrors. Bytes of asset bodies, seconds of wall time."""

    items: int
    """Of one mirror."""
    files: int
    bound_per_kill: float
    """Concurrency x mean size of a file: what one kill may cost at most."""
    kills: list[Kill] = field(default_factory=list)
    damage: Damage = field(default_factory=Damage)
    bytes_again: int = 0
    exit_codes: list[int] = field(default_factory=list)
    """Of the runs that completed the mirrors, which were made one after the other."""
    looks: int = 0
    """How many times a mirror was looked at after an end."""
    largest_group: int = 0
    """The most files that were found reserved: the group that was being published."""
    seconds: float = 0.0
    complaints: list[str] = field(default_factory=list)

    @property
    def mid_transfer(self) -> int:
        return sum(kill.mid_transfer for kill in self.kills)

    @property
    def is_right(self) -> bool:
        return not self.complaints


class Bodies:
    """The asset bodies that a replica has sent, by the life of the client that they were sent to."""

    def __init__(self, replica: MlhubReplica) -> None:
        self._replica = replica
        self.sent: dict[str, list[tuple[int, int]]] = defaultdict(list)
        """File name -> (life, bytes) of each body."""
        self.life = 0
        self.in_life = 0

    def drain(self) -> None:
        """Take what has come into the replica's log, and leave the log empty."""
        requests = self._replica.requests
        while requests:
            self._take(requests.popleft())

    def _take(self, record: RequestRecord) -> None:
        if (record.server, record.kind) in _BODIES and record.status in {200, 206}:
            name = record.target.partition("?")[0].rpartition("/")[2]
            self.sent[name].append((self.life, record.sent))
            self.in_life += 1

    def begin_life(self) -> None:
        """What comes from here on goes to the next client."""
        self.drain()
        self.life += 1
        self.in_life = 0

    def again(self) -> dict[int, list[int]]:
        """Sizes by life of the bodies that had to be sent once more in a later one (or in the same)."""
        wasted: dict[int, list[int]] = defaultdict(list)
        for bodies in self.sent.values():
            for life, size in bodies[:-1]:
                wasted[life].append(size)
        return wasted


class Chaos:
    """One experiment: mirrors of one replica, at one destination, one after the other."""

    def __init__(
        self,
        replica: MlhubReplica,
        dest: Path,
        signals: Kind,
        draw: random.Random,
        settle: float,
        say: Callable[[str], None],
    ) -> None:
        self.replica = replica
        self.dest = dest
        self.assets = expected_files(replica.dataset, range(replica.dataset.items))
        bound = WORKERS * sum(file.size for file in self.assets.values()) / len(self.assets)
        self.report = ChaosReport(replica.dataset.items, len(self.assets), bound)
        self._rest = InspectedMirror(dest, self.assets)
        self._signals = signals
        self._draw = draw
        self._settle = settle
        """Seconds after which the replica has noted what it sent to a client that is gone."""
        self._say = say

    def run(self, requested: int, afresh: int) -> ChaosReport:
        """Kill until so many have landed mid-transfer; complete and judge each mirror, of `afresh` kills."""
        started, report = time.monotonic(), self.report
        while (left := requested - report.mid_transfer) > 0:
            if report.exit_codes:
                shutil.rmtree(self.dest)
            before = report.mid_transfer
            self._one_mirror(min(left, afresh))
            if report.mid_transfer == before:
                report.complaints.append(f"only {before} of {requested} kills landed mid-transfer")
                break
        report.largest_group = self._rest.max_reserved
        report.seconds = time.monotonic() - started
        for what, names in asdict(report.damage).items():
            if names:
                report.complaints.append(f"{len(names)} {what}: {', '.join(names[:5])}")
        if report.bytes_again > report.bound_per_kill * len(report.kills):
            report.complaints.append(
                f"{report.bytes_again} bytes were fetched again: more than they may cost"
            )
        return report

    def _one_mirror(self, requested: int) -> None:
        bodies, lives, number = Bodies(self.replica), list[list[Kill]](), len(self.report.exit_codes) + 1
        bodies.drain()
        bodies.sent.clear()
        while (left := requested - sum(kill.mid_transfer for kills in lives for kill in kills)) > 0:
            kills = self._one_life(bodies, left, len(lives) % (2 * _EARLY_EVERY))
            if not kills:
                break
            lives.append(kills)
            self._say(f"mirror {number}, life {len(lives)}: {kills}")
            self._look(f"mirror {number}, after life {len(lives)}")
        bodies.begin_life()
        last = self._complete()
        bodies.drain()
        self._look(f"mirror {number}, complete")
        if last.code:
            self.report.complaints.append(f"the completing run ended with {last.code}: {last.err[-500:]}")
        again = bodies.again()
        for life, kills in enumerate(lives, 1):
            kills[-1].again, kills[-1].files_again = sum(again[life]), len(again[life])
        for what, names in asdict(damage(self.dest, self.assets)).items():
            getattr(self.report.damage, what).extend(names)
        self.report.kills += [kill for kills in lives for kill in kills]
        self.report.bytes_again += sum(map(sum, again.values()))
        self.report.exit_codes.append(last.code)

    def _complete(self) -> Ran:
        return run(self._arguments(), environment(self.replica), timeout=600)

    def _look(self, when: str) -> None:
        self.report.looks += 1
        self.report.complaints += [f"{when}: {complaint}" for complaint in self._rest.complaints()]

    def _arguments(self) -> list[str]:
        return mirror_of(self.replica.base_url, self.dest, "--no-progress")

    def _one_life(self, bodies: Bodies, left: int, turn: int) -> list[Kill]:
        """Start a mirror and end it somewhere; no kills if it came to its own end first."""
        bodies.begin_life()
        kind = self._draw.choice(list(SIGNALS)) if self._signals == "mix" else self._signals
        point = self._draw.choice(list(SIGHTS)) if turn == _EARLY_EVERY - 1 else ""
        moment = self._draw.uniform(0, _EARLY_SECONDS)
        wanted = self._draw.randint(1, max(1, 4 * (len(self.assets) - len(bodies.sent)) // (3 * left + 3)))
        sights = SIGHTS.get(point, "")
        known, begun = set(self.dest.glob(sights)) if point else set(), time.monotonic()

        def is_time() -> bool:
            bodies.drain()
            if not process.is_alive():
                return True
            if point:  # a file is seen that was not there at the start
                return bool(set(self.dest.glob(sights)) - known)
            if turn % _EARLY_EVERY == 1:
                return time.monotonic() - begun > moment
            return bodies.in_life >= wanted

        with Running(self._arguments(), environment(self.replica)) as process:
            wait_until(is_time, 300, 0.01 if point else 0.003)
            bodies.drain()
            if kind != "KILL":
                wait_until(lambda: not process.is_alive() or catches_signals(process.pid), 60, 0.001)
            sent_at = time.monotonic()
            mid_transfer = bodies.in_life > 0 and len(bodies.sent) < len(self.assets)
            struck = process.signal(SIGNALS[kind])
            ran = process.ended()
            stopping = time.monotonic() - sent_at
        time.sleep(self._settle)
        bodies.drain()
        if not struck or ran.code == 0:
            if ran.code != 0:
                self.report.complaints.append(f"a life ended by itself with {ran.code}: {ran.err[-2000:]}")
            self._say(f"a life came to its own end with {ran.code}, {bodies.in_life} bodies")
            return []
        # until Python has found its modules (`site`), SIGINT makes it exit 1
        graceful = {130, -SIGNALS[kind]}
        if kind != "KILL" and ran.code not in graceful and "<frozen site>" not in ran.err:
            self.report.complaints.append(f"SIG{kind} led to exit code {ran.code}: {ran.err[-2000:]}")
        if stopping > GRACEFUL_SECONDS:
            self.report.complaints.append(f"stopping took {stopping:.1f} s after SIG{kind}")
        return [Kill(kind, mid_transfer, point)]


def chaos(
    dest: Path,
    *,
    items: int,
    kills: int,
    afresh: int = 1000,
    signals: Kind = "KILL",
    seed: int = 7,
    latency_ms: float = 5,
    say: Callable[[str], None] = lambda _text: None,
) -> ChaosReport:
    with run_in_thread(MlhubReplica(items=items, seed=seed, latency_ms=latency_ms)) as replica:
        settle = 3 * latency_ms / 1000 + 0.05
        return Chaos(replica, dest, signals, random.Random(seed), settle, say).run(kills, afresh)
