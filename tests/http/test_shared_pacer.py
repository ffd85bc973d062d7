"""One key in several processes: a split limit, and `SharedPacer`."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, TypeAlias, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import harness_async
from harness_async import HarnessClient, Pacer, RateLimit, RatePacer, SharedPacer, Timeouts
from harness_async.http.rate_limit import NETWORK_JITTER, RateLimiter, RateSchedule
from harness_async.testing import Bucket, FakeHarness, FixedWindow, SlidingCounter, SlidingWindow, TooManyRequests
from tests.support.virtual import JumpingLoop, run_jumping

T = TypeVar("T")
Connect: TypeAlias = Callable[..., HarnessClient]

FOREVER = Timeouts(connect=None, read=None, deadline=None)


class Server(Protocol):
    """A rate limit in virtual time."""

    def allow(self, now: float) -> bool:
        """Say yes or no."""
        ...


# -- a clock of one's own ----------------------------------------------------------------------------------------------


class ThreadlessLoop(JumpingLoop):
    """A loop whose clock jumps when there is only waiting; what goes to a thread is done here and takes up to 3 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = random.Random(1)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        future: asyncio.Future[T] = self.create_future()
        result = func(*args)

        def finish() -> None:
            if not future.done():  # nobody may want it any more
                future.set_result(result)

        self.call_later(self.rng.uniform(0, 0.003), finish)
        return future


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time, and see that it leaves no task and no error behind."""
    return run_jumping(main, ThreadlessLoop)


@pytest.fixture
def virtual_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the machine's clock with that of the running loop."""
    clock = SimpleNamespace(time=lambda: 1.8e9 + asyncio.get_running_loop().time())
    monkeypatch.setattr("harness_async.http.pacer.time", clock)


def most_in_a_window(moments: list[float], length: float) -> int:
    """Count the moments in the half-open window of that length that has most of them."""
    moments = sorted(moments)
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - length:
            first += 1
        most = max(most, last - first + 1)
    return most


# -- the split ---------------------------------------------------------------------------------------------------------


@given(limit=st.integers(2, 5000), processes=st.integers(1, 64), per=st.floats(0.5, 3600.0))
def test_the_paces_of_a_split_add_up_to_the_limit_at_most(limit: int, processes: int, per: float) -> None:
    """What a window can see of N processes with an Nth of the limit each is the limit at most, spread included."""
    processes = min(processes, limit // 2)
    pace = RateSchedule.of(RateLimit(limit // processes, per))
    assert processes * (pace.rate * (per + NETWORK_JITTER) + pace.burst) <= limit * (1 + 1e-9)


@given(
    limit=st.integers(1, 300),
    processes=st.integers(1, 8),
    per=st.floats(0.5, 60.0),
    demand=st.lists(st.tuples(st.integers(0, 7), st.floats(0.0, 30.0), st.integers(1, 100)), min_size=1, max_size=30),
)
@settings(max_examples=60, deadline=None)
def test_no_window_sees_more_than_the_limit_of_a_split(
    limit: int, processes: int, per: float, demand: list[tuple[int, float, int]]
) -> None:
    """Whatever each of N processes asks for and when, no window, nor one longer by the spread, counts too many."""
    processes = min(processes, limit)
    machines = [RateLimiter(RateLimit(limit // processes, per)) for _ in range(processes)]
    now, taken = 0.0, list[float]()
    for index, gap, count in demand:
        now += gap
        machine = machines[index % processes]
        for _ in range(count):
            next_slot_at = machine.next_slot_at(now)
            assert next_slot_at is not None
            machine.acquire(next_slot_at)
            taken.append(next_slot_at)
    assert most_in_a_window(taken, per + 0.999 * NETWORK_JITTER) <= limit


def servers(limit: int) -> dict[str, Server]:
    """Make a server of each kind, and a fixed window of several phases."""
    windows = {f"fixed window, phase {phase}": FixedWindow(limit, phase=phase) for phase in range(0, 60, 7)}
    return {
        **windows,
        "sliding window": SlidingWindow(limit),
        "sliding counter": SlidingCounter(limit),
        "bucket of the limit": Bucket(limit),
        "bucket of a twentieth": Bucket(limit, capacity=limit / 20),
    }


async def saturate(pacers: list[RatePacer], seconds: float) -> list[float]:
    """Send without rest through each pacer, and give the times of arrival."""
    loop, rng, arrivals = asyncio.get_running_loop(), random.Random(1), list[float]()
    end = loop.time() + seconds

    async def work(pacer: RatePacer, start: float) -> None:
        await asyncio.sleep(start)
        while loop.time() < end:
            slot = await pacer.acquire()
            arrivals.append(loop.time() + 0.03 + rng.expovariate(50))
            await asyncio.sleep(0.3)
            pacer.record_success(slot)

    starts = [(pacer, rng.uniform(0, 1)) for pacer in pacers for _ in range(1 + 32 // len(pacers))]
    await asyncio.gather(*(work(pacer, start) for pacer, start in starts))
    return sorted(arrivals)


@pytest.mark.parametrize(
    ("limit", "processes", "share"),
    [(1000, 2, 0.992), (1000, 4, 0.992), (1000, 8, 0.988), (400, 2, 0.991), (400, 4, 0.986), (400, 8, 0.976)],
)
def test_a_split_limit_is_used_as_documented_without_a_refusal(limit: int, processes: int, share: float) -> None:
    """N busy processes with an Nth of the limit each get the documented share of it, however the server counts."""
    pacers = [RatePacer(RateLimit(limit // processes)) for _ in range(processes)]
    arrivals = run(saturate(pacers, 360.0))
    for kind, server in servers(limit).items():
        assert all(server.allow(at) for at in arrivals), kind
    steady = sum(arrivals[0] + 30 <= at < arrivals[0] + 330 for at in arrivals)
    assert steady / (limit * 5) == pytest.approx(share, abs=0.002)


# -- one file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [RateLimit(40, 10.0), RateLimit(400, 10.0)], ids=["no burst", "burst"])
@pytest.mark.usefixtures("virtual_clock")
def test_pacers_on_one_store_share_the_limit_and_lose_none_of_it(tmp_path: Path, limit: RateLimit) -> None:
    """Several pacers of one file never exceed the limit in any window, and busy ones leave no slot unused."""
    count = limit.requests + limit.requests // 5

    async def main() -> list[tuple[int, int, float]]:
        loop = asyncio.get_running_loop()
        pacers = [SharedPacer(str(tmp_path / "pace"), limit) for _ in range(3)]
        assert all(isinstance(pacer, Pacer) for pacer in pacers)
        left: list[tuple[int, int, float]] = []

        async def one(number: int) -> None:
            await pacers[number % 3].acquire()
            left.append((number % 3, number, loop.time()))

        await asyncio.gather(*(one(number) for number in range(count)))
        return left

    left = run(main())
    moments = [at for _, _, at in left]
    pace = RateSchedule.of(limit)
    assert most_in_a_window(moments, limit.per) <= limit.requests
    assert moments[-1] - moments[0] == pytest.approx((count - pace.burst) / pace.rate, abs=0.01)
    for pacer in range(3):
        order = [number for index, number, _ in left if index == pacer]
        assert order == sorted(order), "first come, first served"
    # With equal crowds the processes take turns, so none is left behind.
    assert [sum(pacer == index for pacer, _, _ in left[: count // 2]) for index in range(3)] == pytest.approx(
        [count / 6] * 3, abs=count / 20
    )


@pytest.mark.usefixtures("virtual_clock")
def test_after_a_quiet_spell_only_a_burst_leaves_at_once(tmp_path: Path) -> None:
    """What was not used a minute ago cannot be caught up."""

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        pacers = [SharedPacer(str(tmp_path / "pace"), RateLimit(1000)) for _ in range(4)]
        await pacers[0].acquire()
        await asyncio.sleep(60)
        left: list[float] = []

        async def one(number: int) -> None:
            await pacers[number % 4].acquire()
            left.append(loop.time() - began)

        began = loop.time()
        await asyncio.gather(*(one(number) for number in range(20)))
        return left

    left = run(main())
    assert sum(at < 0.02 for at in left) == RateSchedule.of(RateLimit(1000)).burst
    assert left[-1] == pytest.approx(15 / RateSchedule.of(RateLimit(1000)).rate, abs=0.01)


@pytest.mark.usefixtures("virtual_clock")
def test_who_gives_up_in_the_example_costs_one_slot_at_most(tmp_path: Path) -> None:
    """Requests cancelled at any moment leave nobody locked out, and the schedule loses at most a slot for each."""
    limit = RateLimit(100)

    async def main() -> tuple[float, int, int]:
        loop, rng = asyncio.get_running_loop(), random.Random(5)
        pacers = [SharedPacer(str(tmp_path / "pace"), limit) for _ in range(2)]
        began = loop.time()
        tasks = [asyncio.create_task(pacer.acquire()) for _ in range(100) for pacer in pacers]
        for task in rng.sample(tasks, 120):
            task.cancel()
            await asyncio.sleep(rng.uniform(0, 0.6))
        await asyncio.gather(*tasks, return_exceptions=True)
        cancelled = sum(task.cancelled() for task in tasks)
        for pacer in pacers:
            await pacer.acquire()
        return loop.time() - began, cancelled, len(tasks) - cancelled

    elapsed, cancelled, passed = run(main())
    assert cancelled > 50
    rate = RateSchedule.of(limit).rate
    # A cancelled task can only have taken a slot if it was at the head of its queue.
    assert (passed + 1) / rate <= elapsed + 0.01 <= (passed + cancelled + 2) / rate


@pytest.mark.usefixtures("virtual_clock")
def test_a_pause_stops_every_pacer_of_the_store(tmp_path: Path) -> None:
    """In a pause nothing leaves but the slot in hand; a longer one is obeyed by those who wait; no burst ends it."""

    async def main() -> tuple[list[float], list[float]]:
        loop = asyncio.get_running_loop()
        one, other = (SharedPacer(str(tmp_path / "pace"), RateLimit(1000)) for _ in range(2))
        left: list[float] = []

        async def ask(pacer: Any) -> None:
            await pacer.acquire()
            left.append(loop.time() - began)

        began = loop.time()
        tasks = [asyncio.create_task(ask(pacer)) for _ in range(40) for pacer in (one, other)]
        await asyncio.sleep(1)
        await one.pause(5)
        await asyncio.sleep(3)
        await one.pause(20)
        await asyncio.sleep(1)
        await other.pause(1)  # a shorter one changes nothing
        await asyncio.gather(*tasks)
        return [at for at in left if at < 20], [at for at in left if at >= 20]

    before, after = run(main())
    spacing = 1 / RateSchedule.of(RateLimit(1000)).rate
    assert sum(at > 1.004 for at in before) <= 2, "one slot in hand for each"
    assert max(before) <= 1 + 3 * spacing
    assert min(after) >= 1 + 3 + 20
    assert most_in_a_window(after, 10 * spacing) <= 11, "no burst"


@pytest.mark.usefixtures("virtual_clock")
def test_a_store_that_fails_in_the_middle_is_as_before(tmp_path: Path) -> None:
    """What breaks off inside a transaction changes nothing and locks nobody out."""

    async def main() -> None:
        pacer = SharedPacer(str(tmp_path / "pace"), RateLimit(1000))
        with pytest.raises(ZeroDivisionError), pacer._transaction() as store:
            store.execute("UPDATE pace SET open_at = 9e9")
            raise ZeroDivisionError
        await pacer.acquire()

    run(main())


DRIVER = """
import asyncio, sys
from harness_async import RateLimit, SharedPacer

class Noting(SharedPacer):
    def _reserve(self):
        at, taken = super()._reserve()
        if taken:
            print(repr(at))
        return at, taken

async def main():
    pacer = Noting(sys.argv[1], RateLimit(190, 1.0))
    print("ready", flush=True)
    sys.stdin.readline()
    await asyncio.gather(*(pacer.acquire() for _ in range(30)))

asyncio.run(main())
"""


def test_real_processes_get_different_slots(tmp_path: Path) -> None:
    """Three processes that ask one store at once are given slots of one schedule, each a spacing from the next."""
    (tmp_path / "driver.py").write_text(DRIVER, encoding="utf-8")
    root = Path(harness_async.__file__).parents[1]
    processes = [
        subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-W", "error", str(tmp_path / "driver.py"), str(tmp_path / "pace")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    moments: list[float] = []
    for process in processes:
        output, errors = process.communicate()
        assert errors == ""
        moments += [float(line) for line in output.split()]
    moments.sort()
    assert len(moments) == 90
    spacing = 1 / RateSchedule.of(RateLimit(190, 1.0)).rate
    assert min(later - earlier for earlier, later in itertools.pairwise(moments)) >= spacing - 1e-6


# -- clients on one store ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def scene(path: Path, limit: RateLimit) -> AsyncIterator[tuple[FakeHarness, list[HarnessClient]]]:
    """Serve two clients as two processes would have them, each with a pacer of its own on one store."""
    fake = FakeHarness()
    fake.add_organization("default", "Default")
    fake.rate_clock = asyncio.get_running_loop().time
    async with fake:
        clients = [
            HarnessClient(
                fake.api_key, base_url=fake.url, timeouts=FOREVER, pacer=SharedPacer(str(path / "pace"), limit)
            )
            for _ in range(2)
        ]
        yield fake, clients
        for client in clients:
            await client.close()


async def crew(client: HarnessClient, count: int, workers: int = 8) -> None:
    """Make so many calls with so many callers, each of which sends without rest."""
    todo = iter(range(count))

    async def work() -> None:
        for _ in todo:
            assert (await client.organizations.get("default")).identifier == "default"

    await asyncio.gather(*(work() for _ in range(workers)))


@pytest.mark.parametrize("kind", [FixedWindow, SlidingWindow, SlidingCounter])
@pytest.mark.usefixtures("virtual_clock")
def test_clients_on_one_store_are_not_refused(tmp_path: Path, kind: Callable[[int, float], Server]) -> None:
    """Two clients use one limit up, one of them what the other leaves, and the server refuses neither."""
    limit = RateLimit(50)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with scene(tmp_path, limit) as (fake, clients):
            fake.rate_limit = kind(limit.requests, limit.per)
            began = loop.time()
            await asyncio.gather(crew(clients[0], 100), crew(clients[1], 25))
            assert [client.stats.throttled for client in clients] == [0, 0]
            assert len(fake.requests) == 125
            return loop.time() - began

    assert run(main()) == pytest.approx(124 / RateSchedule.of(limit).rate, rel=0.01)


@pytest.mark.usefixtures("virtual_clock")
def test_a_refusal_of_one_client_stops_the_other(tmp_path: Path) -> None:
    """A 429 to one client is a pause for all on the store, as long as the server says; then all calls are answered."""

    async def main() -> tuple[float, list[float]]:
        loop = asyncio.get_running_loop()
        async with scene(tmp_path, RateLimit(1000)) as (fake, clients):
            arrivals: list[float] = []
            fake.before_request = lambda _: arrivals.append(loop.time())
            refusal = fake.faults.add(TooManyRequests(retry_after=30), times=1, when=lambda _: len(arrivals) > 50)
            await asyncio.gather(*(crew(client, 60) for client in clients))
            assert refusal.hits == 1
            assert sorted(client.stats.throttled for client in clients) == [0, 1]
            assert len(arrivals) == 121
            return arrivals[50], arrivals[51:]

    record_throttled, after = run(main())
    early = [at for at in after if at < record_throttled + 30]
    assert len(early) <= 2, "what was under way, and the slot in the other's hand"
    assert all(at <= record_throttled + 0.2 for at in early)


async def test_an_error_of_the_store_is_the_calls(fake: FakeHarness, connect: Connect) -> None:
    """What a pacer raises comes out of the call as it is; nothing is sent, and the client can be used again."""

    class Moody:
        broken = True

        async def acquire(self) -> None:
            if self.broken:
                raise OSError("the store is gone")

        def pause(self, seconds: float) -> None:
            pass

    pacer = Moody()
    client = connect(pacer=pacer)
    with pytest.raises(OSError, match="the store is gone"):
        await client.organizations.get("default")
    assert fake.requests == []
    pacer.broken = False
    assert (await client.organizations.get("default")).identifier == "default"
