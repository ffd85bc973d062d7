"""What pacing gets of a limit and what it costs in refusals, in virtual time and without network.

Three tables. A limit that is known: share of it used and 429s an hour. A limit that is not: the client believes 1000 a
minute where 400 are allowed; beside it, in the same run, a client that paces at 1000 (GCRA) and goes on after a 429 as
if nothing had been. An outage: everything is answered by 503 for a while; how many requests were wasted on it, with
the gate, and with full jitter alone.

The model: workers send without rest. A request reaches the server after 30 ms and an exponential delay of 20 ms on
average; an answer takes 200 ms more and an exponential delay of 100 ms, a refusal 50 ms. Figures are means over the
seeds, which set jitter, delays and the phase of fixed windows. Run to run they are the same.

python benchmarks/pacing.py [--minutes 60] [--known-minutes 20] [--seeds 3] [--workers 32] [--processes 0]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import selectors
import statistics
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Protocol, TypeAlias, TypeVar

from attrs import frozen

from harness_async import RateLimit, RatePacer, RetryPolicy
from harness_async.http.rate_limit import Permit, RateLimiter
from harness_async.http.retry import draw_backoff
from harness_async.testing import Bucket, FixedWindow, SlidingCounter, SlidingWindow

T = TypeVar("T")

BELIEVED, ALLOWED = 1000, 400
"""The two limits that are published; the one a client may believe, and the one that may bind it."""

JOBS = 3000
OUTAGE = (60.0, 90.0)
"""Seconds from the beginning between which everything fails."""


class Server(Protocol):
    """A rate limit in virtual time."""

    def allow(self, now: float) -> bool:
        """Say yes or no."""
        ...


MakeServer: TypeAlias = Callable[[int, random.Random], Server]

SERVERS: dict[str, MakeServer] = {
    "fixed window": lambda limit, rng: FixedWindow(limit, phase=rng.uniform(0, 60)),
    "fixed window, refusals counted": lambda limit, rng: FixedWindow(
        limit, phase=rng.uniform(0, 60), count_refused=True
    ),
    "sliding window": lambda limit, _: SlidingWindow(limit),
    "sliding counter": lambda limit, _: SlidingCounter(limit),
    "bucket of the limit": lambda limit, _: Bucket(limit),
    "bucket of a twentieth": lambda limit, _: Bucket(limit, capacity=limit / 20),
    "sliding window, refusals counted": lambda limit, _: SlidingWindow(limit, count_refused=True),
    "sliding window, ban of 120 s": lambda limit, _: SlidingWindow(limit, ban=120.0),
}

KNOWN = tuple(SERVERS)[:6]
UNKNOWN = tuple(SERVERS)


class Deaf(RateLimiter):
    """The same pace without a gate: what it is told of refusals and failures changes nothing."""

    def record_throttled(self, permit: Permit, now: float, retry_after: float | None = None) -> None:
        """Go on as if nothing had been."""

    def record_failure(self, permit: Permit, now: float) -> None:
        """Go on as if nothing had been."""


@frozen
class Job:
    """One run: a client that believes in a limit, against a server that has one."""

    kind: str
    believed: int
    allowed: int
    gate: bool
    seed: int
    workers: int
    minutes: float


@frozen
class Score:
    """What came of it."""

    share: float
    """Of what the server allows, used."""

    refused: float
    """429s an hour."""


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop without sockets whose clock jumps to the next timer: looptime's trick at a quarter of the price."""

    def __init__(self) -> None:
        self._now = 0.0
        selector = selectors.SelectSelector()
        setattr(selector, "select", self._jump)  # noqa: B010 - a method replaced on purpose
        super().__init__(selector)

    def time(self) -> float:
        """Give the virtual time."""
        return self._now

    def _jump(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nobody will ever wake this loop")
        self._now += timeout
        return []


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time."""
    loop = JumpingLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


def make_pacer(limit: int, seed: int, *, gate: bool) -> RatePacer:
    """Make a pacer with seeded jitter."""
    return RatePacer(limiter=(RateLimiter if gate else Deaf)(RateLimit(limit), rng=random.Random(seed)))


def saturate(job: Job) -> Score:
    """Let workers send without rest, and count what was let through."""
    rng = random.Random(f"{job.kind}/{job.seed}")
    server = SERVERS[job.kind](job.allowed, rng)
    pacer = make_pacer(job.believed, job.seed, gate=job.gate)
    accepted = refused = 0

    async def work() -> None:
        nonlocal accepted, refused
        loop = asyncio.get_running_loop()
        end = loop.time() + job.minutes * 60
        while loop.time() < end:
            slot = await pacer.acquire()
            await asyncio.sleep(0.03 + rng.expovariate(50))
            if server.allow(loop.time()):
                await asyncio.sleep(0.2 + rng.expovariate(10))
                accepted += 1
                pacer.record_success(slot)
            else:
                await asyncio.sleep(0.05)
                refused += 1
                pacer.record_throttled(slot, None)

    async def crew() -> None:
        await asyncio.gather(*(work() for _ in range(job.workers)))

    run(crew())
    return Score(accepted / (job.allowed * job.minutes), refused * 60 / job.minutes)


@frozen
class Crash:
    """One run through an outage."""

    gate: bool
    attempts: int | None
    seed: int
    workers: int


@frozen
class Damage:
    """What it cost."""

    wasted: int
    failed: int
    late: float
    """Seconds from the end of the outage to the first answer."""


def crash(job: Crash) -> Damage:
    """Send the jobs through an outage; each failed send waits with full jitter before the next."""
    rng = random.Random(job.seed)
    policy = RetryPolicy()
    pacer = make_pacer(BELIEVED, job.seed, gate=job.gate)
    wasted = failed = 0
    back: list[float] = []
    todo = iter(range(JOBS))

    async def attempt(loop: asyncio.AbstractEventLoop, began: float) -> bool:
        slot = await pacer.acquire()
        await asyncio.sleep(0.2 + rng.expovariate(10))
        now = loop.time() - began
        if OUTAGE[0] <= now < OUTAGE[1]:
            pacer.record_failure(slot)
            return False
        if now >= OUTAGE[1]:
            back.append(now - OUTAGE[1])
        pacer.record_success(slot)
        return True

    async def work(began: float) -> None:
        nonlocal wasted, failed
        loop = asyncio.get_running_loop()
        for _ in todo:
            tries = 0
            while not await attempt(loop, began):
                wasted += 1
                tries += 1
                if tries == job.attempts:
                    failed += 1
                    break
                await asyncio.sleep(draw_backoff(tries - 1, policy, rng))

    async def crew() -> None:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(work(began) for _ in range(job.workers)))

    run(crew())
    return Damage(wasted, failed, min(back))


def mean(values: Iterable[float]) -> float:
    """Give the mean."""
    return statistics.fmean(values)


def cell(scores: list[Score]) -> str:
    """Write the means of one cell: share, and refusals an hour."""
    share, refused = mean(score.share for score in scores), mean(score.refused for score in scores)
    return f"{100 * share:7.2f} %{refused:9,.0f}"


def table(title: str, names: Iterable[str], columns: dict[str, Callable[[str], str]]) -> None:
    """Print a table with a row for each kind of server."""
    print(f"\n{title}")
    print(f"  {'':34}" + "".join(f"{head:>24}" for head in columns))
    for name in names:
        print(f"  {name:34}" + "".join(f"{write(name):>24}" for write in columns.values()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, as the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="virtual minutes of each run, unknown limit")
    parser.add_argument("--known-minutes", type=float, default=20.0, help="the same, known limit")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--processes", type=int, default=0, help="0 for one each processor")
    options = parser.parse_args(arguments)
    seeds, workers = range(1, options.seeds + 1), options.workers
    began = time.perf_counter()

    def jobs(kind: str, believed: int, allowed: int, *, gate: bool) -> list[Job]:
        minutes = options.known_minutes if believed == allowed else options.minutes
        return [Job(kind, believed, allowed, gate, seed, workers, minutes) for seed in seeds]

    cases = [job for kind in KNOWN for limit in (1000, 400) for job in jobs(kind, limit, limit, gate=True)]
    cases += [job for kind in UNKNOWN for gate in (True, False) for job in jobs(kind, BELIEVED, ALLOWED, gate=gate)]
    crashes = {
        "gate, until the deadline": (True, None),
        "full jitter, until the deadline": (False, None),
        "full jitter, 8 attempts": (False, 8),
        "full jitter, 3 attempts": (False, 3),
    }
    with ProcessPoolExecutor(options.processes or os.cpu_count()) as pool:
        scores = dict(zip(cases, pool.map(saturate, cases), strict=True))
        damages = {
            name: list(pool.map(crash, [Crash(gate, attempts, seed, workers) for seed in seeds]))
            for name, (gate, attempts) in crashes.items()
        }

    def column(believed: int, allowed: int, *, gate: bool) -> Callable[[str], str]:
        return lambda kind: cell([scores[job] for job in jobs(kind, believed, allowed, gate=gate)])

    print(
        f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}; {workers} workers, {options.seeds} seeds; "
        "share of the limit, 429s an hour"
    )
    table(
        f"A limit that is known, {options.known_minutes:g} min of virtual time",
        KNOWN,
        {f"{limit} a minute": column(limit, limit, gate=True) for limit in (1000, 400)},
    )
    table(
        f"A client that believes {BELIEVED} where {ALLOWED} are allowed, {options.minutes:g} min of virtual time",
        UNKNOWN,
        {
            "gate": column(BELIEVED, ALLOWED, gate=True),
            "without reaction": column(BELIEVED, ALLOWED, gate=False),
        },
    )
    length = OUTAGE[1] - OUTAGE[0]
    print(f"\n{length:g} s of outage, {JOBS:,} calls at {BELIEVED} a minute: means")
    print(f"  {'':34}{'wasted sends':>14}{'failed calls':>14}{'first answer after':>21}")
    for name, damage in damages.items():
        wasted, failed = mean(one.wasted for one in damage), mean(one.failed for one in damage)
        print(f"  {name:34}{wasted:14,.0f}{failed:14,.0f}{mean(one.late for one in damage):19.1f} s")
    print(f"\n{time.perf_counter() - began:.0f} s of real time on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
