"""Algorithms by which a server limits the rate of requests.

`allow(now)` returns whether a request at `now` (seconds on any monotonic clock) is within the limit, and counts
it. The limiters neither wait nor read a clock, so a test can drive them in virtual time. The platform documents
how many requests it allows, but not how it counts them: a client has to work with each of these.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol


class Limiter(Protocol):
    """The interface of `FakeHarness.rate_limit`."""

    def allow(self, now: float) -> bool:
        """Return whether a request at *now* is within the limit, and count it."""
        ...


class FixedWindow:
    """Allows `limit` requests in each of the windows [phase + k * per, phase + (k + 1) * per).

    With `count_refused`, `count` includes rejected requests.
    """

    def __init__(self, limit: int, per: float = 60.0, *, phase: float = 0.0, count_refused: bool = False) -> None:
        self.limit = limit
        self.per = per
        self.phase = phase
        self.count_refused = count_refused
        self.count: int = 0
        self._window: int | None = None

    def allow(self, now: float) -> bool:
        """Return whether a request at *now* is within the limit, and count it."""
        window = math.floor((now - self.phase) / self.per)
        if window != self._window:
            self._window, self.count = window, 0
        allowed = self.count < self.limit
        self.count += allowed or self.count_refused
        return allowed


class SlidingWindow:
    """Allows `limit` requests in any period of `per` seconds, counted exactly.

    With `count_refused`, a rejected request counts like any other, so a client that keeps sending stays
    rejected. With `ban`, all requests are rejected for that many seconds after a rejection. Rejections during a
    ban do not extend it.
    """

    def __init__(self, limit: int, per: float = 60.0, *, ban: float | None = None, count_refused: bool = False) -> None:
        self.limit = limit
        self.per = per
        self.ban = ban
        self.count_refused = count_refused
        self._times: deque[float] = deque()
        self._banned_until = -math.inf

    def allow(self, now: float) -> bool:
        """Return whether a request at *now* is within the limit, and count it."""
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
    """Allows `limit` requests, the current one included, in an estimate of the last `per` seconds.

    The estimate is the count of the current fixed window, plus the count of the previous one weighted by the
    part of it that the last `per` seconds still cover. Common at the edge of large sites, because it is cheap.
    """

    def __init__(self, limit: int, per: float = 60.0) -> None:
        self.limit = limit
        self.per = per
        self._window = 0
        self._previous = 0
        self._count = 0

    def allow(self, now: float) -> bool:
        """Return whether a request at *now* is within the limit, and count it."""
        window = math.floor(now / self.per)
        if window != self._window:
            self._previous = self._count if window == self._window + 1 else 0
            self._window, self._count = window, 0
        covered = 1.0 - (now / self.per - window)
        allowed = self._previous * covered + self._count + 1 <= self.limit
        self._count += allowed
        return allowed


class Bucket:
    """A token bucket that fills at `limit` tokens per `per` seconds. Each request takes one token.

    The bucket starts full, so a burst of `capacity` requests (default: `limit`) is allowed at once.
    """

    def __init__(self, limit: float, per: float = 60.0, *, capacity: float | None = None) -> None:
        self.rate: float = limit / per
        self.capacity: float = float(limit if capacity is None else capacity)
        self._tokens = self.capacity
        self._filled_at: float | None = None

    def allow(self, now: float) -> bool:
        """Return whether a request at *now* is within the limit, and count it."""
        if self._filled_at is not None:
            self._tokens = min(self.capacity, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now
        allowed = self._tokens >= 1.0
        self._tokens -= allowed
        return allowed
