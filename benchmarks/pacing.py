"""Share of a rate limit that pacing uses, and the 429s that it costs, in virtual time and without network.

Workers send without rest. A request reaches the server after 30 ms and an exponential delay of 20 ms on average; a
response takes 200 ms more and an exponential delay of 100 ms, a 429 takes 50 ms. Figures are means over the seeds,
which set jitter, delays and the phase of fixed windows, and are the same in every run.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Protocol

from attrs import frozen

from benchmarks import virtual
from benchmarks.report import Settings, Table, show
from harness_async import RateLimit, RatePacer, RetryPolicy
from harness_async.http.rate_limit import RateLimiter
from harness_async.http.retry import draw_backoff
from harness_async.testing import Bucket, FixedWindow, SlidingCounter, SlidingWindow

WORKERS = 32
CONFIGURED, ALLOWED = 1000, 400
"""The two published limits: the one that a client is configured with, and the one that may apply to it."""

CALLS = 3000
OUTAGE = (60.0, 90.0)
"""Seconds from the beginning between which every response is a 503."""


class Server(Protocol):
    """A rate limit in virtual time."""

    def allow(self, now: float) -> bool:
        """Return whether a request at this time is within the limit."""
        ...


SERVERS: dict[str, Callable[[int, random.Random], Server]] = {
    "fixed window": lambda limit, rng: FixedWindow(limit, phase=rng.uniform(0, 60)),
    "fixed window, 429s counted": lambda limit, rng: FixedWindow(limit, phase=rng.uniform(0, 60), count_refused=True),
    "sliding window": lambda limit, _: SlidingWindow(limit),
    "sliding counter": lambda limit, _: SlidingCounter(limit),
    "bucket of the limit": lambda limit, _: Bucket(limit),
    "bucket of a twentieth": lambda limit, _: Bucket(limit, capacity=limit / 20),
    "sliding window, 429s counted": lambda limit, _: SlidingWindow(limit, count_refused=True),
    "sliding window, ban of 120 s": lambda limit, _: SlidingWindow(limit, ban=120.0),
}


@frozen
class Job:
    """One run: a client configured with a limit, and a server that has one."""

    kind: str
    configured: int
    allowed: int
    seed: int
    minutes: float


def create_pacer(limit: int, seed: int) -> RatePacer:
    """Create a pacer with seeded jitter."""
    return RatePacer(limiter=RateLimiter(RateLimit(limit), rng=random.Random(seed)))


def saturate(job: Job) -> tuple[float, float]:
    """Let workers send without rest; return the share of the limit that was used, and the 429s an hour."""
    rng = random.Random(f"{job.kind}/{job.seed}")
    server = SERVERS[job.kind](job.allowed, rng)
    pacer = create_pacer(job.configured, job.seed)
    accepted = throttled = 0

    async def work() -> None:
        nonlocal accepted, throttled
        loop = asyncio.get_running_loop()
        end = job.minutes * 60
        while loop.time() < end:
            permit = await pacer.acquire()
            await asyncio.sleep(0.03 + rng.expovariate(50))
            if server.allow(loop.time()):
                accepted += loop.time() < end
                await asyncio.sleep(0.2 + rng.expovariate(10))
                pacer.record_success(permit)
            else:
                await asyncio.sleep(0.05)
                throttled += 1
                pacer.record_throttled(permit, None)

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(WORKERS)))

    virtual.run(main())
    return accepted / (job.allowed * job.minutes), throttled * 60 / job.minutes


def endure(seed: int) -> tuple[int, float]:
    """Send calls through an outage; return the failed requests, and the seconds from its end to the first success."""
    rng, policy, pacer, failed = random.Random(seed), RetryPolicy(), create_pacer(CONFIGURED, seed), 0
    recovered: list[float] = []
    calls = iter(range(CALLS))

    async def work() -> None:
        nonlocal failed
        loop = asyncio.get_running_loop()
        for _ in calls:
            retries = 0
            while True:
                permit = await pacer.acquire()
                await asyncio.sleep(0.2 + rng.expovariate(10))
                if not OUTAGE[0] <= loop.time() < OUTAGE[1]:
                    break
                failed += 1
                pacer.record_failure(permit)
                await asyncio.sleep(draw_backoff(retries, policy, rng))
                retries += 1
            pacer.record_success(permit)
            if loop.time() >= OUTAGE[1]:
                recovered.append(loop.time() - OUTAGE[1])

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(WORKERS)))

    virtual.run(main())
    return failed, min(recovered)


def run(settings: Settings) -> None:
    """Measure and print."""
    seeds = range(1, 2 if settings.quick else 4)
    minutes = 1.0 if settings.quick else 20.0
    cases = {
        f"{limit:,} a minute, known": [
            [Job(kind, limit, limit, seed, minutes) for seed in seeds] for kind in tuple(SERVERS)[:6]
        ]
        for limit in (CONFIGURED, ALLOWED)
    }
    cases[f"{ALLOWED:,} a minute, client configured with {CONFIGURED:,}"] = [
        [Job(kind, CONFIGURED, ALLOWED, seed, 3 * minutes) for seed in seeds] for kind in SERVERS
    ]
    with ProcessPoolExecutor() as pool:
        for title, groups in cases.items():
            results = iter(pool.map(saturate, [job for group in groups for job in group]))
            rows = []
            for group in groups:
                shares, throttled = zip(*[next(results) for _ in group], strict=True)
                rows.append([group[0].kind, f"{statistics.fmean(shares):.2%}", f"{statistics.fmean(throttled):,.0f}"])
            length = f"{groups[0][0].minutes:g} min of virtual time, {len(seeds)} seeds, {WORKERS} workers"
            show(Table(f"Rate limit: {title}", ("server", "share of the limit", "429s an hour"), rows, [length]))
        failed, late = zip(*pool.map(endure, seeds), strict=True)
    title = f"{OUTAGE[1] - OUTAGE[0]:g} s of 503, {CALLS:,} calls at {CONFIGURED:,} a minute"
    columns = ("", "failed requests", "s to the first success")
    show(Table(title, columns, [["gate", f"{statistics.fmean(failed):,.0f}", f"{statistics.fmean(late):.1f}"]]))
