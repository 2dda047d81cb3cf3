"""What failures mean for the host: a pause, a lower limit, or that it is given up.

    answering ──throttled──────────────────▶ pause of 1, 2, 4 … 60 s (or as the host asked), half the limit
        │     ──some requests unanswered───▶ overloaded: half the limit, these failures are free
        │     ──20 in a row unanswered─────▶ silent: as if throttled, these failures are free
        │                                       └──after the patience──▶ given up: DOWN, a try per minute
        └◀── an answer ends this; of overload it takes one failure off

These are pure functions. They take the host's state, a failure and the time, and return a `GateAction`, which
`net.gate` carries out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from stacpull.models import Failure, FailureKind

MAX_UNANSWERED = 20
"""Unanswered requests in a row after which a host counts as silent."""

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_RECENT = 30.0
"""Seconds after an answer in which an unanswered request counts as overload."""
_OVERLOADED = 3
"""Unanswered minus answered requests from which the limit is lowered."""


class HostState(NamedTuple):
    """The failures of a host."""

    pauses: int = 0
    """Pauses in a row without an answer in between."""
    unanswered: int = 0
    """Unanswered requests in a row."""
    silent_since: float = 0.0
    """The time of the first of them."""
    overload: int = 0
    """Unanswered minus answered requests, while the host answers some of them."""
    lowered_at: float = -math.inf
    """The time when the limit was lowered because of overload."""
    given_up: Failure | None = None
    """Why the host is given up."""


NO_FAILURES = HostState()


class Unanswered(msgspec.Struct, frozen=True):
    """A request without an answer, and what the gate knows at that time. Times are those of one clock."""

    host: str
    failure: Failure
    sent_at: float
    now: float
    answered_at: float
    """When the last answered request was sent."""
    in_use: int
    """Permits in use, with that of the request."""
    is_closed: bool
    """True if the gate is closed."""


class GateAction(NamedTuple):
    """What the gate does."""

    state: HostState
    """The next state of the host."""
    failure: Failure | None = None
    """The failure to report; None keeps the original. It is free if the host caused it."""
    pause: float = 0.0
    """Seconds for which the gate closes, unless it is already closed for longer."""
    halves_limit: bool = False
    warning: str = ""
    """A sentence for the user."""


def answered(state: HostState) -> HostState:
    """Return the state after an answer."""
    if not (state.pauses or state.unanswered or state.overload):
        return state
    return HostState(overload=max(0, state.overload - 1), lowered_at=state.lowered_at)


def throttled(state: HostState, retry_after: float | None, *, is_closed: bool) -> GateAction:
    """Decide after the host throttled (429, 503, SlowDown).

    Args:
        state: The state of the host.
        retry_after: Seconds to pause, as the host asked; None for a pause that doubles each time.
        is_closed: True if the gate is closed: the request was sent before the pause began.
    """
    if is_closed:
        return GateAction(state, pause=retry_after or 0.0)
    state = state._replace(pauses=state.pauses + 1)
    pause = _pause(state.pauses) if retry_after is None else retry_after
    return GateAction(state, pause=pause, halves_limit=True)


def unanswered(state: HostState, request: Unanswered, patience: float) -> GateAction:
    """Decide after the host did not answer a request.

    Args:
        state: The state of the host.
        request: The request.
        patience: Seconds without an answer after which the host is given up.
    """
    if not state.unanswered:
        state = state._replace(silent_since=request.now)
    state = state._replace(unanswered=state.unanswered + 1)
    if state.unanswered < MAX_UNANSWERED:
        return _maybe_overloaded(state, request)
    left = state.silent_since + patience - request.now
    return _silent(state, request, patience, left) if left > 0 else _given_up(state, request, patience)


def _maybe_overloaded(state: HostState, request: Unanswered) -> GateAction:
    """Decide whether overload explains the failure: the host answers others. Several lower the limit."""
    now, failure = request.now, request.failure
    unexplained = GateAction(state)
    if not failure.retryable or now - request.answered_at > _RECENT:
        return unexplained
    overloaded = GateAction(state, replace(failure, kind=FailureKind.THROTTLED, free=True))
    if request.sent_at < state.lowered_at:  # the request is not evidence against the lower limit
        return overloaded
    if request.in_use <= 1:
        return unexplained
    if state.overload + 1 >= _OVERLOADED:
        state = state._replace(overload=0, lowered_at=now)
        return overloaded._replace(state=state, halves_limit=True)
    was_overloaded = now - state.lowered_at <= _RECENT
    action = overloaded if was_overloaded else unexplained
    return action._replace(state=state._replace(overload=state.overload + 1))


def _silent(state: HostState, request: Unanswered, patience: float, left: float) -> GateAction:
    """Pause for a host that has not answered for some time; `left` seconds remain of the patience."""
    failure = replace(request.failure, kind=FailureKind.THROTTLED, retryable=True, free=True, retry_after=0.0)
    if request.is_closed:
        return GateAction(state, failure)
    warning = ""
    if not state.pauses:
        warning = f"{request.host} does not answer: retrying for {patience:.0f} s. {request.failure.message}"
    state = state._replace(pauses=state.pauses + 1)
    return GateAction(state, failure, min(_pause(state.pauses), left), halves_limit=True, warning=warning)


def _given_up(state: HostState, request: Unanswered, patience: float) -> GateAction:
    """Give the host up. Its gate opens once per minute, to try it again."""
    failure, warning = state.given_up, ""
    if failure is None:
        message = f"{request.host} has not answered for {patience:.0f} s. {request.failure.message}"
        failure = replace(request.failure, kind=FailureKind.DOWN, message=message, retryable=False)
        warning = f"{message} Its assets are left for `resume`; everything else is fetched."
    pause = 0.0 if request.is_closed else _LONGEST_PAUSE
    return GateAction(state._replace(given_up=failure), failure, pause, warning=warning)


def _pause(times: int) -> float:
    """Return the seconds of the pause number `times` in a row if the host did not ask for any."""
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(times - 1, 16))
