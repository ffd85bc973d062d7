"""The decisions of pacing, without clock, tasks or I/O: rates, refusals, outages.

1. *Pace.* Slots in time, spaced so that no window of the server, wherever it begins, can count more than the limit
   (GCRA). A slot is due by the schedule, not by when a task happens to wake, so a busy event loop loses none.
2. *Refusals.* After a 429 nothing leaves until a cooldown is over; then one request, the probe, until it is
   answered. If it is refused the cooldown grows; if it is taken the gate opens at a rate learned from what the
   server took before, which climbs back to the configured one.
3. *Outages.* When most of the latest answers are failures, the same gate closes for everyone and probes: a thousand
   tasks retrying on their own would only add to the trouble.

`pacing` has the tasks that wait by these rules, and the timer.
"""

from __future__ import annotations

import random
from collections import deque

from attrs import define, field, frozen

from harness_async.config import RateLimit
from harness_async.http.retry import Random

NETWORK_JITTER = 0.25
"""Seconds by which two requests can move against each other on their way: the window as we see it is longer."""

COOLDOWNS = (5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds the gate stays closed after a refusal, and after each refused probe; the last repeats."""

OUTAGE_PAUSES = (2.0, 4.0, 8.0, 16.0)
"""The same for an outage: shorter, for there is no counter to wait out."""

OUTAGE_SAMPLE, OUTAGE_FAILURES = 20, 16
"""An outage is 16 failures among the latest 20 answers: a ratio, so that a tenth of bad answers closes nothing."""

DECREASE_FACTOR = 0.9
"""Share of what the server took in the window before a refusal at which we go on."""

RECOVERY_RATE = 0.0015
"""Growth of a learned rate, as a share of it per second."""


@frozen
class RateSchedule:
    """Rate and burst for a limit.

    A window of `per` seconds sees at most `rate * (per + spread) + burst` sends, so the rate that just fits is
    `(requests - burst) / (per + spread)`. A burst of one request in 200 keeps the loss below 1 % at 1000 a minute
    and lets a restarted process begin without being refused.
    """

    rate: float
    """Requests per second."""

    burst: int

    @classmethod
    def of(cls, limit: RateLimit) -> RateSchedule:
        """Compute the fastest pace that a limit allows."""
        burst = max(1, limit.requests // 200)
        return cls(max(1, limit.requests - burst) / (limit.per + NETWORK_JITTER), burst)


@define(eq=False, repr=False)
class Permit:
    """The right to send one request; handed back with its outcome."""

    generation: int
    probe: bool


@define(eq=False, repr=False)
class RateLimiter:
    """The decisions of `RatePacer`, without clock, tasks or I/O; `now` is in seconds of any steady clock.

    The gate is open, closed until `open_at`, or waiting for the answer of its probe. `epoch` counts the closings, so
    that an answer to a request from before the latest one is known to be old news.
    """

    limit: RateLimit | None
    rng: Random = field(factory=random.Random)
    cooldowns: tuple[float, ...] = COOLDOWNS
    outage_pauses: tuple[float, ...] = OUTAGE_PAUSES

    open_at: float = field(default=float("-inf"), init=False)
    generation: int = field(default=0, init=False)
    _pace: RateSchedule | None = field(init=False)
    _next: float = field(default=float("-inf"), init=False)  # GCRA's theoretical arrival time
    _learned: float | None = field(default=None, init=False)  # requests per second at `_learned_at`
    _learned_at: float = field(default=0.0, init=False)
    _accepted: deque[float] = field(factory=deque, init=False)
    _idle_at: float = field(default=float("-inf"), init=False)  # when a request last left without a wait
    _failures: deque[bool] = field(factory=lambda: deque(maxlen=OUTAGE_SAMPLE), init=False)
    _pauses: tuple[float, ...] = field(default=(), init=False)  # those of the trouble being probed; () when open
    _closings: int = field(default=0, init=False)
    _probing: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._pace = None if self.limit is None else RateSchedule.of(self.limit)

    @property
    def is_open(self) -> bool:
        """Whether requests flow: no cooldown to probe after."""
        return not self._pauses

    def next_slot_at(self, asked: float) -> float | None:
        """Say when a request that asked at this time may leave; None until the probe is answered."""
        if self._probing:
            return None
        if self._pauses or self._pace is None:
            return max(asked, self.open_at)
        spacing = 1.0 / self.rate(asked)
        return max(asked, self.open_at, self._next - (self._pace.burst - 1) * spacing)

    def take(self, at: float, *, waited: bool = False) -> Permit:
        """Use the slot that `due` told; `waited` says that the request could have left earlier."""
        if self._pauses:
            self._probing = True
            return Permit(self.generation, probe=True)
        if not waited:
            self._idle_at = at
        if self._pace is not None:
            self._next = max(at, self._next) + 1.0 / self.rate(at)
        return Permit(self.generation, probe=False)

    def is_valid(self, slot: Permit, now: float) -> bool:
        """Tell whether a request may still use its slot: nothing was closed or paused since `take`."""
        return slot.generation == self.generation and self.open_at <= now

    def rate(self, now: float) -> float:
        """Tell the requests per second in force: the pace of the limit, or the learned one on its way up."""
        if self._pace is None:
            return float("inf")
        if self._learned is not None:
            learned: float = self._learned * (1.0 + RECOVERY_RATE) ** max(0.0, now - self._learned_at)
            if learned < self._pace.rate:
                return learned
            self._learned = None
        return self._pace.rate

    def pause(self, seconds: float, now: float) -> None:
        """Let nothing leave for so many seconds; a pause in force only ever gets longer."""
        self.open_at = max(self.open_at, now + seconds)
        self._next = max(self._next, self.open_at)

    def record_success(self, slot: Permit, now: float) -> None:
        """Note an answer of the service itself, error statuses below 500 included."""
        if self.limit is not None:
            self._remember(self.limit, now)
        if slot.probe:
            self._reopen(now)
        elif slot.generation == self.generation:
            self._failures.append(False)

    def record_failure(self, slot: Permit, now: float) -> None:
        """Note a server error, a lost connection or a time-out; close the gate when most answers are such."""
        if slot.probe:
            self._close(self.outage_pauses, now)
        elif slot.generation == self.generation:
            self._failures.append(True)
            if sum(self._failures) >= OUTAGE_FAILURES:
                self._close(self.outage_pauses, now)

    def record_throttled(self, slot: Permit, now: float, retry_after: float | None = None) -> None:
        """Note a 429: close the gate, or, for an answer to a request from before it closed, only lengthen the wait."""
        if slot.probe or slot.generation == self.generation:
            if not slot.probe:
                self._learn(now)
            self._close(self.cooldowns, now)
        if retry_after is not None:
            self.pause(retry_after, now)

    def release(self, slot: Permit) -> None:
        """Note that nobody will tell how the request ended: another may be the probe."""
        if slot.probe and slot.generation == self.generation:
            self._probing = False

    def _close(self, pauses: tuple[float, ...], now: float) -> None:
        if self._pauses is not pauses:
            self._closings = 0
        pause = pauses[min(self._closings, len(pauses) - 1)]
        self._pauses = pauses
        self._closings += 1
        self._probing = False
        self._failures.clear()
        self.generation += 1
        # A tenth of jitter: clients that were refused together should not probe together.
        self.pause(pause * (1.0 + 0.1 * self.rng.random()), now)

    def _reopen(self, now: float) -> None:
        self._pauses = ()
        self._closings = 0
        self._probing = False
        self._learned_at = now
        if self._pace is not None:
            # No burst after a closing: the next slot is one spacing away.
            self._next = now + self._pace.burst / self.rate(now)

    def _remember(self, limit: RateLimit, now: float) -> None:
        self._accepted.append(now)
        while self._accepted[0] <= now - limit.per:
            self._accepted.popleft()

    def _learn(self, now: float) -> None:
        if self.limit is None or self._pace is None:
            return
        rate = self.rate(now)
        # Only what was taken while there was more to send than could leave is a measure of the server: who has just
        # begun, or sends little, must not take it for all that the server gives. Less than two tell nothing.
        since = max(now - self.limit.per, self._idle_at)
        taken = sum(moment > since for moment in self._accepted)
        measured = taken / (now - since) if taken > 1 else rate / 2
        self._learned = DECREASE_FACTOR * min(rate, measured)
        self._learned_at = now
