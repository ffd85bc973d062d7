"""Pacing: many tasks at one pace, refused, failed and cancelled; in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pytest

from harness_async import Pacer, RateLimit, RatePacer
from harness_async.http.rate_limit import (
    COOLDOWNS,
    NETWORK_JITTER,
    OUTAGE_FAILURES,
    OUTAGE_PAUSES,
    Permit,
    RateLimiter,
    RateSchedule,
)
from harness_async.testing import Bucket, FixedWindow, SlidingCounter, SlidingWindow
from tests.support.virtual import BusyLoop, run


class Server(Protocol):
    """A rate limit in virtual time."""

    def allow(self, now: float) -> bool:
        """Say yes or no."""
        ...


class NoJitter:
    """Jitter of nothing."""

    def random(self) -> float:
        return 0.0


def limiter(requests: int = 1000, per: float = 60.0) -> RateLimiter:
    return RateLimiter(RateLimit(requests, per), rng=NoJitter())


# -- many tasks, in virtual time -----------------------------------------------------------------------------------

SERVERS: dict[str, Callable[[int, random.Random], Server]] = {
    "fixed window": lambda limit, rng: FixedWindow(limit, phase=rng.uniform(0, 60)),
    "fixed window, refusals counted": lambda limit, rng: FixedWindow(
        limit, phase=rng.uniform(0, 60), count_refused=True
    ),
    "sliding window": lambda limit, _: SlidingWindow(limit),
    "sliding counter": lambda limit, _: SlidingCounter(limit),
    "bucket of the limit": lambda limit, _: Bucket(limit),
    "bucket of a twentieth": lambda limit, _: Bucket(limit, capacity=limit / 20),
}


class Crowd:
    """Workers that send without rest, and what became of it."""

    def __init__(self, server: Server, pacer: RatePacer, seed: int, seconds: float) -> None:
        self.server, self.pacer, self.seconds = server, pacer, seconds
        self.rng = random.Random(seed)
        self.record_success = self.record_throttled = 0
        self.log: list[tuple[float, str]] = []

    async def work(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.seconds
        while loop.time() < end:
            slot = await self.pacer.acquire()
            self.log.append((loop.time(), "probe" if slot.probe else "sent"))
            await asyncio.sleep(0.03 + self.rng.expovariate(50))
            if self.server.allow(loop.time()):
                await asyncio.sleep(0.2 + self.rng.expovariate(10))
                self.record_success += 1
                self.pacer.record_success(slot)
            else:
                await asyncio.sleep(0.05)
                self.record_throttled += 1
                self.log.append((loop.time(), "refused"))
                self.pacer.record_throttled(slot, None)

    async def run(self, workers: int = 32) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self.work())


def crowd(server: Server, limit: int, *, seed: int = 1, minutes: float = 20.0) -> Crowd:
    pacer = RatePacer(limiter=RateLimiter(RateLimit(limit), rng=random.Random(seed)))
    made = Crowd(server, pacer, seed, minutes * 60)
    run(made.run())
    return made


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize(("limit", "share"), [(1000, 0.99), (400, 0.989)])
def test_a_known_limit_is_used_to_99_percent_without_a_refusal(kind: str, limit: int, share: float) -> None:
    """However the server counts, saturated workers get 99 % of the limit and are never refused."""
    server = SERVERS[kind](limit, random.Random(7))
    got = crowd(server, limit)
    assert got.record_throttled == 0
    assert got.record_success >= share * limit * 20


@pytest.mark.parametrize("kind", ["fixed window", "sliding window", "sliding counter"])
@pytest.mark.parametrize("seed", [1, 2])
def test_an_unknown_limit_is_found(kind: str, seed: int) -> None:
    """Believing 1000 where 400 are allowed costs at most a tenth of them and 60 refusals an hour."""
    got = crowd(SERVERS[kind](400, random.Random(seed)), 1000, seed=seed, minutes=60)
    assert got.record_success >= 0.9 * 400 * 60
    assert got.record_throttled <= 60


def test_nothing_is_sent_between_a_refusal_and_the_probe() -> None:
    """From the first refusal of an episode until its probe is answered, only the probe leaves."""
    got = crowd(SERVERS["sliding window"](400, random.Random(1)), 1000, minutes=30)
    closed_at: float | None = None
    probes = 0
    for at, what in sorted(got.log, key=lambda entry: entry[0]):
        if what == "refused" and closed_at is None:
            closed_at = at
        elif what == "probe":
            assert closed_at is not None
            assert at >= closed_at + COOLDOWNS[0]
            probes += 1
            closed_at = None
        elif what == "sent":
            assert closed_at is None, f"sent {at - closed_at:.1f} s after a refusal"
    assert probes > 2


def test_a_restarted_process_is_not_refused() -> None:
    """A process that restarts every twenty seconds without memory stays within the limit: the burst is small."""

    async def restart(server: Server) -> Crowd:
        total = Crowd(server, RatePacer(RateLimit(1000)), 1, 20.0)
        for _ in range(9):
            total.pacer = RatePacer(RateLimit(1000))
            await total.run()
        return total

    got = run(restart(FixedWindow(1000, phase=13.0)))
    assert got.record_throttled == 0
    assert got.record_success > 0.95 * 1000 * 3


def test_a_busy_loop_loses_no_slots() -> None:
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


def test_a_long_stall_does_not_end_in_a_burst() -> None:
    """A loop that stood still for ten seconds catches up with no more than the spread allows."""
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


def test_first_come_first_served() -> None:
    """Tasks leave in the order in which they asked, across a closing of the gate too."""

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


@pytest.mark.parametrize("seed", range(5))
def test_cancelled_waiters_take_no_slot(seed: int) -> None:
    """Ten thousand tasks cancelled at random moments leave the queue empty and the schedule whole."""

    async def main() -> tuple[int, float, int]:
        rng = random.Random(seed)
        pacer = RatePacer(RateLimit(6000))
        loop = asyncio.get_running_loop()
        passed = 0

        async def one() -> None:
            nonlocal passed
            slot = await pacer.acquire()
            passed += 1
            if rng.random() < 0.1:
                pacer.record_throttled(slot, None)
            else:
                pacer.record_success(slot)

        tasks: list[asyncio.Task[None]] = []
        for _ in range(2000):
            tasks.append(asyncio.create_task(one()))
            if rng.random() < 0.3:
                await asyncio.sleep(rng.uniform(0, 0.05))
            if rng.random() < 0.8:
                rng.choice(tasks[-50:]).cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        waiting = pacer.waiting
        await asyncio.sleep(120)
        began = loop.time()
        pacer.record_success(await pacer.acquire())
        return waiting, loop.time() - began, passed

    waiting, wait, passed = run(main())
    assert waiting == 0
    assert wait < 1.0, "the gate opens again and one slot at most is lost"
    assert passed > 0


def test_30_seconds_of_outage_waste_few_requests() -> None:
    """With everything answered by 503 for half a minute, all 3,000 requests succeed and fewer than 40 are wasted."""

    async def main() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        pacer = RatePacer(limiter=RateLimiter(RateLimit(1000), rng=random.Random(3)))
        rng = random.Random(3)
        done = wasted = 0
        jobs = iter(range(3000))

        async def work() -> None:
            nonlocal done, wasted
            for _ in jobs:
                retry = 0
                while True:
                    slot = await pacer.acquire()
                    await asyncio.sleep(0.2 + rng.expovariate(10))
                    if 60 <= loop.time() < 90:
                        wasted += 1
                        pacer.record_failure(slot)
                        await asyncio.sleep(rng.random() * min(20.0, 0.5 * 2**retry))
                        retry += 1
                    else:
                        pacer.record_success(slot)
                        done += 1
                        break

        await asyncio.gather(*(work() for _ in range(32)))
        return done, wasted

    done, wasted = run(main())
    assert done == 3000
    assert wasted < 40


# -- pacers of others ----------------------------------------------------------------------------------------------


class Shared:
    """A pacer as a user would write it, over a store that several processes share."""

    def __init__(self) -> None:
        self.acquired = 0
        self.paused: list[float] = []

    async def acquire(self) -> None:
        await asyncio.sleep(0.01)
        self.acquired += 1

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.paused.append(seconds)


def test_a_pacer_of_the_callers_is_asked_for_each_send_and_told_of_refusals() -> None:
    """The gate is ours, the rate is theirs; `pause` may be a coroutine function."""

    async def main() -> Shared:
        shared = Shared()
        pacer = RatePacer(inner=shared)
        slots: list[Permit] = [await pacer.acquire() for _ in range(3)]
        pacer.record_throttled(slots[0], 7.0)
        await asyncio.sleep(0.1)
        return shared

    shared = run(main())
    assert isinstance(shared, Pacer)
    assert shared.acquired == 3
    assert shared.paused == [pytest.approx(7.0, abs=0.1)]


def test_two_crowds_on_one_pacer_share_its_budget() -> None:
    """Two clients of one key that pass the same pacer stay within one limit."""

    async def main() -> tuple[int, int]:
        server, pacer = SlidingWindow(400), RatePacer(RateLimit(400))
        crowds = [Crowd(server, pacer, seed, 600.0) for seed in (1, 2)]
        work: list[Coroutine[Any, Any, None]] = [one.run(16) for one in crowds]
        await asyncio.gather(*work)
        return sum(one.record_success for one in crowds), sum(one.record_throttled for one in crowds)

    record_success, record_throttled = run(main())
    assert record_throttled == 0
    assert record_success >= 0.98 * 4000


class Tickets:
    """A pacer of a caller's own that takes three seconds over each request, and notes who gave up."""

    def __init__(self) -> None:
        self.asked = self.given_up = 0

    async def acquire(self) -> None:
        self.asked += 1
        try:
            await asyncio.sleep(3)
        except asyncio.CancelledError:
            self.given_up += 1
            raise

    def pause(self, seconds: float) -> None:
        pass


def test_a_request_in_the_callers_pacer_does_not_leave_through_a_closed_gate() -> None:
    """The gate closes while a request waits elsewhere: it is taken out, queues again and leaves as the probe."""

    async def main() -> tuple[list[tuple[float, bool]], Tickets]:
        loop, tickets = asyncio.get_running_loop(), Tickets()
        pacer = RatePacer(inner=tickets, limiter=RateLimiter(None, rng=NoJitter()))
        left: list[tuple[float, bool]] = []

        async def one() -> None:
            slot = await pacer.acquire()
            left.append((loop.time() - began, slot.probe))
            pacer.record_success(slot)

        first = await pacer.acquire()
        began = loop.time()
        tasks = [asyncio.create_task(one()) for _ in range(2)]
        await asyncio.sleep(1)
        pacer.record_throttled(first, 20.0)
        await asyncio.gather(*tasks)
        return left, tickets

    left, tickets = run(main())
    assert [at for at, _ in left] == pytest.approx([24.0, 27.0])
    assert [probe for _, probe in left] == [True, False]
    assert (tickets.asked, tickets.given_up) == (5, 2)


@pytest.mark.parametrize("what", ["outage", "pause", "longer pause for the probe"])
def test_whatever_closes_the_gate_holds_those_in_the_callers_pacer(what: str) -> None:
    """An outage and a pause hold back who waits elsewhere, as a refusal does; so does one that gets longer."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        pacer = RatePacer(inner=Tickets(), limiter=RateLimiter(None, rng=NoJitter()))
        slots = await asyncio.gather(*(pacer.acquire() for _ in range(OUTAGE_FAILURES)))
        began = loop.time()
        if what == "longer pause for the probe":
            pacer.record_throttled(slots[0], None)
            began += COOLDOWNS[0]
        task = asyncio.create_task(pacer.acquire())
        await asyncio.sleep(began + 1 - loop.time())
        match what:
            case "outage":
                for slot in slots:
                    pacer.record_failure(slot)
            case "pause":
                pacer.pause(OUTAGE_PAUSES[0])
            case _:
                pacer.record_throttled(slots[1], OUTAGE_PAUSES[0])
        slot = await task
        assert slot.probe is (what != "pause")
        return loop.time() - began

    assert run(main()) == pytest.approx(1 + OUTAGE_PAUSES[0] + 3)


def test_who_was_taken_out_of_the_callers_pacer_keeps_the_place() -> None:
    """Those that waited elsewhere when the gate closed leave before those that asked while it was closed."""

    class Turnstile(Tickets):
        def __init__(self) -> None:
            super().__init__()
            self.turn = asyncio.Lock()

        async def acquire(self) -> None:
            async with self.turn:
                await super().acquire()

    async def main() -> list[int]:
        pacer = RatePacer(inner=Turnstile(), limiter=RateLimiter(None, rng=NoJitter()))
        order: list[int] = []

        async def one(number: int) -> None:
            slot = await pacer.acquire()
            order.append(number)
            pacer.record_success(slot)

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


def test_a_closing_and_a_cancellation_at_once_cancel() -> None:
    """A caller that gives up in the moment in which the gate closes is let go, and blocks nobody."""

    async def main() -> int:
        pacer = RatePacer(inner=Tickets(), limiter=RateLimiter(None, rng=NoJitter()))
        first = await pacer.acquire()
        tasks = [asyncio.create_task(pacer.acquire()) for _ in range(4)]
        await asyncio.sleep(1)
        tasks[0].cancel()
        pacer.record_throttled(first, None)
        tasks[1].cancel()
        await asyncio.sleep(COOLDOWNS[0] + 1)  # the probe waits in the caller's pacer now
        tasks[2].cancel()
        slot = await tasks[3]
        assert slot.probe
        return sum(task.cancelled() for task in tasks)

    assert run(main()) == 3


def test_a_callers_pacer_that_cannot_be_interrupted_opens_no_gate() -> None:
    """Whoever comes out of such a pacer after a closing queues again, however long ago that was."""

    class Stubborn(Tickets):
        async def acquire(self) -> None:
            loop = asyncio.get_running_loop()
            end = loop.time() + 10
            while loop.time() < end:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(end - loop.time())

    async def main() -> tuple[float, bool]:
        loop = asyncio.get_running_loop()
        pacer = RatePacer(inner=Stubborn(), limiter=RateLimiter(None, rng=NoJitter()))
        first = await pacer.acquire()
        began = loop.time()
        task = asyncio.create_task(pacer.acquire())
        await asyncio.sleep(1)
        pacer.record_throttled(first, None)
        slot = await task
        return loop.time() - began, slot.probe

    elapsed, probe = run(main())
    assert probe
    assert elapsed == pytest.approx(20.0)


def test_an_error_of_the_callers_pacer_is_the_callers() -> None:
    """What a caller's pacer raises comes out as it is, a cancellation of its own making too, and costs no slot."""

    class TransportFailure(Tickets):
        error: BaseException = OSError("the store is gone")

        async def acquire(self) -> None:
            raise self.error

    async def main() -> None:
        inner = TransportFailure()
        pacer = RatePacer(inner=inner, limiter=RateLimiter(None, rng=NoJitter()))
        with pytest.raises(OSError, match="the store is gone"):
            await pacer.acquire()
        inner.error = asyncio.CancelledError()
        with pytest.raises(asyncio.CancelledError):
            await pacer.acquire()
        assert pacer.waiting == 0

    run(main())


def test_a_slot_given_in_the_turn_in_which_the_gate_closes_is_not_used() -> None:
    """A refusal between the slot and the task that waits for it holds the request back."""

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
        slot = await task
        return loop.time() - next_slot_at, slot.probe

    wait, probe = run(main())
    assert probe
    assert wait == pytest.approx(COOLDOWNS[0])
