"""When the next request may leave.

All requests of a key go through one `RatePacer`, in the order in which they asked. It queues the tasks and owns the
timer; the rules are those of `throttling`, which knows neither. Whoever has several processes on one key finds the
ways in `Pacer`.
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
    """What paces requests; implement it to share one budget among processes.

    One process is nearly always enough, for the limit is the key's, not the machine's. 1,000 requests a minute are
    16.7 a second: 6 in flight if an answer takes 0.35 s, 33 if it takes 2 s, and 3 % of one core at 2 ms of processor
    time for a page of 100 rows. A second process makes none of it faster. The clients of one event loop share a
    `RatePacer`.

    Where there are N processes all the same, split the limit: each takes `rate_limit=RateLimit(1000 // N)`. However
    the server counts, they are not refused, and busy ones get 99.2, 99.2 and 98.8 % of 1,000 a minute, or 99.1, 98.6
    and 97.6 % of 400, for N of 2, 4 and 8. What an idle one leaves is lost.

    To lose none of it, keep the schedule where all see it. On one machine a file does:

    ```python
    import asyncio
    import sqlite3
    import time
    from collections.abc import Iterator
    from contextlib import closing, contextmanager

    from harness_async import RateLimit


    class SharedPacer:
        def __init__(self, path: str, limit: RateLimit) -> None:
            self._path = path
            self._burst = max(1, limit.requests // 200)
            # Two requests may move by 0.25 s against each other on their way, so the window is that much longer.
            self._spacing = (limit.per + 0.25) / max(1, limit.requests - self._burst)
            self._turn = asyncio.Lock()
            with self._store() as store:
                store.execute("CREATE TABLE IF NOT EXISTS pace (due REAL, open_at REAL)")
                store.execute("INSERT INTO pace SELECT 0, 0 WHERE NOT EXISTS (SELECT * FROM pace)")

        @contextmanager
        def _store(self) -> Iterator[sqlite3.Connection]:
            with closing(sqlite3.connect(self._path, timeout=30.0, isolation_level=None)) as store:
                store.execute("BEGIN IMMEDIATE")  # nobody else gets in before COMMIT
                yield store
                store.execute("COMMIT")

        async def acquire(self) -> None:
            async with self._turn:  # one slot in hand at most: what is reserved no pause calls back
                taken = False
                while not taken:
                    at, taken = await asyncio.to_thread(self._reserve)
                    await asyncio.sleep(at - time.time())

        def _reserve(self) -> tuple[float, bool]:
            # Takes the next slot and tells its time; in a pause takes none and tells its end, which may yet move.
            with self._store() as store:
                now = time.time()  # read once it is our turn
                due, open_at = store.execute("SELECT due, open_at FROM pace").fetchone()
                if open_at > now:
                    return open_at, False
                store.execute("UPDATE pace SET due = ?", [max(now, due) + self._spacing])
                return max(now, due - (self._burst - 1) * self._spacing), True

        async def pause(self, seconds: float) -> None:
            await asyncio.to_thread(self._close, seconds)

        def _close(self, seconds: float) -> None:
            with self._store() as store:
                until = time.time() + seconds
                again = until + self._burst * self._spacing  # no burst after a pause
                store.execute("UPDATE pace SET open_at = max(open_at, ?), due = max(due, ?)", [until, again])
    ```

    Each process passes `pacer=SharedPacer(path, RateLimit(1000))`, with the same limit and the same path, on a local
    disk. A request that is cancelled while it waits costs one slot at most. The clock is the machine's: if it is set
    back, all wait for as long as it was.

    The client puts its gate around a pacer of yours. A 429 closes the gate of the process that got it, which calls
    `pause`, so that the others stop too, but for the one slot that each may have in hand. After the pause the refused
    process probes, and the others go on at the pace; none learns a lower rate, so state the limit that holds. Outages
    each process finds out for itself.

    For several machines, keep the same two numbers in Redis, with each of the two transactions as a Lua script that
    reads `TIME`; or in a row of Postgres, read with `SELECT ... FOR UPDATE`, and only then `clock_timestamp()` (`now()`
    is from before the wait for the row). Hand back the seconds to wait, not a time: the machines' clocks differ.
    """

    async def acquire(self) -> object:
        """Wait until one more request may leave. Called by many tasks at once, for every send.

        Cancelled where the caller gives up, and where the gate closes meanwhile. What it raises, the call raises.
        """

    def pause(self, seconds: float) -> Awaitable[None] | None:
        """Let nothing leave for so many seconds: the server refused. May be a coroutine function."""


@define(eq=False, repr=False)
class _Waiter:
    asked: float
    future: asyncio.Future[Permit]


_ASKED = attrgetter("asked")


class RatePacer:
    """The pacer of one key in one event loop; pass the same one to several clients of a key.

    Safe for any number of tasks of one loop, served in the order in which they asked. A task that is cancelled
    while it waits takes no slot, unless it has just been given one.
    """

    def __init__(
        self, limit: RateLimit | None = None, *, inner: Pacer | None = None, limiter: RateLimiter | None = None
    ) -> None:
        """Pace by a limit, by `inner`, a pacer of the caller's, or by both; a throttle brings its own limit.

        The gate is added to `inner`: who waits there when it closes is taken out and queues again.
        """
        self.limiter: RateLimiter = RateLimiter(limit) if limiter is None else limiter
        self._inner = inner
        self._passing: dict[asyncio.Future[object], Permit] = {}
        self._waiters: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._inner_pauses: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.limiter.limit}, {len(self._waiters)} waiting>"

    @property
    def waiting(self) -> int:
        """How many requests wait for their slot."""
        return len(self._waiters)

    async def acquire(self) -> Permit:
        """Wait for the next slot; hand it back with `accepted`, `failed`, `refused` or `abandoned`."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        while True:
            slot = await self._queue(asked)
            try:
                if self._inner is not None:
                    await self._pass(self._inner, slot)
            except BaseException:
                self.release(slot)
                raise
            # The gate may have closed between the slot and this task, and long ago where another pacer took its time.
            if self.limiter.is_valid(slot, loop.time()):
                return slot
            self.release(slot)

    def try_acquire(self) -> Permit | None:
        """Take a slot if there is one at once; else None, and `acquire` waits for it."""
        if self._inner is not None:
            return None
        now = asyncio.get_running_loop().time()
        return self._take_due(now, now)

    def _take_due(self, asked: float, now: float) -> Permit | None:
        """Take a slot for who asked then, if nobody waits and it is due."""
        next_slot_at = None if self._waiters else self.limiter.next_slot_at(asked)
        return None if next_slot_at is None or next_slot_at > now else self.limiter.take(now)

    def expected_wait(self) -> float:
        """Estimate the seconds until a request that asked now would leave; never more than it would wait."""
        now = asyncio.get_running_loop().time()
        next_slot_at = self.limiter.next_slot_at(now)
        if next_slot_at is None:
            return 0.0
        # Those ahead may give up, so only the schedule as it stands is certain.
        return max(0.0, next_slot_at - now)

    def pause(self, seconds: float) -> None:
        """Let nothing leave for so many seconds from now."""
        self.limiter.pause(seconds, asyncio.get_running_loop().time())
        self._recall()
        self._release()

    def record_success(self, slot: Permit) -> None:
        """Tell that the service answered."""
        self.limiter.record_success(slot, asyncio.get_running_loop().time())
        if slot.probe:
            self._release()

    def record_failure(self, slot: Permit) -> None:
        """Tell that the service failed, or that no answer came."""
        self.limiter.record_failure(slot, asyncio.get_running_loop().time())
        self._recall()
        self._release()

    def record_throttled(self, slot: Permit, retry_after: float | None) -> None:
        """Tell that the service refused by rate."""
        now = asyncio.get_running_loop().time()
        self.limiter.record_throttled(slot, now, retry_after)
        if self._inner is not None:
            self._pause_inner(self._inner, max(0.0, self.limiter.open_at - now))
        self._recall()
        self._release()

    def release(self, slot: Permit) -> None:
        """Tell that the outcome will never be known: cancelled, or never sent."""
        self.limiter.release(slot)
        self._release()

    def _pause_inner(self, inner: Pacer, seconds: float) -> None:
        result = inner.pause(seconds)
        if inspect.isawaitable(result):
            task = asyncio.ensure_future(result)
            self._inner_pauses.add(task)
            task.add_done_callback(self._inner_pauses.discard)

    async def _pass(self, inner: Pacer, slot: Permit) -> None:
        """Wait for the caller's pacer too, or until the gate closes."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        cancels = task.cancelling()
        wait = asyncio.ensure_future(inner.acquire())
        self._passing[wait] = slot
        try:
            await wait
        except asyncio.CancelledError:
            if task.cancelling() > cancels or self.limiter.is_valid(slot, wait.get_loop().time()):
                raise  # not our doing
        finally:
            del self._passing[wait]

    def _recall(self) -> None:
        """Take out of the caller's pacer those whose slot stands no longer: each would take a slot of it in vain."""
        for wait, slot in self._passing.items():
            if not self.limiter.is_valid(slot, wait.get_loop().time()):
                wait.cancel()

    async def _queue(self, asked: float) -> Permit:
        loop = asyncio.get_running_loop()
        if (slot := self._take_due(asked, loop.time())) is not None:
            return slot
        waiter = _Waiter(asked, loop.create_future())
        if self._waiters and asked < self._waiters[-1].asked:  # sent back from another pacer
            insort(self._waiters, waiter, key=_ASKED)
        else:
            self._waiters.append(waiter)
        self._release()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter.future.cancelled():
                self._release()
            else:
                self.release(waiter.future.result())
            raise

    def _release(self) -> None:
        """Let go whoever is due, in order, and set the timer for the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiters:
            waiter = self._waiters[0]
            if waiter.future.done():
                self._waiters.popleft()
                continue
            next_slot_at = self.limiter.next_slot_at(waiter.asked)
            if next_slot_at is None:
                return  # the probe's answer comes back here
            loop = waiter.future.get_loop()
            now = loop.time()
            if next_slot_at > now:
                self._timer = loop.call_at(next_slot_at, self._release)
                return
            self._waiters.popleft()
            # The slot is due by the schedule, so that a loop that was busy catches up; but by no more than what the
            # window of the pace has to spare, lest a long stall end in a burst.
            waiter.future.set_result(self.limiter.take(max(next_slot_at, now - NETWORK_JITTER), waited=True))
