"""A mirror killed over and over at random moments, then completed, and judged by the replica's manifest.

The moments are random in what the replica has sent, not in time: so kills land mid-transfer on slow machines
and fast ones alike. Every fourth life is an early one: it ends within its first half second wherever it is,
in its start, in its recovery. Every other fourth ends at a chosen point: when a certain file is first seen
(`SIGHTS`). Those are additional to the requested kills. After each end the mirror is inspected as it
is (`inspected_mirror`); when so many kills have landed that it nears its end, it is completed, judged as a
whole, and a new one is begun.

What was fetched again is taken from the log of the replica: all that was sent for a file but its last body.
A body that was on its way when its receiver died counts as sent.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tests.acceptance.command import Running, environment, mirror_of, run, wait_until
from tests.acceptance.inspected_mirror import InspectedMirror
from tests.acceptance.trees import Damage, damage, expected_files

from stacpull.engine.network import SLOTS as WORKERS
from stacpull_replicas import MlhubReplica, RequestRecord, run_in_thread

Kind = Literal["KILL", "TERM", "INT", "mix"]
SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "INT": signal.SIGINT}

GRACEFUL_SECONDS = 10.0
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


@dataclass(frozen=True)
class Kill:
    """One end before the end. `again`: the bytes, of `files_again` files, that it made to be sent again."""

    signal: str
    after_bodies: int
    mid_transfer: bool
    exit_code: int
    stopping_seconds: float
    output: str = ""
    """The last it wrote to standard error."""
    again: int = 0
    files_again: int = 0
    point: str = ""
    """The chosen point at which it came, if it was one."""


@dataclass(frozen=True)
class ChaosReport:
    """What became of the mirrors. Bytes of asset bodies, seconds of wall time."""

    mirrors: int
    """How many were made, one after the other, and each completed."""
    items: int
    """Of one mirror."""
    files: int
    kills: list[Kill]
    damage: Damage
    bytes_again: int
    bound_per_kill: float
    """Concurrency x mean size of a file: what one kill may cost at most."""
    exit_codes: list[int]
    """Of the runs that completed the mirrors."""
    looks: int
    """How many times a mirror was looked at after an end."""
    largest_group: int
    """The most files that were found reserved: the group that was being published."""
    seconds: float
    complaints: list[str] = field(default_factory=list)

    @property
    def mid_transfer(self) -> int:
        """Kills that landed while assets were being transferred."""
        return sum(kill.mid_transfer for kill in self.kills)

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong."""
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


@dataclass
class Chaos:
    """One experiment: mirrors of one replica, at one destination, one after the other."""

    replica: MlhubReplica
    dest: Path
    requested: int
    """Kills that must land mid-transfer."""
    afresh: int
    """After how many of those a mirror is completed, and a new one begun."""
    signals: Kind
    draw: random.Random
    settle: float
    """Seconds after which the replica has noted what it sent to a client that is gone."""
    say: Callable[[str], None] = lambda _text: None
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.assets = expected_files(self.replica.dataset, range(self.replica.dataset.items))
        self.rest = InspectedMirror(self.dest, self.assets)
        self.looks = 0

    def run(self) -> ChaosReport:
        """Kill until the requested number has landed mid-transfer; complete and judge each mirror."""
        started = time.monotonic()
        reports: list[_Round] = []
        while (left := self.requested - sum(one.mid_transfer for one in reports)) > 0:
            if reports:
                shutil.rmtree(self.dest)
            reports.append(self._round(min(left, self.afresh), len(reports) + 1))
            if reports[-1].mid_transfer == 0:
                break
        return self._report(reports, time.monotonic() - started)

    def _round(self, requested: int, number: int) -> _Round:
        """Make one mirror."""
        bodies, kills = Bodies(self.replica), list[Kill]()
        bodies.drain()
        bodies.sent.clear()
        while left := requested - sum(kill.mid_transfer for kill in kills):
            kill = self._one_life(bodies, left, len(kills) % (2 * _EARLY_EVERY))
            if kill is None:
                break
            kills.append(kill)
            self.say(_sentence(kill, len(kills), number))
            self._look(f"mirror {number}, after kill {len(kills)}")
        bodies.begin_life()
        last = run(self._arguments(), environment(self.replica), timeout=600)
        bodies.drain()
        self._look(f"mirror {number}, complete")
        again = bodies.again()
        known = [
            replace(kill, again=sum(again[life]), files_again=len(again[life]))
            for life, kill in enumerate(kills, 1)
        ]
        found = damage(self.dest, self.assets)
        return _Round(known, found, sum(map(sum, again.values())), last.code, last.err[-500:])

    def _look(self, when: str) -> None:
        self.looks += 1
        self.complaints += [f"{when}: {complaint}" for complaint in self.rest.complaints()]

    def _arguments(self) -> list[str]:
        return mirror_of(self.replica.base_url, self.dest, "--no-progress")

    def _one_life(self, bodies: Bodies, left: int, turn: int) -> Kill | None:
        """Start a mirror and end it somewhere; None if it came to its own end first."""
        bodies.begin_life()
        kind = self.draw.choice(list(SIGNALS)) if self.signals == "mix" else self.signals
        point = self.draw.choice(list(SIGHTS)) if turn == _EARLY_EVERY - 1 else ""
        moment = self.draw.uniform(0, _EARLY_SECONDS)
        wanted = self.draw.randint(1, max(1, 4 * (len(self.assets) - len(bodies.sent)) // (3 * left + 3)))
        with Running(self._arguments(), environment(self.replica)) as process:
            if point:
                self._wait_for(process, SIGHTS[point])
            else:
                self._wait(process, bodies, None if turn % _EARLY_EVERY == 1 else wanted, moment)
            bodies.drain()
            if kind != "KILL":
                wait_until(lambda: not process.is_alive() or catches_signals(process.pid), 60, 0.001)
            sent_at = time.monotonic()
            mid_transfer = bodies.in_life > 0 and len(bodies.sent) < len(self.assets)
            struck = process.signal(SIGNALS[kind])
            ran = process.ended()
            stopping = time.monotonic() - sent_at
        time.sleep(self.settle)
        bodies.drain()
        output = ran.err[-2000:]
        if not struck or ran.code == 0:
            if ran.code != 0:
                self.complaints.append(f"a life ended by itself with {ran.code}: {output}")
            self.say(f"a life came to its own end with {ran.code}, {bodies.in_life} bodies")
            return None
        return Kill(kind, bodies.in_life, mid_transfer, ran.code, stopping, output=output, point=point)

    def _wait_for(self, process: Running, pattern: str) -> None:
        """Wait until a file is seen that was not there at the start, or the process has ended."""
        known = set(self.dest.glob(pattern))
        wait_until(lambda: not process.is_alive() or set(self.dest.glob(pattern)) - known, 300, 0.01)

    @staticmethod
    def _wait(process: Running, bodies: Bodies, wanted: int | None, moment: float) -> None:
        """Wait until `wanted` bodies were sent to the process, or (None) for `moment` seconds."""
        begun = time.monotonic()

        def is_time() -> bool:
            bodies.drain()
            if not process.is_alive():
                return True
            return time.monotonic() - begun > moment if wanted is None else bodies.in_life >= wanted

        wait_until(is_time, timeout=300)

    def _report(self, rounds: list[_Round], seconds: float) -> ChaosReport:
        kills = [kill for one in rounds for kill in one.kills]
        bound = WORKERS * sum(file.size for file in self.assets.values()) / len(self.assets)
        total = sum(one.bytes_again for one in rounds)
        wrong = Damage(
            lost=[name for one in rounds for name in one.damage.lost],
            altered=[name for one in rounds for name in one.damage.altered],
            orphaned=[name for one in rounds for name in one.damage.orphaned],
        )
        complaints = [*self.complaints, *_complaints(self.requested, kills, wrong, total, bound)]
        complaints += [
            f"the completing run ended with {one.code}: {one.output}" for one in rounds if one.code
        ]
        return ChaosReport(
            mirrors=len(rounds),
            items=self.replica.dataset.items,
            files=len(self.assets),
            kills=kills,
            damage=wrong,
            bytes_again=total,
            bound_per_kill=bound,
            exit_codes=[one.code for one in rounds],
            looks=self.looks,
            largest_group=self.rest.most_reserved,
            seconds=seconds,
            complaints=complaints,
        )


@dataclass(frozen=True)
class _Round:
    """What became of one mirror."""

    kills: list[Kill]
    damage: Damage
    bytes_again: int
    code: int
    output: str

    @property
    def mid_transfer(self) -> int:
        return sum(kill.mid_transfer for kill in self.kills)


def _complaints(requested: int, kills: list[Kill], wrong: Damage, again: int, bound: float) -> Iterator[str]:
    landed = sum(kill.mid_transfer for kill in kills)
    if landed < requested:
        yield f"only {landed} of {requested} kills landed mid-transfer before the mirror was complete"
    for what in ("lost", "altered", "orphaned"):
        if names := getattr(wrong, what):
            yield f"{len(names)} {what}: {', '.join(names[:5])}"
    if again > bound * len(kills):
        yield f"{again} bytes were fetched again, more than {len(kills)} kills may cost"
    for kill in kills:
        if kill.signal != "KILL" and not _is_graceful(kill):
            yield f"SIG{kill.signal} led to exit code {kill.exit_code}: {kill.output}"
        if kill.stopping_seconds > GRACEFUL_SECONDS:
            yield f"stopping took {kill.stopping_seconds:.1f} s after SIG{kill.signal}"


def _is_graceful(kill: Kill) -> bool:
    """Whether it ended as it should. Until Python has found its modules (`site`), SIGINT makes it exit 1."""
    return kill.exit_code in {130, -SIGNALS[kill.signal]} or "<frozen site>" in kill.output


def _sentence(kill: Kill, number: int, mirror: int) -> str:
    where = "mid-transfer" if kill.mid_transfer else "before the first transfer or after the last"
    at = f", at {kill.point}" if kill.point else ""
    bodies = f"after {kill.after_bodies} bodies of this life"
    return f"mirror {mirror}, kill {number}: SIG{kill.signal} {where}{at}, {bodies}"


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
    """Run the whole experiment on a replica of its own."""
    with run_in_thread(MlhubReplica(items=items, seed=seed, latency_ms=latency_ms)) as replica:
        settle = 3 * latency_ms / 1000 + 0.05
        draw = random.Random(seed)
        return Chaos(replica, dest, kills, afresh, signals, draw, settle, say).run()
