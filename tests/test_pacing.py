"""Pacing: the pace of a limit, refusals, outages; decisions as tables, the rest in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async import Pacer, RateLimit, RatePacer
from harness_async.pacing import ARRIVAL_SPREAD, COOLDOWNS, OUTAGE_FAILURES, OUTAGE_PAUSES, Pace, Slot, Throttle
from harness_async.testing import Bucket, FixedWindow, SlidingCounter, SlidingWindow
from tests.virtual import BusyLoop, run


class Server(Protocol):
    """A rate limit in virtual time."""

    def allow(self, now: float) -> bool:
        """Say yes or no."""
        ...


class NoJitter:
    """Jitter of nothing."""

    def random(self) -> float:
        return 0.0


def throttle(requests: int = 1000, per: float = 60.0) -> Throttle:
    return Throttle(RateLimit(requests, per), rng=NoJitter())


# -- the pace ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requests", "burst", "share"), [(1000, 5, 0.99), (400, 2, 0.99), (100, 1, 0.985), (10, 1, 0.89)]
)
def test_the_pace_leaves_room_for_burst_and_spread(requests: int, burst: int, share: float) -> None:
    """The rate that just fits a limit loses a hundredth of it at the published limits, and never exceeds it."""
    pace = Pace.of(RateLimit(requests, 60.0))
    assert pace.burst == burst
    assert share <= pace.rate * 60.0 / requests < 1.0


@given(
    requests=st.integers(1, 2000),
    per=st.floats(0.5, 120.0),
    gaps=st.lists(st.floats(0.0, 5.0), min_size=1, max_size=200),
)
@settings(max_examples=60, deadline=None)
def test_no_window_sees_more_than_the_limit(requests: int, per: float, gaps: list[float]) -> None:
    """Whatever the demand, no half-open window of the limit's length counts more slots than the limit."""
    machine, now, taken = throttle(requests, per), 0.0, list[float]()
    for gap in gaps:
        now += gap
        due = machine.due(now)
        assert due is not None
        machine.take(due)
        taken.append(due)
        now = max(now, due)
    for index, begin in enumerate(taken):
        assert sum(begin <= at < begin + per for at in taken[index:]) <= requests


def test_a_slot_after_a_quiet_spell_comes_at_once() -> None:
    """Slots are no debt of the past: after a pause the burst is there, and no more than the burst."""
    machine = throttle(1000)
    machine.take(0.0)
    due = []
    for _ in range(7):
        at = machine.due(100.0)
        assert at is not None
        machine.take(at)
        due.append(at)
    assert due[:5] == [100.0] * 5
    assert due[5] == pytest.approx(100.0 + 1 / machine.rate(0))


# -- refusals ------------------------------------------------------------------------------------------------------


def test_the_first_refusal_closes_the_gate_and_later_ones_of_the_same_moment_change_nothing() -> None:
    """Requests that were under way when the gate closed are old news: they neither reopen nor lengthen it."""
    machine = throttle()
    first, second, third = (machine.take(0.0) for _ in range(3))
    machine.refused(first, 1.0)
    assert machine.due(1.0) == 1.0 + COOLDOWNS[0]
    machine.refused(second, 2.0)
    machine.accepted(third, 3.0)
    assert machine.due(3.0) == 1.0 + COOLDOWNS[0]
    assert not machine.is_open


def test_after_a_cooldown_one_probe_leaves_and_nothing_else_until_it_is_answered() -> None:
    """The gate is half open for one request; its acceptance opens it."""
    machine = throttle()
    machine.refused(machine.take(0.0), 0.0)
    probe = machine.take(5.0)
    assert probe.probe
    assert machine.due(6.0) is None
    machine.accepted(probe, 7.0)
    assert machine.is_open
    due = machine.due(7.0)
    assert due is not None
    assert due > 7.0, "no burst right after a refusal"


def test_refused_probes_wait_longer_each_time() -> None:
    """Cooldowns grow to a minute and stay there."""
    machine, now, waits = throttle(), 0.0, list[float]()
    slot = machine.take(now)
    for _ in range(7):
        machine.refused(slot, now)
        waits.append(machine.open_at - now)
        now = machine.open_at
        slot = machine.take(now)
    assert waits == [*COOLDOWNS, COOLDOWNS[-1], COOLDOWNS[-1]]


def test_a_probe_that_is_given_up_lets_another_go() -> None:
    """A cancelled probe does not leave the gate shut for ever."""
    machine = throttle()
    machine.refused(machine.take(0.0), 0.0)
    machine.abandoned(machine.take(5.0))
    assert machine.due(6.0) == 6.0


@given(
    st.lists(
        st.tuples(st.sampled_from(["refuse", "refuse_after", "pause", "probe", "accept"]), st.floats(0, 30)),
        max_size=40,
    )
)
@settings(max_examples=100, deadline=None)
def test_a_cooldown_only_ever_moves_later(steps: list[tuple[str, float]]) -> None:
    """Nothing that happens makes the gate open earlier than it was going to."""
    machine, now = throttle(), 0.0
    old = machine.take(now)
    latest = machine.open_at
    for step, amount in steps:
        now += amount
        due = machine.due(now)
        match step:
            case "refuse":
                machine.refused(old, now)
            case "refuse_after":
                machine.refused(old, now, amount)
            case "pause":
                machine.pause(amount, now)
            case "probe" if due is not None:
                old = machine.take(max(now, due))
            case "accept":
                machine.accepted(old, now)
        assert machine.open_at >= latest
        latest = machine.open_at


def test_retry_after_is_never_undercut() -> None:
    """A server that says how long is believed, whichever request it said it to."""
    machine = throttle()
    first, second = machine.take(0.0), machine.take(0.0)
    machine.refused(first, 0.0, 30.0)
    assert machine.open_at == 30.0
    machine.refused(second, 1.0, 60.0)
    assert machine.open_at == 61.0


def test_the_learned_rate_comes_from_what_was_accepted_and_climbs_back() -> None:
    """After a refusal the pace is nine tenths of what the server took in the window, then grows to the set one."""
    machine = throttle(1000)
    for second in range(60):
        for _ in range(5):
            machine.accepted(machine.take(float(second), waited=True), float(second))
    machine.refused(machine.take(59.0, waited=True), 59.0)
    machine.accepted(machine.take(64.0), 64.0)
    assert machine.rate(64.0) == pytest.approx(0.9 * 300 / 60, rel=0.02)
    assert machine.rate(64.0) < machine.rate(100.0) < machine.rate(10_000.0)
    assert machine.rate(10_000.0) == Pace.of(RateLimit(1000)).rate


def test_few_answers_are_no_measure_of_the_server() -> None:
    """Who is refused right after beginning, or while sending little, goes on at about half the pace, not at a crawl."""
    machine = throttle(1000)
    machine.refused(machine.take(0.0), 0.3)
    machine.accepted(machine.take(6.0), 6.0)
    assert machine.rate(6.0) == pytest.approx(0.45 * Pace.of(RateLimit(1000)).rate)
    idle = throttle(1000)
    for minute in range(10):
        idle.accepted(idle.take(minute * 60.0), minute * 60.0)
    idle.refused(idle.take(600.0), 600.1)
    assert idle.rate(600.1) == pytest.approx(0.45 * Pace.of(RateLimit(1000)).rate)


# -- outages -------------------------------------------------------------------------------------------------------


def test_an_outage_is_a_ratio_not_a_count() -> None:
    """A tenth of failing answers closes nothing, however long; sixteen of the latest twenty close the gate."""
    machine = throttle(100_000, 1.0)
    for index in range(500):
        slot = machine.take(0.0)
        (machine.failed if index % 10 == 0 else machine.accepted)(slot, float(index))
    assert machine.is_open
    for _ in range(OUTAGE_FAILURES):
        machine.failed(machine.take(500.0), 500.0)
    assert not machine.is_open
    assert machine.open_at == 500.0 + OUTAGE_PAUSES[0]


def test_an_outage_teaches_no_rate() -> None:
    """When the server is back the set pace is back: an outage says nothing of the limit."""
    machine = throttle()
    for _ in range(OUTAGE_FAILURES):
        machine.failed(machine.take(0.0), 0.0)
    machine.accepted(machine.take(2.0), 2.0)
    assert machine.rate(2.0) == Pace.of(RateLimit(1000)).rate


def test_without_a_limit_nothing_waits_but_the_gate_still_closes() -> None:
    """Pacing switched off is no leave to knock on a closed door."""
    machine = Throttle(None, rng=NoJitter())
    for _ in range(1000):
        assert machine.due(0.0) == 0.0
        machine.take(0.0)
    machine.refused(machine.take(0.0), 0.0)
    assert machine.due(0.0) == COOLDOWNS[0]


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
        self.accepted = self.refused = 0
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
                self.accepted += 1
                self.pacer.accepted(slot)
            else:
                await asyncio.sleep(0.05)
                self.refused += 1
                self.log.append((loop.time(), "refused"))
                self.pacer.refused(slot, None)

    async def run(self, workers: int = 32) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self.work())


def crowd(server: Server, limit: int, *, seed: int = 1, minutes: float = 20.0) -> Crowd:
    pacer = RatePacer(throttle=Throttle(RateLimit(limit), rng=random.Random(seed)))
    made = Crowd(server, pacer, seed, minutes * 60)
    run(made.run())
    return made


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize(("limit", "share"), [(1000, 0.99), (400, 0.989)])
def test_a_known_limit_is_used_to_99_percent_without_a_refusal(kind: str, limit: int, share: float) -> None:
    """However the server counts, saturated workers get 99 % of the limit and are never refused."""
    server = SERVERS[kind](limit, random.Random(7))
    got = crowd(server, limit)
    assert got.refused == 0
    assert got.accepted >= share * limit * 20


@pytest.mark.parametrize("kind", ["fixed window", "sliding window", "sliding counter"])
@pytest.mark.parametrize("seed", [1, 2])
def test_an_unknown_limit_is_found(kind: str, seed: int) -> None:
    """Believing 1000 where 400 are allowed costs at most a tenth of them and 60 refusals an hour."""
    got = crowd(SERVERS[kind](400, random.Random(seed)), 1000, seed=seed, minutes=60)
    assert got.accepted >= 0.9 * 400 * 60
    assert got.refused <= 60


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
    assert got.refused == 0
    assert got.accepted > 0.95 * 1000 * 3


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
            pacer.accepted(await pacer.acquire())
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
    assert sent >= 0.99 * Pace.of(limit).rate * elapsed


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
    allowed = ARRIVAL_SPREAD * 1000 / 60 + 5 + 1
    assert sum(resumed <= at < resumed + 0.001 for at in sent) <= allowed


def test_first_come_first_served() -> None:
    """Tasks leave in the order in which they asked, across a closing of the gate too."""

    async def main() -> list[int]:
        pacer = RatePacer(throttle=throttle(600))
        order: list[int] = []

        async def one(number: int) -> None:
            pacer.accepted(await pacer.acquire())
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
                pacer.refused(slot, None)
            else:
                pacer.accepted(slot)

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
        pacer.accepted(await pacer.acquire())
        return waiting, loop.time() - began, passed

    waiting, wait, passed = run(main())
    assert waiting == 0
    assert wait < 1.0, "the gate opens again and one slot at most is lost"
    assert passed > 0


def test_30_seconds_of_outage_waste_few_requests() -> None:
    """With everything answered by 503 for half a minute, all 3,000 requests succeed and fewer than 40 are wasted."""

    async def main() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        pacer = RatePacer(throttle=Throttle(RateLimit(1000), rng=random.Random(3)))
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
                        pacer.failed(slot)
                        await asyncio.sleep(rng.random() * min(20.0, 0.5 * 2**retry))
                        retry += 1
                    else:
                        pacer.accepted(slot)
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
        slots: list[Slot] = [await pacer.acquire() for _ in range(3)]
        pacer.refused(slots[0], 7.0)
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
        return sum(one.accepted for one in crowds), sum(one.refused for one in crowds)

    accepted, refused = run(main())
    assert refused == 0
    assert accepted >= 0.98 * 4000
