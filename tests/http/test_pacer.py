"""Pacing of many tasks in virtual time: limits, cancellation, and pacers of the caller."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from harness_async import RateLimit, RatePacer
from harness_async.http.rate_limit import (
    COOLDOWNS,
    NETWORK_JITTER,
    OUTAGE_FAILURES,
    OUTAGE_PAUSES,
    RateLimiter,
    RateSchedule,
)
from harness_async.testing import Bucket, FixedWindow, SlidingCounter, SlidingWindow
from tests.support.virtual import BusyLoop, NoJitter, run


def limiter(requests: int = 1000, per: float = 60.0) -> RateLimiter:
    return RateLimiter(RateLimit(requests, per), rng=NoJitter())


SERVERS: dict[str, Callable[[int], Any]] = {
    "fixed window": lambda limit: FixedWindow(limit, phase=19.0),
    "fixed window, 429s counted": lambda limit: FixedWindow(limit, phase=19.0, count_refused=True),
    "sliding window": SlidingWindow,
    "sliding counter": SlidingCounter,
    "bucket of the limit": Bucket,
    "bucket of a twentieth": lambda limit: Bucket(limit, capacity=limit / 20),
}


async def saturate(server: Any, pacer: RatePacer, seconds: float) -> tuple[int, int]:
    """Let 32 workers send without rest; return the accepted and the refused requests."""
    loop, rng, accepted, refused = asyncio.get_running_loop(), random.Random(1), 0, 0
    end = loop.time() + seconds

    async def work() -> None:
        nonlocal accepted, refused
        while loop.time() < end:
            permit = await pacer.acquire()
            await asyncio.sleep(0.03 + rng.expovariate(50))
            if server.allow(loop.time()):
                accepted += loop.time() < end
                await asyncio.sleep(0.2 + rng.expovariate(10))
                pacer.record_success(permit)
            else:
                await asyncio.sleep(0.05)
                refused += 1
                pacer.record_throttled(permit, None)

    await asyncio.gather(*(work() for _ in range(32)))
    return accepted, refused


@pytest.mark.parametrize(
    ("kind", "limit", "configured", "minutes", "share", "most_refused"),
    [
        *((kind, 400, 400, 5, 0.99, 0) for kind in SERVERS),
        *((kind, 1000, 1000, 3, 0.99, 0) for kind in ("sliding window", "bucket of a twentieth")),
        *((kind, 400, 1000, 15, 0.9, 18) for kind in ("fixed window", "sliding window", "sliding counter")),
    ],
)
def test_share_of_the_limit(
    kind: str, limit: int, configured: int, minutes: int, share: float, most_refused: int
) -> None:
    """Busy workers use a known limit without a 429 however the server counts, and find one that is unknown."""
    pacer = RatePacer(limiter=RateLimiter(RateLimit(configured), rng=random.Random(1)))
    accepted, refused = run(saturate(SERVERS[kind](limit), pacer, 60.0 * minutes))
    assert accepted >= share * limit * minutes
    assert refused <= most_refused


def test_restarted_process() -> None:
    """A process that restarts every twenty seconds stays within the limit, because the burst is small."""

    async def main() -> list[tuple[int, int]]:
        server = FixedWindow(1000, phase=13.0)
        return [await saturate(server, RatePacer(RateLimit(1000)), 20.0) for _ in range(9)]

    accepted, refused = map(sum, zip(*run(main()), strict=True))
    assert refused == 0
    assert accepted > 0.95 * 1000 * 3


def test_busy_loop() -> None:
    """A loop that is blocked for 30 of every 50 ms still reaches 99 % of the pace."""
    loop = BusyLoop(noop_cycles=0)
    limit = RateLimit(1000)
    sent = 0

    async def hog() -> None:
        while True:
            loop.block(0.03)
            await asyncio.sleep(0.02)

    async def work(pacer: RatePacer) -> None:
        nonlocal sent
        while True:
            pacer.record_success(await pacer.acquire())
            sent += 1
            await asyncio.sleep(0.05)

    async def main() -> float:
        pacer = RatePacer(limit)
        tasks = [asyncio.create_task(hog()), *(asyncio.create_task(work(pacer)) for _ in range(32))]
        began = loop.time()
        while loop.time() < began + 120:
            await asyncio.sleep(0.01)
        elapsed = loop.time() - began
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return elapsed

    try:
        elapsed = loop.run_until_complete(main())
    finally:
        loop.close()
    assert sent >= 0.99 * RateSchedule.of(limit).rate * elapsed


def test_blocked_loop() -> None:
    """After ten blocked seconds no more requests leave at once than the schedule permits."""
    loop = BusyLoop(noop_cycles=0)

    async def main() -> list[float]:
        pacer = RatePacer(RateLimit(1000))
        sent: list[float] = []

        async def one() -> None:
            await pacer.acquire()
            sent.append(loop.time())

        tasks = [asyncio.create_task(one()) for _ in range(100)]
        await asyncio.sleep(0.5)
        loop.block(10.0)
        await asyncio.gather(*tasks)
        return sent

    try:
        sent = loop.run_until_complete(main())
    finally:
        loop.close()
    resumed = next(at for at in sent if at > 10)
    allowed = NETWORK_JITTER * 1000 / 60 + 5 + 1
    assert sum(resumed <= at < resumed + 0.001 for at in sent) <= allowed


def test_order() -> None:
    """Tasks leave in the order of their calls, also across a pause."""

    async def main() -> list[int]:
        pacer = RatePacer(limiter=limiter(600))
        order: list[int] = []

        async def one(number: int) -> None:
            pacer.record_success(await pacer.acquire())
            order.append(number)

        tasks = [asyncio.create_task(one(number)) for number in range(50)]
        await asyncio.sleep(1.0)
        pacer.pause(3.0)
        await asyncio.gather(*tasks)
        return order

    assert run(main()) == list(range(50))


class SlowPacer:
    """A pacer of the caller that takes three seconds for each request, and counts cancellations."""

    def __init__(self) -> None:
        self.calls = self.cancelled = 0

    async def acquire(self) -> None:
        self.calls += 1
        try:
            await asyncio.sleep(3)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def pause(self, seconds: float) -> None:
        pass


def test_gate_that_closes_during_acquire() -> None:
    """A request that waits in the caller's pacer when the gate closes queues again, and leaves as the probe."""

    async def main() -> tuple[list[tuple[float, bool]], SlowPacer]:
        loop, inner = asyncio.get_running_loop(), SlowPacer()
        pacer = RatePacer(inner=inner, limiter=RateLimiter(None, rng=NoJitter()))
        left: list[tuple[float, bool]] = []

        async def one() -> None:
            permit = await pacer.acquire()
            left.append((loop.time() - began, permit.probe))
            pacer.record_success(permit)

        first = await pacer.acquire()
        began = loop.time()
        tasks = [asyncio.create_task(one()) for _ in range(2)]
        await asyncio.sleep(1)
        pacer.record_throttled(first, 20.0)
        await asyncio.gather(*tasks)
        return left, inner

    left, inner = run(main())
    assert [at for at, _ in left] == pytest.approx([24.0, 27.0])
    assert [probe for _, probe in left] == [True, False]
    assert (inner.calls, inner.cancelled) == (5, 2)


@pytest.mark.parametrize("what", ["outage", "pause", "longer pause for the probe"])
def test_pause_during_acquire(what: str) -> None:
    """An outage, a pause and a longer pause hold back requests that wait in the caller's pacer."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        pacer = RatePacer(inner=SlowPacer(), limiter=RateLimiter(None, rng=NoJitter()))
        permits = await asyncio.gather(*(pacer.acquire() for _ in range(OUTAGE_FAILURES)))
        began = loop.time()
        if what == "longer pause for the probe":
            pacer.record_throttled(permits[0], None)
            began += COOLDOWNS[0]
        task = asyncio.create_task(pacer.acquire())
        await asyncio.sleep(began + 1 - loop.time())
        match what:
            case "outage":
                for permit in permits:
                    pacer.record_failure(permit)
            case "pause":
                pacer.pause(OUTAGE_PAUSES[0])
            case _:
                pacer.record_throttled(permits[1], OUTAGE_PAUSES[0])
        permit = await task
        assert permit.probe is (what != "pause")
        return loop.time() - began

    assert run(main()) == pytest.approx(1 + OUTAGE_PAUSES[0] + 3)


def test_order_after_a_closed_gate() -> None:
    """Requests that waited in the caller's pacer when the gate closed leave before later ones."""

    class Serial(SlowPacer):
        def __init__(self) -> None:
            super().__init__()
            self.turn = asyncio.Lock()

        async def acquire(self) -> None:
            async with self.turn:
                await super().acquire()

    async def main() -> list[int]:
        pacer = RatePacer(inner=Serial(), limiter=RateLimiter(None, rng=NoJitter()))
        order: list[int] = []

        async def one(number: int) -> None:
            permit = await pacer.acquire()
            order.append(number)
            pacer.record_success(permit)

        first = await pacer.acquire()
        tasks = []
        for number in range(10):
            if number == 5:
                pacer.record_throttled(first, None)
            tasks.append(asyncio.create_task(one(number)))
            await asyncio.sleep(0.01)
        await asyncio.gather(*tasks)
        return order

    assert run(main()) == list(range(10))


def test_cancellation_while_the_gate_closes() -> None:
    """A task that is cancelled when the gate closes ends, and blocks no other."""

    async def main() -> int:
        pacer = RatePacer(inner=SlowPacer(), limiter=RateLimiter(None, rng=NoJitter()))
        first = await pacer.acquire()
        tasks = [asyncio.create_task(pacer.acquire()) for _ in range(4)]
        await asyncio.sleep(1)
        tasks[0].cancel()
        pacer.record_throttled(first, None)
        tasks[1].cancel()
        await asyncio.sleep(COOLDOWNS[0] + 1)  # the probe waits in the caller's pacer now
        tasks[2].cancel()
        permit = await tasks[3]
        assert permit.probe
        return sum(task.cancelled() for task in tasks)

    assert run(main()) == 3


def test_error_of_the_callers_pacer() -> None:
    """An exception of the caller's pacer is raised unchanged, a `CancelledError` too, and costs no slot."""

    class Broken(SlowPacer):
        error: BaseException = OSError("the store is gone")

        async def acquire(self) -> None:
            raise self.error

    async def main() -> None:
        inner = Broken()
        pacer = RatePacer(inner=inner, limiter=RateLimiter(None, rng=NoJitter()))
        with pytest.raises(OSError, match="the store is gone"):
            await pacer.acquire()
        inner.error = asyncio.CancelledError()
        with pytest.raises(asyncio.CancelledError):
            await pacer.acquire()
        assert pacer.waiting == 0

    run(main())


def test_slot_while_the_gate_closes() -> None:
    """A 429 between the slot and the wake-up of its task holds the request back."""

    async def main() -> tuple[float, bool]:
        loop = asyncio.get_running_loop()
        pacer = RatePacer(limiter=limiter(60))
        first = await pacer.acquire()
        task = asyncio.create_task(pacer.acquire())
        await asyncio.sleep(0)
        next_slot_at = pacer.limiter.next_slot_at(loop.time())
        assert next_slot_at is not None
        # Called behind the timer of the pacer, in the same turn of the loop, and before the task wakes.
        loop.call_at(next_slot_at, pacer.record_throttled, first, None)
        permit = await task
        return loop.time() - next_slot_at, permit.probe

    wait, probe = run(main())
    assert probe
    assert wait == pytest.approx(COOLDOWNS[0])
