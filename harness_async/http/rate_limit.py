"""The rate limiter: when the next request may be sent. Pure decisions; `now` is in seconds of any steady clock.

1. *Pace.* Requests are spaced so that no window of the server, wherever it begins, counts more than the limit (GCRA).
   The next one is due by the schedule, not by the moment at which a task wakes, so a busy event loop loses no time.
2. *Throttling.* A 429 closes the gate: nothing is sent until a cooldown ends, then a single request probes the server.
   A throttled probe lengthens the cooldown; an accepted one opens the gate, at a rate derived from what the server
   accepted before, which recovers to the configured one.
3. *Outages.* When most of the latest responses are failures, the same gate closes for all requests.

`pacer` holds the waiting tasks and the timer.
"""

from __future__ import annotations

import random
from collections import deque

from attrs import define, field, frozen

from harness_async.config import RateLimit
from harness_async.http.retry import Random

NETWORK_JITTER = 0.25
"""Seconds by which two requests can move relative to each other on their way, which lengthens the window for us."""

COOLDOWNS = (5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds for which the gate stays closed after a 429, and after each throttled probe; the last one repeats."""

OUTAGE_PAUSES = (2.0, 4.0, 8.0, 16.0)
"""The same for an outage: shorter, because no counter of the server has to run down."""

OUTAGE_SAMPLE, OUTAGE_FAILURES = 20, 16
"""An outage is 16 failures among the latest 20 responses: a ratio, so that a tenth of failures closes nothing."""

DECREASE_FACTOR = 0.9
"""Share of the accepted rate at which requests go on after a 429."""

RECOVERY_RATE = 0.0015
"""Growth of a decreased rate per second, as a share of it."""


@frozen
class RateSchedule:
    """The rate and burst for a limit.

    A window of `per` seconds sees at most `rate * (per + jitter) + burst` requests, so the highest rate that fits is
    `(requests - burst) / (per + jitter)`. A burst of one request in 200 costs less than 1 % of 1,000 requests a minute,
    and lets a restarted process begin without a 429.
    """

    rate: float
    """Requests per second."""

    burst: int

    @classmethod
    def of(cls, limit: RateLimit) -> RateSchedule:
        """Compute the fastest schedule that a limit allows."""
        burst = max(1, limit.requests // 200)
        return cls(max(1, limit.requests - burst) / (limit.per + NETWORK_JITTER), burst)


@define(eq=False)
class Permit:
    """The right to send one request. Its outcome is recorded, or it is released."""

    generation: int
    probe: bool


@define(eq=False)
class RateLimiter:
    """The schedule and the gate of one API key.

    The gate is open, closed until `open_at`, or waiting for the response to its probe. `generation` counts how often
    it closed, so that the outcome of a request from before the latest closing is recognized.
    """

    limit: RateLimit | None
    rng: Random = field(factory=random.Random, repr=False)
    cooldowns: tuple[float, ...] = field(default=COOLDOWNS, repr=False)
    outage_pauses: tuple[float, ...] = field(default=OUTAGE_PAUSES, repr=False)

    open_at: float = field(default=float("-inf"), init=False)
    generation: int = field(default=0, init=False)
    _schedule: RateSchedule | None = field(init=False, repr=False)
    _next: float = field(default=float("-inf"), init=False)  # GCRA's theoretical arrival time
    _decreased: float | None = field(default=None, init=False)  # requests per second at `_decreased_at`
    _decreased_at: float = field(default=0.0, init=False)
    _accepted: deque[float] = field(factory=deque, init=False, repr=False)
    _idle_at: float = field(default=float("-inf"), init=False)  # when a request was last sent without a wait
    _failures: deque[bool] = field(factory=lambda: deque(maxlen=OUTAGE_SAMPLE), init=False, repr=False)
    _pauses: tuple[float, ...] = field(default=(), init=False)  # those of the present closing; () when open
    _closings: int = field(default=0, init=False)
    _probing: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._schedule = None if self.limit is None else RateSchedule.of(self.limit)

    @property
    def is_open(self) -> bool:
        """Whether requests flow without a probe."""
        return not self._pauses

    @property
    def is_outage(self) -> bool:
        """Whether the gate is closed because most requests failed."""
        return self._pauses is self.outage_pauses

    def next_slot_at(self, requested_at: float) -> float | None:
        """Return when a request that was made at this time may be sent; None until the probe has an outcome."""
        if self._probing:
            return None
        if self._pauses or self._schedule is None:
            return max(requested_at, self.open_at)
        rate = self._schedule.rate if self._decreased is None else self.rate(requested_at)
        return max(requested_at, self.open_at, self._next - (self._schedule.burst - 1) / rate)

    def acquire(self, at: float, *, waited: bool = False) -> Permit:
        """Use the slot that `next_slot_at` returned; `waited` says that the request could have been sent earlier."""
        if self._pauses:
            self._probing = True
            return Permit(self.generation, probe=True)
        if not waited:
            self._idle_at = at
        if self._schedule is not None:
            self._next = max(at, self._next) + 1.0 / self.rate(at)
        return Permit(self.generation, probe=False)

    def is_valid(self, permit: Permit, now: float) -> bool:
        """Return whether a permit may still be used: the gate has not closed, and no pause began, since `acquire`."""
        return permit.generation == self.generation and self.open_at <= now

    def rate(self, now: float) -> float:
        """Return the requests per second in force: those of the schedule, or a decreased rate that recovers."""
        if self._schedule is None:
            return float("inf")
        if self._decreased is not None:
            rate: float = self._decreased * (1.0 + RECOVERY_RATE) ** max(0.0, now - self._decreased_at)
            if rate < self._schedule.rate:
                return rate
            self._decreased = None
        return self._schedule.rate

    def pause(self, seconds: float, now: float) -> None:
        """Send nothing for so many seconds; a pause in force is never shortened."""
        self.open_at = max(self.open_at, now + seconds)
        self._next = max(self._next, self.open_at)

    def record_success(self, permit: Permit, now: float) -> None:
        """Record a response of the service itself, error statuses below 500 included."""
        if self.limit is not None:
            self._accepted.append(now)
            while self._accepted[0] <= now - self.limit.per:
                self._accepted.popleft()
        if permit.probe:
            self._open(now)
        elif permit.generation == self.generation:
            self._failures.append(False)

    def record_failure(self, permit: Permit, now: float) -> None:
        """Record a server error, a lost connection or a timeout; close the gate when most responses are failures."""
        if permit.probe:
            self._close(self.outage_pauses, now)
        elif permit.generation == self.generation:
            self._failures.append(True)
            if sum(self._failures) >= OUTAGE_FAILURES:
                self._close(self.outage_pauses, now)

    def record_throttled(self, permit: Permit, now: float, retry_after: float | None = None) -> None:
        """Record a 429: close the gate, or only lengthen the pause for a request from before it closed."""
        if permit.probe or permit.generation == self.generation:
            if not permit.probe:
                self._decrease(now)
            self._close(self.cooldowns, now)
        if retry_after is not None:
            self.pause(retry_after, now)

    def release(self, permit: Permit) -> None:
        """Record that the outcome will never be known; another request may become the probe."""
        if permit.probe and permit.generation == self.generation:
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
        # A tenth of jitter: clients that were throttled together must not probe together.
        self.pause(pause * (1.0 + 0.1 * self.rng.random()), now)

    def _open(self, now: float) -> None:
        self._pauses = ()
        self._closings = 0
        self._probing = False
        self._decreased_at = now
        if self._schedule is not None:
            # No burst after a closing: the next request is due after one interval.
            self._next = now + self._schedule.burst / self.rate(now)

    def _decrease(self, now: float) -> None:
        if self.limit is None or self._schedule is None:
            return
        rate = self.rate(now)
        # What the server accepted measures its limit only while requests were waiting. A client that just started, or
        # sends little, must not take its own rate for the server's. Fewer than two responses measure nothing.
        since = max(now - self.limit.per, self._idle_at)
        accepted = sum(moment > since for moment in self._accepted)
        measured = accepted / (now - since) if accepted > 1 else rate / 2
        self._decreased = DECREASE_FACTOR * min(rate, measured)
        self._decreased_at = now
