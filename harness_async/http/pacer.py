"""Pacing: tasks wait here until their request may be sent.

`RatePacer` queues the tasks of one event loop in the order of their requests and owns the timer; the rules are those of
`rate_limit`. `SharedPacer` shares one budget among the processes of a machine. Any object with the methods of `Pacer`
can take its place.
"""

from __future__ import annotations

import asyncio
import inspect
from bisect import insort
from collections import deque
from collections.abc import Awaitable
from operator import attrgetter
from typing import Protocol, runtime_checkable

from attrs import define

from harness_async.config import RateLimit
from harness_async.http.rate_limit import NETWORK_JITTER, Permit, RateLimiter


@runtime_checkable
class Pacer(Protocol):
    """The interface of a pacer, for sharing one budget among processes or machines.

    One process is nearly always enough, because the limit belongs to the key. 1,000 requests a minute are 16.7 a
    second: 6 in flight if a response takes 0.35 s, 33 if it takes 2 s. A second process makes none of that faster. The
    clients of one event loop share a `RatePacer`.

    N processes of one key have two options. With `rate_limit=RateLimit(1000 // N)` each takes a fixed share; what an
    idle process leaves is lost. With a `SharedPacer` on the same file they share the whole budget.

    For several machines, keep the two numbers of `SharedPacer` in Redis, with each of its two transactions as a Lua
    script that reads `TIME`; or in a row of Postgres, read with `SELECT ... FOR UPDATE` and only then
    `clock_timestamp()`. Return the seconds to wait rather than a time, because the machines' clocks differ.

    The client's gate stays in front of any pacer. A 429 closes the gate of the process that received it and calls
    `pause`, which holds the other processes back too. After the pause that process sends a probe, and the others go on
    at their pace. None of them learns a lower rate, so state the limit that holds.
    """

    async def acquire(self) -> object:
        """Wait until one more request may be sent. Called for every request, by many tasks concurrently.

        Cancelled when the caller gives up and when the gate closes. Exceptions are raised by the call.
        """

    def pause(self, seconds: float) -> Awaitable[None] | None:
        """Send nothing for so many seconds, because the server refused by rate. May be a coroutine function."""


@define(eq=False)
class _Waiter:
    requested_at: float
    future: asyncio.Future[Permit]


_REQUESTED_AT = attrgetter("requested_at")


class RatePacer:
    """The pacer of one API key in one event loop; pass one instance to all clients of the key.

    Safe for concurrent use by tasks of one loop, which are served in the order of their requests. A task that is
    cancelled while it waits consumes no slot, unless it was just given one.
    """

    def __init__(
        self, limit: RateLimit | None = None, *, inner: Pacer | None = None, limiter: RateLimiter | None = None
    ) -> None:
        """Pace by a limit, by another pacer (`inner`), or by both.

        Args:
            limit: The limit of the server; None paces nothing.
            inner: Another pacer, which is awaited behind the gate. A task that waits there when the gate closes is
                cancelled and queued again.
            limiter: In place of `limit`: a limiter with its own limit.
        """
        self.limiter: RateLimiter = RateLimiter(limit) if limiter is None else limiter
        self._inner = inner
        self._inner_waits: dict[asyncio.Future[object], Permit] = {}
        self._inner_pauses: set[asyncio.Future[None]] = set()
        self._waiters: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.limiter.limit}, {len(self._waiters)} waiting>"

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a slot."""
        return len(self._waiters)

    def try_acquire(self) -> Permit | None:
        """Return a permit if one is available at once; None where `acquire` has to wait."""
        if self._inner is not None or self._waiters:
            return None
        now = asyncio.get_running_loop().time()
        slot = self.limiter.next_slot_at(now)
        return None if slot is None or slot > now else self.limiter.acquire(now)

    async def acquire(self) -> Permit:
        """Wait for the next slot. Record the outcome of the request with the permit, or release it."""
        loop = asyncio.get_running_loop()
        requested_at = loop.time()
        while True:
            permit = await self._wait_for_slot(requested_at)
            try:
                if self._inner is not None:
                    await self._wait_for_inner(self._inner, permit)
            except BaseException:
                self.release(permit)
                raise
            # The gate may have closed since this task was given its slot.
            if self.limiter.is_valid(permit, loop.time()):
                return permit
            self.release(permit)

    def expected_wait(self) -> float:
        """Estimate the seconds until a request made now would be sent; never more than it will wait."""
        now = asyncio.get_running_loop().time()
        slot = self.limiter.next_slot_at(now)
        # Tasks ahead may give up, so only the schedule as it stands is certain.
        return 0.0 if slot is None else max(0.0, slot - now)

    def pause(self, seconds: float) -> None:
        """Send nothing for so many seconds from now."""
        self.limiter.pause(seconds, asyncio.get_running_loop().time())
        self._cancel_inner_waits()
        self._serve_waiters()

    def record_success(self, permit: Permit) -> None:
        """Record that the service responded."""
        self.limiter.record_success(permit, asyncio.get_running_loop().time())
        if permit.probe:
            self._serve_waiters()

    def record_failure(self, permit: Permit) -> None:
        """Record that the service failed, or did not respond."""
        self.limiter.record_failure(permit, asyncio.get_running_loop().time())
        self._cancel_inner_waits()
        self._serve_waiters()

    def record_throttled(self, permit: Permit, retry_after: float | None) -> None:
        """Record a 429."""
        now = asyncio.get_running_loop().time()
        self.limiter.record_throttled(permit, now, retry_after)
        if self._inner is not None:
            self._pause_inner(self._inner, max(0.0, self.limiter.open_at - now))
        self._cancel_inner_waits()
        self._serve_waiters()

    def release(self, permit: Permit) -> None:
        """Record that the outcome will never be known: the call was cancelled, or nothing was sent."""
        self.limiter.release(permit)
        self._serve_waiters()

    def _pause_inner(self, inner: Pacer, seconds: float) -> None:
        result = inner.pause(seconds)
        if inspect.isawaitable(result):
            task = asyncio.ensure_future(result)
            self._inner_pauses.add(task)
            task.add_done_callback(self._inner_pauses.discard)

    async def _wait_for_inner(self, inner: Pacer, permit: Permit) -> None:
        """Wait for the other pacer, or until the gate closes."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        cancels = task.cancelling()
        wait = asyncio.ensure_future(inner.acquire())
        self._inner_waits[wait] = permit
        try:
            await wait
        except asyncio.CancelledError:
            if task.cancelling() > cancels or self.limiter.is_valid(permit, wait.get_loop().time()):
                raise  # cancelled by somebody else
        finally:
            del self._inner_waits[wait]

    def _cancel_inner_waits(self) -> None:
        """Cancel waits whose permit is no longer valid: each would consume a slot of the other pacer for nothing."""
        for wait, permit in self._inner_waits.items():
            if not self.limiter.is_valid(permit, wait.get_loop().time()):
                wait.cancel()

    async def _wait_for_slot(self, requested_at: float) -> Permit:
        waiter = _Waiter(requested_at, asyncio.get_running_loop().create_future())
        if self._waiters and requested_at < self._waiters[-1].requested_at:  # queued again
            insort(self._waiters, waiter, key=_REQUESTED_AT)
        else:
            self._waiters.append(waiter)
        self._serve_waiters()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter.future.cancelled():
                self._serve_waiters()
            else:
                self.release(waiter.future.result())
            raise

    def _serve_waiters(self) -> None:
        """Give slots to the waiters that are due, in order, and set the timer for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiters:
            waiter = self._waiters[0]
            if waiter.future.done():
                self._waiters.popleft()
                continue
            slot = self.limiter.next_slot_at(waiter.requested_at)
            if slot is None:
                return  # the outcome of the probe calls this method again
            loop = waiter.future.get_loop()
            now = loop.time()
            if slot > now:
                self._timer = loop.call_at(slot, self._serve_waiters)
                return
            self._waiters.popleft()
            # The slot counts from the schedule, so that a loop that was busy catches up; but by no more than the
            # tolerance of the schedule, so that a long stall does not end in a burst.
            waiter.future.set_result(
                self.limiter.acquire(max(slot, now - NETWORK_JITTER), waited=slot > waiter.requested_at)
            )
