"""Forward packets between two network namespaces with a delay, for kernels without netem. Needs root.

    python -I -S relay.py NAMESPACE NAMESPACE SECONDS

Makes a TUN device named `bench` in both namespaces (names as in `ip netns`), prints `ready`, and forwards IP
packets in both directions, each delayed by SECONDS.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x1, 0x1000  # linux/if_tun.h
_PACKET = 65536
_ROOM = 20_000
"""The capacity of the queue of each direction, in packets; more packets are dropped."""


class Wire:
    """One direction: reads packets from `entry` and writes them to `outlet` after `delay` seconds."""

    def __init__(self, entry: int, outlet: int, delay: float) -> None:
        self.entry = entry
        self._outlet = outlet
        self._delay = delay
        self._queue: deque[tuple[float, bytes]] = deque()

    @property
    def due(self) -> float:
        """When the next packet leaves (time.monotonic); infinite if the queue is empty."""
        return self._queue[0][0] if self._queue else float("inf")

    def take(self) -> None:
        """Read all packets that have arrived."""
        while True:
            try:
                packet = os.read(self.entry, _PACKET)
            except BlockingIOError:
                return
            if len(self._queue) < _ROOM:
                self._queue.append((time.monotonic() + self._delay, packet))

    def give(self) -> None:
        """Write all packets whose delay is over."""
        now = time.monotonic()
        while self._queue and self._queue[0][0] <= now:
            try:
                os.write(self._outlet, self._queue[0][1])
            except BlockingIOError:
                return
            except OSError:  # the device is not up yet: drop the packet
                pass
            self._queue.popleft()


def tun(namespace: str) -> int:
    """Create the device in a namespace and return its non-blocking file descriptor."""
    libc = ctypes.CDLL(None, use_errno=True)
    place = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if libc.setns(place, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")
    os.close(place)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"bench", _IFF_TUN | _IFF_NO_PI))
    return device


def main() -> None:
    """Forward packets until the process is killed."""
    first, second = tun(sys.argv[1]), tun(sys.argv[2])
    delay = float(sys.argv[3])
    wires = Wire(first, second, delay), Wire(second, first, delay)
    print("ready", flush=True)
    while True:
        left = min(wire.due for wire in wires) - time.monotonic()
        select.select([wire.entry for wire in wires], [], [], None if left == float("inf") else max(0, left))
        for wire in wires:
            wire.take()
            wire.give()


if __name__ == "__main__":
    main()
