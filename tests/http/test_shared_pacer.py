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
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness_async
from harness_async import HarnessClient, Pacer, RateLimit, SharedPacer, Timeouts
from harness_async.http.rate_limit import NETWORK_JITTER, RateSchedule
from harness_async.testing import FakeHarness, TooManyRequests
from tests.support.virtual import JumpingLoop, run_jumping

T = TypeVar("T")
FOREVER = Timeouts(connect=None, read=None, deadline=None)


class ThreadlessLoop(JumpingLoop):
    """A loop whose clock jumps, and in which calls to a thread run inline and take up to 3 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = random.Random(1)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        future: asyncio.Future[T] = self.create_future()
        result = func(*args)

        def finish() -> None:
            if not future.done():  # the caller may have been cancelled
                future.set_result(result)

        self.call_later(self.rng.uniform(0, 0.003), finish)
        return future


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time."""
    return run_jumping(main, ThreadlessLoop)


@pytest.fixture
def virtual_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the machine's clock with that of the running loop."""
    clock = SimpleNamespace(time=lambda: 1.8e9 + asyncio.get_running_loop().time())
    monkeypatch.setattr("harness_async.http.shared_pacer.time", clock)


def most_in_a_window(moments: list[float], length: float) -> int:
    """Return the largest number of moments in a half-open window of that length."""
    moments = sorted(moments)
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - length:
            first += 1
        most = max(most, last - first + 1)
    return most


@given(limit=st.integers(2, 5000), processes=st.integers(1, 64), per=st.floats(0.5, 3600.0))
def test_sum_of_a_split(limit: int, processes: int, per: float) -> None:
    """N processes with an Nth of the limit each never exceed the limit in any window, network jitter included."""
    processes = min(processes, limit // 2)
    pace = RateSchedule.of(RateLimit(limit // processes, per))
    assert processes * (pace.rate * (per + NETWORK_JITTER) + pace.burst) <= limit * (1 + 1e-9)


@pytest.mark.parametrize("limit", [RateLimit(40, 10.0), RateLimit(400, 10.0)], ids=["no burst", "burst"])
@pytest.mark.usefixtures("virtual_clock")
def test_pacers_of_one_file(tmp_path: Path, limit: RateLimit) -> None:
    """Pacers of one file never exceed the limit in any window, use every slot, and share it equally."""
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
        assert order == sorted(order)
    assert [sum(pacer == index for pacer, _, _ in left[: count // 2]) for index in range(3)] == pytest.approx(
        [count / 6] * 3, abs=count / 20
    )


@pytest.mark.usefixtures("virtual_clock")
def test_cancellation(tmp_path: Path) -> None:
    """Requests cancelled at any moment block no other, and cost at most one slot each."""
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
def test_pause(tmp_path: Path) -> None:
    """During a pause only reserved slots are used, a longer pause extends it, and no burst follows."""

    async def main() -> tuple[list[float], list[float]]:
        loop = asyncio.get_running_loop()
        one, other = (SharedPacer(str(tmp_path / "pace"), RateLimit(1000)) for _ in range(2))
        left: list[float] = []

        async def send(pacer: Any) -> None:
            await pacer.acquire()
            left.append(loop.time() - began)

        began = loop.time()
        tasks = [asyncio.create_task(send(pacer)) for _ in range(40) for pacer in (one, other)]
        await asyncio.sleep(1)
        await one.pause(5)
        await asyncio.sleep(3)
        await one.pause(20)
        await asyncio.sleep(1)
        await other.pause(1)  # shorter, so without effect
        await asyncio.gather(*tasks)
        return [at for at in left if at < 20], [at for at in left if at >= 20]

    before, after = run(main())
    spacing = 1 / RateSchedule.of(RateLimit(1000)).rate
    assert sum(at > 1.004 for at in before) <= 2, "one reserved slot of each pacer"
    assert max(before) <= 1 + 3 * spacing
    assert min(after) >= 1 + 3 + 20
    assert most_in_a_window(after, 10 * spacing) <= 11, "no burst"


@pytest.mark.usefixtures("virtual_clock")
def test_failed_transaction(tmp_path: Path) -> None:
    """A transaction that fails changes nothing and releases its lock."""

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


def test_real_processes(tmp_path: Path) -> None:
    """Three processes of one file reserve slots of one schedule."""
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


@asynccontextmanager
async def scene(path: Path, limit: RateLimit) -> AsyncIterator[tuple[FakeHarness, list[HarnessClient]]]:
    """Serve two clients, each with its own pacer of one file, as in two processes."""
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


async def send_calls(client: HarnessClient, count: int, workers: int = 8) -> None:
    """Send so many calls with so many workers."""
    todo = iter(range(count))

    async def work() -> None:
        for _ in todo:
            assert (await client.organizations.get("default")).identifier == "default"

    await asyncio.gather(*(work() for _ in range(workers)))


@pytest.mark.usefixtures("virtual_clock")
def test_throttled_client(tmp_path: Path) -> None:
    """A 429 for one client pauses all clients of the file for its Retry-After."""

    async def main() -> tuple[float, list[float]]:
        loop = asyncio.get_running_loop()
        async with scene(tmp_path, RateLimit(1000)) as (fake, clients):
            arrivals: list[float] = []
            fake.before_request = lambda _: arrivals.append(loop.time())
            refusal = fake.faults.add(TooManyRequests(retry_after=30), times=1, when=lambda _: len(arrivals) > 50)
            await asyncio.gather(*(send_calls(client, 60) for client in clients))
            assert refusal.hits == 1
            assert sorted(client.stats.throttled for client in clients) == [0, 1]
            assert len(arrivals) == 121
            return arrivals[50], arrivals[51:]

    throttled, after = run(main())
    early = [at for at in after if at < throttled + 30]
    assert len(early) <= 2, "a request in flight, and a reserved slot"
    assert all(at <= throttled + 0.2 for at in early)
