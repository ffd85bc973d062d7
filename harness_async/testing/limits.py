"""The ways a server counts requests, each a small object that is told the time.

`allow(now)` says whether a request at `now` (seconds on any clock that does not go back) is let through, and
counts it. Nothing here waits or reads a clock, so a limit can be driven in virtual time on its own. The
platform says how many requests it allows, not how it counts them: a client has to live with every one of
these.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol


class RateLimit(Protocol):
    """What `FakeHarness.rate_limit` holds: anything that can say yes or no to a request."""

    def allow(self, now: float) -> bool:
        """Say whether a request at *now* is let through, and count it."""
        ...


class FixedWindow:
    """At most `limit` requests in each of the windows [phase + k * per, phase + (k + 1) * per).

    With `count_refused` refused requests count as well, which only matters to those who read `count`.
    """

    def __init__(self, limit: int, per: float = 60.0, *, phase: float = 0.0, count_refused: bool = False) -> None:
        self.limit = limit
        self.per = per
        self.phase = phase
        self.count_refused = count_refused
        self.count: int = 0
        self._window: int | None = None

    def allow(self, now: float) -> bool:
        """Say whether a request at *now* is let through, and count it."""
        window = math.floor((now - self.phase) / self.per)
        if window != self._window:
            self._window, self.count = window, 0
        allowed = self.count < self.limit
        self.count += allowed or self.count_refused
        return allowed


class SlidingWindow:
    """At most `limit` requests in any `per` seconds, counted exactly.

    With `count_refused` a refused request uses the window up like any other: whoever keeps knocking stays
    outside. With `ban` everything is refused for so many seconds after a refusal; a refusal during a ban does
    not extend it.
    """

    def __init__(self, limit: int, per: float = 60.0, *, ban: float | None = None, count_refused: bool = False) -> None:
        self.limit = limit
        self.per = per
        self.ban = ban
        self.count_refused = count_refused
        self._times: deque[float] = deque()
        self._banned_until = -math.inf

    def allow(self, now: float) -> bool:
        """Say whether a request at *now* is let through, and count it."""
        if now < self._banned_until:
            return False
        while self._times and self._times[0] <= now - self.per:
            self._times.popleft()
        allowed = len(self._times) < self.limit
        if allowed or self.count_refused:
            self._times.append(now)
        if not allowed and self.ban is not None:
            self._banned_until = now + self.ban
        return allowed


class SlidingCounter:
    """At most `limit` requests, the one asked for included, in an estimate of the last `per` seconds.

    The estimate is the count of the current fixed window plus that of the one before, weighted by how much of
    it the last `per` seconds still cover. Cheap to keep, therefore common at the edge of large sites.
    """

    def __init__(self, limit: int, per: float = 60.0) -> None:
        self.limit = limit
        self.per = per
        self._window = 0
        self._before = 0
        self._count = 0

    def allow(self, now: float) -> bool:
        """Say whether a request at *now* is let through, and count it."""
        window = math.floor(now / self.per)
        if window != self._window:
            self._before = self._count if window == self._window + 1 else 0
            self._window, self._count = window, 0
        covered = 1.0 - (now / self.per - window)
        allowed = self._before * covered + self._count + 1 <= self.limit
        self._count += allowed
        return allowed


class Bucket:
    """A bucket of `capacity` tokens that fills at `limit` per `per` seconds; each request takes one.

    The capacity is `limit` unless given, and the bucket starts full: a burst of that size passes at once.
    """

    def __init__(self, limit: float, per: float = 60.0, *, capacity: float | None = None) -> None:
        self.rate: float = limit / per
        self.capacity: float = float(limit if capacity is None else capacity)
        self._tokens = self.capacity
        self._filled_at: float | None = None

    def allow(self, now: float) -> bool:
        """Say whether a request at *now* is let through, and count it."""
        if self._filled_at is not None:
            self._tokens = min(self.capacity, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now
        allowed = self._tokens >= 1.0
        self._tokens -= allowed
        return allowed
