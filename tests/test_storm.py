"""Storms over real HTTP: limits, refusals, outages and ten thousand cancellations, with every request looked at.

What takes minutes runs in a loop with real sockets and a clock of its own, so that the true limits, cooldowns and
backoffs are tested and nothing is waited for.
"""

from __future__ import annotations

import asyncio
import collections
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
from attrs import define, field

from harness_async import (
    Event,
    GateClosed,
    GateOpened,
    HarnessClient,
    HarnessError,
    RateLimit,
    RatePacer,
    RequestSent,
    ResponseReceived,
    RetryPolicy,
    Timeouts,
)
from harness_async.http.rate_limit import COOLDOWNS, OUTAGE_FAILURES, OUTAGE_PAUSES, RateLimiter
from harness_async.testing import (
    Bucket,
    CutBody,
    Delay,
    FakeHarness,
    Fault,
    FixedWindow,
    Reset,
    SlidingCounter,
    SlidingWindow,
    Status,
    TooManyRequests,
)
from tests.support.connections import connections_in_use, is_idle
from tests.support.virtual import run_jumping

Connect: TypeAlias = Callable[..., HarnessClient]

FOREVER = Timeouts(connect=None, read=None, deadline=None)


class NoJitter:
    """Jitter of nothing."""

    def random(self) -> float:
        return 0.0


@define(eq=False)
class Scene:
    """A server, clients of it, and what was seen on both sides in the time of the loop."""

    fake: FakeHarness
    arrivals: list[float] = field(factory=list)
    seen: list[tuple[float, Event]] = field(factory=list)
    clients: list[HarnessClient] = field(factory=list)

    def connect(self, **options: Any) -> HarnessClient:
        """Make a client that is watched, by default one that never gives up."""

        def watch(event: Event) -> None:
            self.seen.append((asyncio.get_running_loop().time(), event))

        client = HarnessClient(
            base_url=self.fake.url,
            api_key=self.fake.api_key,
            **{"on_event": watch, "timeouts": FOREVER, **options},
        )
        self.clients.append(client)
        return client

    def moments(self, kind: type[Event]) -> list[float]:
        """Give the times of one kind of event."""
        return [at for at, event in self.seen if isinstance(event, kind)]


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    """Serve the organization "default", note each arrival, and close everything at the end."""
    fake = FakeHarness()
    fake.add_organization("default", "Default")
    made = Scene(fake)
    loop = asyncio.get_running_loop()
    fake.rate_clock = loop.time
    fake.before_request = lambda _: made.arrivals.append(loop.time())
    async with fake:
        yield made
        for client in made.clients:
            await client.close()


async def call(client: HarnessClient) -> None:
    """Make one call, and see that it is answered."""
    assert (await client.organizations.get("default")).identifier == "default"


async def calls(client: HarnessClient, count: int) -> None:
    """Make so many calls at once."""
    await asyncio.gather(*(call(client) for _ in range(count)))


async def crew(client: HarnessClient, count: int, workers: int = 32) -> None:
    """Make so many calls with so many callers, each of which sends without rest."""
    todo = iter(range(count))

    async def work() -> None:
        for _ in todo:
            await call(client)

    await asyncio.gather(*(work() for _ in range(workers)))


def free_limiter() -> RateLimiter:
    """Make a throttle that paces nothing: what holds requests back then is the gate."""
    return RateLimiter(None, rng=NoJitter())


# -- cancellation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, RateLimit(200, 1.0)], ids=["refusals", "pace"])
async def test_ten_thousand_cancelled_calls_leave_nothing_behind(
    fake: FakeHarness, connect: Connect, limit: RateLimit | None
) -> None:
    """However many calls are cancelled, wherever they are: places, pace, connections and tasks are all given back."""
    rng = random.Random(20)
    fake.faults.seed = 20
    fake.faults.add(Reset("before"), share=0.03)
    fake.faults.add(Reset("after_head"), share=0.03)
    fake.faults.add(CutBody(), share=0.03)
    fake.faults.add(Status(503), share=0.05)
    if limit is None:  # with a pace, refusals would teach a rate of next to nothing
        fake.faults.add(TooManyRequests("0.001"), share=0.03)
        fake.faults.add(TooManyRequests(), share=0.01)
    fake.faults.add(Delay(0.002), share=0.3)
    limiter = RateLimiter(limit, cooldowns=(0.001,), outage_pauses=(0.001,))
    pacer = RatePacer(limiter=limiter)
    client = connect(pacer=pacer, max_in_flight=8)
    before = asyncio.all_tasks()
    places: collections.Counter[str] = collections.Counter()
    ends: collections.Counter[str] = collections.Counter()
    while ends["CancelledError"] < 10_000:
        tasks = [asyncio.create_task(call(client)) for _ in range(100)]
        left = tasks.copy()
        rng.shuffle(left)
        while left:
            for _ in range(rng.randrange(12)):
                await asyncio.sleep(0)
            if rng.random() < 0.1:
                await asyncio.sleep(0.001)
            for task in left[-rng.randrange(1, 5) :]:
                task.cancel()
                left.remove(task)
            places["pace"] += pacer.waiting > 0
            places["gate"] += not limiter.is_open
            places["network"] += len(connections_in_use(client)) > 0
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            ends[type(outcome).__name__] += 1
    assert set(ends) == {"CancelledError", "NoneType"}
    assert min(places[place] for place in ("network", "gate" if limit is None else "pace")) > 0, "the calls got there"
    assert is_idle(client)
    fake.faults.clear()
    await call(client)
    assert limiter.is_open
    # Every place is still there: as many requests as there are places meet at the server.
    fake.faults.add(Delay(3600.0))
    meeting = [asyncio.create_task(call(client)) for _ in range(20)]
    met = len(fake.requests) + 8
    while len(fake.requests) < met:
        await asyncio.sleep(0.001)
    assert len(connections_in_use(client)) == 8
    for task in meeting:
        task.cancel()
    await asyncio.gather(*meeting, return_exceptions=True)
    assert len(fake.requests) == met
    assert is_idle(client)
    await client.close()
    await fake.close()
    assert asyncio.all_tasks() <= before


@pytest.mark.parametrize("how", ["cancelled", "out of time"])
def test_a_probe_that_is_given_up_before_it_goes_out_again_lets_no_second_one_out(how: str) -> None:
    """A probe whose connection was lost has failed; that its call then ends is no leave for a second probe."""

    async def main() -> list[float]:
        async with scene() as at:
            fake = at.fake
            pacer = RatePacer(limiter=free_limiter())
            first = at.connect(pacer=pacer, timeouts=Timeouts(deadline=8.0 if how == "out of time" else None))
            other = at.connect(pacer=pacer)
            fake.faults.add(TooManyRequests(), times=1)
            fake.faults.add(Reset("before"), times=1)
            fake.faults.add(Delay(20.0), when=lambda _: len(fake.requests) == 3)
            lost = asyncio.create_task(call(first))
            await asyncio.sleep(1.0)
            waiting = [asyncio.create_task(call(other)) for _ in range(5)]
            await asyncio.sleep(COOLDOWNS[0])  # the probe went out and its connection was lost
            assert len(at.arrivals) == 2
            await asyncio.sleep(OUTAGE_PAUSES[0] - 0.5)  # the next probe is under way
            assert len(at.arrivals) == 3
            if how == "cancelled":
                lost.cancel()
            await asyncio.gather(lost, return_exceptions=True)
            await asyncio.gather(*waiting)
            return at.arrivals

    arrivals = run_jumping(main())
    probe = arrivals[2]
    assert [when - probe for when in arrivals[3:] if when < probe + 20.0] == []


# -- limits ------------------------------------------------------------------------------------------------------------

LIMITS: dict[str, Callable[[int, float], Any]] = {
    "fixed window": lambda limit, per: FixedWindow(limit, per, phase=0.3 * per),
    "fixed window, refusals counted": lambda limit, per: FixedWindow(limit, per, count_refused=True),
    "sliding window": SlidingWindow,
    "sliding counter": SlidingCounter,
    "bucket": Bucket,
    "bucket of a twentieth": lambda limit, per: Bucket(limit, per, capacity=limit / 20),
}


async def saturate(kind: str, limit: RateLimit, count: int) -> None:
    """Let 32 callers make so many calls as fast as they may, and see that none is refused."""
    async with scene() as at:
        at.fake.rate_limit = LIMITS[kind](limit.requests, limit.per)
        client = at.connect(pacer=RatePacer(limit))
        await crew(client, count)
        assert client.stats.throttled == 0
        assert [request.status for request in at.fake.requests] == [200] * count
        assert client.stats.requests == count


@pytest.mark.parametrize("kind", LIMITS)
@pytest.mark.parametrize("limit", [RateLimit(100, 60.0), RateLimit(400, 60.0)], ids=["100", "400"])
def test_a_limit_per_minute_is_never_exceeded_over_http(kind: str, limit: RateLimit) -> None:
    """However the server counts its minute, 32 callers that send without rest see not one refusal."""
    run_jumping(saturate(kind, limit, 3 * limit.requests // 2))


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_after_a_refusal_only_the_probe_is_sent_until_it_is_answered() -> None:
    """From a 429 to the end of its cooldown nothing leaves, then one request, and the rest when that is answered."""

    async def main() -> Scene:
        async with scene() as at:
            fake = at.fake
            # The tenth request and its first two probes are refused; each probe's answer takes seven seconds.
            fake.faults.add(TooManyRequests(), when=lambda _: 10 <= len(fake.requests) <= 12)
            fake.faults.add(Delay(7.0), when=lambda _: 11 <= len(fake.requests) <= 13)
            client = at.connect(pacer=RatePacer(limiter=free_limiter()), max_in_flight=5)
            await calls(client, 60)
            assert client.stats.throttled == 3
            return at

    at = run_jumping(main())
    record_throttled = next(
        when for when, event in at.seen if isinstance(event, ResponseReceived) and event.status == 429
    )
    before = [when for when in at.arrivals if when <= record_throttled]
    probes = [when for when in at.arrivals if record_throttled < when < at.moments(GateOpened)[0]]
    after = at.arrivals[len(before) + len(probes) :]
    first = record_throttled + COOLDOWNS[0]
    second = first + 7.0 + COOLDOWNS[1]
    third = second + 7.0 + COOLDOWNS[2]
    assert len(before) <= 10 + 4, "the refused one, and those that were under way with it"
    assert probes == pytest.approx([first, second, third])
    assert at.moments(GateOpened) == pytest.approx([third + 7.0])
    assert len(before) + len(probes) + len(after) == 60 + 3
    assert min(after) >= third + 7.0
    assert len(at.moments(GateClosed)) == 3


def test_no_other_request_arrives_while_the_probe_is_unanswered() -> None:
    """However long the probe takes, and whoever asks meanwhile, its answer is waited for."""

    async def main() -> None:
        async with scene() as at:
            fake = at.fake
            client = at.connect(pacer=RatePacer(limiter=free_limiter()))
            fake.faults.add(TooManyRequests("3"), times=1)
            held = fake.faults.add(Delay(3600.0), when=lambda _: len(fake.requests) == 2)
            tasks = [asyncio.create_task(call(client)) for _ in range(1)]
            while not held.hits:
                await asyncio.sleep(0.1)
            for _ in range(200):
                tasks.append(asyncio.create_task(call(client)))
                await asyncio.sleep(17.0 if len(tasks) % 5 == 0 else 0)
                assert len(at.arrivals) == 2
            await asyncio.gather(*tasks)
            assert len(at.arrivals) == 1 + len(tasks)
            opened = at.moments(GateOpened)[0]
            assert at.arrivals[1] + 3600.0 == pytest.approx(opened)
            assert min(at.arrivals[2:]) >= opened

    run_jumping(main())


def test_a_refusal_of_one_client_holds_the_other() -> None:
    """Clients that share a pacer share its gate: what one is refused the other does not even try."""

    async def main() -> None:
        async with scene() as at:
            fake = at.fake
            pacer = RatePacer(limiter=free_limiter())
            one, two = (at.connect(pacer=pacer) for _ in range(2))
            await asyncio.gather(call(one), call(two))
            fake.faults.add(TooManyRequests(), times=1)
            record_throttled = asyncio.create_task(call(one))
            while fake.requests[-1].status != 429:
                await asyncio.sleep(0)
            closed = asyncio.get_running_loop().time()
            await asyncio.sleep(1.0)
            await asyncio.gather(record_throttled, calls(two, 20))
            assert two.stats.throttled == 0
            assert at.arrivals[2] == closed
            assert min(at.arrivals[3:]) == pytest.approx(closed + COOLDOWNS[0])
            assert len(at.arrivals) == 2 + 1 + 21

    run_jumping(main())


# -- order -------------------------------------------------------------------------------------------------------------


async def test_calls_are_sent_in_the_order_in_which_they_were_made(fake: FakeHarness, connect: Connect) -> None:
    """With one place the server sees calls first come, first served, those cancelled on the way left out."""
    client = connect(max_in_flight=1)
    numbers = range(60)
    gone = {number for number in numbers if number >= 20 and number % 7 == 0}

    async def ask(number: int) -> None:
        await client.request("GET", "/v1/orgs/default", headers={"X-Number": str(number)})

    tasks = [asyncio.create_task(ask(number)) for number in numbers]
    await tasks[10]
    assert all(tasks[number].cancel() for number in gone)
    await asyncio.gather(*tasks, return_exceptions=True)
    served = [int(request.headers["X-Number"]) for request in fake.requests]
    assert served == [number for number in numbers if number not in gone]


def test_calls_that_wait_for_the_pace_are_sent_in_their_order_too() -> None:
    """Held back by the pace or by the gate, calls reach the server first come, first served."""

    async def main() -> None:
        async with scene() as at:
            fake = at.fake
            client = at.connect(pacer=RatePacer(RateLimit(60)), max_in_flight=100)
            fake.faults.add(TooManyRequests(), when=lambda _: len(fake.requests) == 30)

            async def ask(number: int) -> None:
                await client.request("GET", "/v1/orgs/default", headers={"X-Number": str(number)})

            await asyncio.gather(*(ask(number) for number in range(90)))
            served = [int(request.headers["X-Number"]) for request in fake.requests if request.status == 200]
            record_throttled = next(
                int(request.headers["X-Number"]) for request in fake.requests if request.status == 429
            )
            assert served == [*(number for number in range(90) if number != record_throttled), record_throttled]

    run_jumping(main())


# -- outages and faults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Status(503), Reset("before")], ids=["503", "reset"])
def test_an_outage_sees_only_probes_and_costs_no_call(fault: Fault) -> None:
    """While everything fails the gate lets one probe out at a time; when the server is back every call ends well."""
    start_attempt, end = 1010.0, 1070.0

    async def main() -> tuple[Scene, HarnessClient]:
        loop = asyncio.get_running_loop()
        async with scene() as at:
            outage = at.fake.faults.add(fault, when=lambda _: start_attempt <= loop.time() < end)
            client = at.connect(pacer=RatePacer(RateLimit(1000)), retry=RetryPolicy())
            await crew(client, 1000)
            assert outage.hits > OUTAGE_FAILURES
            return at, client

    at, client = run_jumping(main())
    sent_while_closed = 0
    closed = False
    for _, event in at.seen:
        match event:
            case GateClosed():
                closed, sent_while_closed = True, 0
            case GateOpened():
                closed = False
            case RequestSent() if closed:
                sent_while_closed += 1
                assert sent_while_closed == 1, "one probe for each closing"
            case _:
                pass
    assert not closed
    wasted = client.stats.requests - 1000
    pauses, spent = 0, 0.0
    while (
        spent < end - start_attempt
    ):  # as many probes as fit the outage, each pause twice the one before up to the last
        spent += OUTAGE_PAUSES[min(pauses, len(OUTAGE_PAUSES) - 1)]
        pauses += 1
    assert wasted <= 32 + OUTAGE_FAILURES + pauses
    assert len([when for when in at.arrivals if start_attempt <= when < end]) == wasted
    back = next(when for when in at.moments(GateOpened) if when >= end)
    assert back <= end + OUTAGE_PAUSES[-1] * 1.1


@pytest.mark.parametrize("fault", [Status(503), Reset("before"), Reset("after_head"), CutBody()], ids=repr)
def test_one_bad_answer_in_twenty_costs_less_than_a_tenth_more(fault: Fault) -> None:
    """Outside outages the sends stay within a tenth above the calls: each failure is tried again once."""

    async def main() -> None:
        async with scene() as at:
            bad = at.fake.faults.add(fault, every=20)
            client = at.connect(pacer=RatePacer(RateLimit(1000)), retry=RetryPolicy())
            await crew(client, 600)
            assert bad.hits == 31
            assert client.stats.requests == len(at.arrivals) == 600 + bad.hits <= 600 * 1.1
            assert client.stats.retries == bad.hits
            assert not at.moments(GateClosed)

    run_jumping(main())


def test_refusals_and_failures_together_cost_a_tenth_and_the_probes() -> None:
    """With failures and refusals mixed at random, the sends are calls, one for each bad answer, and nothing else."""

    async def main() -> None:
        async with scene() as at:
            at.fake.faults.seed = 7
            rules = [at.fake.faults.add(one, share=0.025) for one in (Status(502), Reset("before"))]
            refusals = at.fake.faults.add(TooManyRequests(), every=150)
            client = at.connect(pacer=RatePacer(RateLimit(1000)), retry=RetryPolicy())
            await crew(client, 600)
            hits = sum(rule.hits for rule in rules)
            assert hits > 10
            assert client.stats.requests == 600 + hits + refusals.hits
            probes = len(at.moments(GateClosed))
            assert client.stats.requests <= 600 * 1.1 + probes
            assert client.stats.throttled == refusals.hits > 0

    run_jumping(main())


def test_a_call_that_cannot_be_answered_in_time_fails_and_the_others_do_not() -> None:
    """Calls with too little time for an outage end with an error each, without a request more than the probes."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with scene() as at:
            at.fake.faults.add(Status(503), when=lambda _: loop.time() < 1060.0)
            pacer = RatePacer(limiter=RateLimiter(RateLimit(1000), rng=NoJitter()))
            hasty = at.connect(pacer=pacer, timeouts=Timeouts(deadline=20.0))
            patient = at.connect(pacer=pacer)
            hopeless = asyncio.gather(*(call(hasty) for _ in range(50)), return_exceptions=True)
            await asyncio.gather(hopeless, calls(patient, 50))
            assert all(isinstance(outcome, HarnessError) for outcome in hopeless.result())
            assert is_idle(hasty)
            assert is_idle(patient)
            assert len(at.arrivals) <= 64 + OUTAGE_FAILURES + 8 + 50

    run_jumping(main())
