"""Many calls at once over real HTTP: cancellations, limits, 429s, outages and faults, with every request observed.

Scenarios of minutes run in a loop with real sockets and a virtual clock: limits, cooldowns and backoffs are the real
ones, and the test does not wait for them.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec

import pytest
from attrs import define, field

from harness_async import (
    Event,
    GateClosed,
    GateOpened,
    HarnessClient,
    RateLimit,
    RatePacer,
    RequestSent,
    ResponseReceived,
    RetryPolicy,
    Timeouts,
)
from harness_async.http.rate_limit import COOLDOWNS, OUTAGE_FAILURES, OUTAGE_PAUSES, RateLimiter
from harness_async.testing import (
    CutBody,
    Delay,
    FakeHarness,
    Fault,
    Reset,
    Status,
    TooManyRequests,
)
from tests.support.connections import connections_in_use, is_idle
from tests.support.http import Connect
from tests.support.virtual import NoJitter, run_jumping

P = ParamSpec("P")

NO_TIMEOUTS = Timeouts(connect=None, read=None, deadline=None)


@define(eq=False)
class Recording:
    """A server, its clients, and what each side observed in the time of the loop."""

    fake: FakeHarness
    arrivals: list[float] = field(factory=list)
    events: list[tuple[float, Event]] = field(factory=list)
    clients: list[HarnessClient] = field(factory=list)

    def connect(self, **options: Any) -> HarnessClient:
        """Create a client whose events are recorded, by default without timeouts."""

        def observe(event: Event) -> None:
            self.events.append((asyncio.get_running_loop().time(), event))

        client = HarnessClient(
            base_url=self.fake.url,
            api_key=self.fake.api_key,
            **{"on_event": observe, "timeouts": NO_TIMEOUTS, **options},
        )
        self.clients.append(client)
        return client

    def times(self, kind: type[Event]) -> list[float]:
        """Return the times of one kind of event."""
        return [at for at, event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def recording() -> AsyncIterator[Recording]:
    """Serve the organization "default", record each arrival, and close everything at the end."""
    fake = FakeHarness()
    fake.add_organization("default", "Default")
    record = Recording(fake)
    loop = asyncio.get_running_loop()
    fake.rate_clock = loop.time
    fake.before_request = lambda _: record.arrivals.append(loop.time())
    async with fake:
        yield record
        for client in record.clients:
            await client.close()


def virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test in a loop with real sockets whose clock jumps over every wait."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_jumping(test(*args, **kwargs))

    return run


async def call(client: HarnessClient, number: int = 0) -> None:
    """Send a request that succeeds, with a number in a header."""
    await client.request("GET", "/v1/orgs/default", headers={"X-Number": str(number)})


async def run_workers(client: HarnessClient, calls: int, workers: int = 32) -> None:
    """Send requests with workers, each of which sends one after another."""
    numbers = iter(range(calls))

    async def work() -> None:
        for _ in numbers:
            await call(client)

    await asyncio.gather(*(work() for _ in range(workers)))


def unpaced() -> RatePacer:
    """Create a pacer without a rate limit: only its gate holds requests back."""
    return RatePacer(limiter=RateLimiter(None, rng=NoJitter()))


@pytest.mark.parametrize("limit", [None, RateLimit(200, 1.0)], ids=["throttled", "paced"])
async def test_cancelled_calls_leave_nothing_behind(
    fake: FakeHarness, connect: Connect, limit: RateLimit | None
) -> None:
    """Two thousand calls cancelled anywhere release their permits, connections and tasks."""
    rng = random.Random(20)
    fake.faults.seed = 20
    fake.faults.add(Reset("before"), share=0.03)
    fake.faults.add(Reset("after_head"), share=0.03)
    fake.faults.add(CutBody(), share=0.03)
    fake.faults.add(Status(503), share=0.05)
    if limit is None:  # with a limit, a 429 would reduce the rate to next to nothing
        fake.faults.add(TooManyRequests("0.001"), share=0.03)
        fake.faults.add(TooManyRequests(), share=0.01)
    fake.faults.add(Delay(0.002), share=0.3)
    limiter = RateLimiter(limit, cooldowns=(0.001,), outage_pauses=(0.001,))
    pacer = RatePacer(limiter=limiter)
    client = connect(pacer=pacer, max_in_flight=8)
    before = asyncio.all_tasks()
    places: collections.Counter[str] = collections.Counter()
    ends: collections.Counter[str] = collections.Counter()
    while ends["CancelledError"] < 2_000:
        tasks = [asyncio.create_task(call(client)) for _ in range(100)]
        left = tasks.copy()
        rng.shuffle(left)
        while left:
            for _ in range(rng.randrange(5)):
                await asyncio.sleep(0)
            if rng.random() < 0.1:
                await asyncio.sleep(0.001)
            for task in left[-rng.randrange(1, 7) :]:
                task.cancel()
                left.remove(task)
            places["pace"] += pacer.waiting > 0
            places["gate"] += not limiter.is_open
            places["network"] += len(connections_in_use(client)) > 0
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            ends[type(outcome).__name__] += 1
    assert set(ends) == {"CancelledError", "NoneType"}
    assert min(places[place] for place in ("network", "gate" if limit is None else "pace")) > 0
    assert is_idle(client)
    fake.faults.clear()
    await call(client)
    assert limiter.is_open
    # No permit is lost: `max_in_flight` requests meet at the server.
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


@pytest.mark.parametrize("deadline", [None, 8.0], ids=["cancelled", "deadline"])
@virtual_time
async def test_end_of_a_failed_probe(deadline: float | None) -> None:
    """A call whose probe failed does not let out a second probe when it is cancelled or reaches its deadline."""
    async with recording() as record:
        fake, pacer = record.fake, unpaced()
        first = record.connect(pacer=pacer, timeouts=Timeouts(deadline=deadline))
        other = record.connect(pacer=pacer)
        fake.faults.add(TooManyRequests(), times=1)
        fake.faults.add(Reset("before"), times=1)
        fake.faults.add(Delay(20.0), when=lambda _: len(fake.requests) == 3)
        lost = asyncio.create_task(call(first))
        await asyncio.sleep(1.0)
        waiting = [asyncio.create_task(call(other)) for _ in range(5)]
        await asyncio.sleep(COOLDOWNS[0])  # the probe was sent and its connection was lost
        assert len(record.arrivals) == 2
        await asyncio.sleep(OUTAGE_PAUSES[0] - 0.5)  # the next probe is in flight
        assert len(record.arrivals) == 3
        if deadline is None:
            lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
        await asyncio.gather(*waiting)
    probe = record.arrivals[2]
    assert min(record.arrivals[3:]) >= probe + 20.0


@virtual_time
async def test_only_probes_after_a_429() -> None:
    """After a 429 nothing is sent until the cooldown ends, then one probe, and the rest after its success."""
    async with recording() as record:
        fake = record.fake
        # The tenth request and its first two probes are throttled; the response of each probe takes seven seconds.
        fake.faults.add(TooManyRequests(), when=lambda _: 10 <= len(fake.requests) <= 12)
        fake.faults.add(Delay(7.0), when=lambda _: 11 <= len(fake.requests) <= 13)
        client = record.connect(pacer=unpaced(), max_in_flight=5)
        await asyncio.gather(*(call(client) for _ in range(60)))
        assert client.stats.throttled == 3
    throttled = next(at for at, event in record.events if isinstance(event, ResponseReceived) and event.status == 429)
    before = [at for at in record.arrivals if at <= throttled]
    probes = [at for at in record.arrivals if throttled < at < record.times(GateOpened)[0]]
    after = record.arrivals[len(before) + len(probes) :]
    first = throttled + COOLDOWNS[0]
    second = first + 7.0 + COOLDOWNS[1]
    third = second + 7.0 + COOLDOWNS[2]
    assert len(before) <= 10 + 4, "the throttled request and those that were in flight with it"
    assert probes == pytest.approx([first, second, third])
    assert record.times(GateOpened) == pytest.approx([third + 7.0])
    assert len(before) + len(probes) + len(after) == 60 + 3
    assert min(after) >= third + 7.0
    assert len(record.times(GateClosed)) == 3


async def test_order_of_calls(fake: FakeHarness, connect: Connect) -> None:
    """With one request in flight, calls are sent in the order in which they were made; cancelled calls are not sent."""
    client = connect(max_in_flight=1)
    numbers = range(60)
    cancelled = {number for number in numbers if number >= 20 and number % 7 == 0}
    tasks = [asyncio.create_task(call(client, number)) for number in numbers]
    await tasks[10]
    assert all(tasks[number].cancel() for number in cancelled)
    await asyncio.gather(*tasks, return_exceptions=True)
    served = [int(request.headers["X-Number"]) for request in fake.requests]
    assert served == [number for number in numbers if number not in cancelled]


def most_sent_while_closed(events: Iterable[Event]) -> int:
    """Return the largest number of requests sent during one closing of the gate, which must end open."""
    closed, sent, most = False, 0, 0
    for event in events:
        if isinstance(event, GateClosed):
            closed, sent = True, 0
        elif isinstance(event, GateOpened):
            closed = False
        elif isinstance(event, RequestSent) and closed:
            sent += 1
            most = max(most, sent)
    assert not closed
    return most


@pytest.mark.parametrize("fault", [Status(503), Reset("before")], ids=["503", "reset"])
@virtual_time
async def test_outage(fault: Fault) -> None:
    """During an outage only single probes are sent, and after it every call succeeds."""
    begin, end, calls = 1010.0, 1070.0, 400
    loop = asyncio.get_running_loop()
    async with recording() as record:
        outage = record.fake.faults.add(fault, when=lambda _: begin <= loop.time() < end)
        client = record.connect(pacer=RatePacer(RateLimit(1000)), retry=RetryPolicy())
        await run_workers(client, calls)
        assert outage.hits > OUTAGE_FAILURES
    assert most_sent_while_closed(event for _, event in record.events) == 1
    probes, paused = 0, 0.0
    while paused < end - begin:  # as many probes as fit the outage, with the last pause repeated
        paused += OUTAGE_PAUSES[min(probes, len(OUTAGE_PAUSES) - 1)]
        probes += 1
    wasted = client.stats.requests - calls
    assert wasted <= 32 + OUTAGE_FAILURES + probes
    assert len([at for at in record.arrivals if begin <= at < end]) == wasted
    assert min(at for at in record.times(GateOpened) if at >= end) <= end + OUTAGE_PAUSES[-1] * 1.1
