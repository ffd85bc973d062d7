"""Bulk runs over thousands of projects, in virtual time: share of the rate limit, refusals, memory of the runs.

Every list is empty, and every request takes 0.2 to 0.5 s. The workers, the pacer and the walks are the real ones. Two
resources at once are two runs that share one pacer, as those of one client do. The server counts requests in a sliding
window, exactly.
"""

from __future__ import annotations

import asyncio
import random
import time
import tracemalloc

from benchmarks import virtual
from benchmarks.report import Settings, Table, show
from harness_async import RateLimit, RatePacer
from harness_async.testing import SlidingWindow

PER_MINUTE = 1000
WORKERS = 32


async def _measure(projects: int, resources: int) -> list[str]:
    pacer, rng, limiter = RatePacer(RateLimit(PER_MINUTE)), random.Random(1), SlidingWindow(PER_MINUTE)
    loop = asyncio.get_running_loop()
    requests = refusals = 0

    async def send() -> None:
        nonlocal requests, refusals
        permit = await pacer.acquire()
        requests += 1
        refusals += not limiter.allow(loop.time())
        await asyncio.sleep(rng.uniform(0.2, 0.5))
        pacer.record_success(permit)

    async def read(source: virtual.Source) -> None:
        async with virtual.bulk_run([source] * projects, WORKERS, WORKERS) as bulk:
            assert [row async for row in bulk] == []
            assert bulk.report.complete == projects

    began = time.perf_counter()
    tracemalloc.start()
    await asyncio.gather(*(read(virtual.Source(0, send)) for _ in range(resources)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    minutes = loop.time() / 60
    return [
        f"{projects:,} empty projects" if resources == 1 else f"{resources} x {projects:,} at once",
        f"{requests:,}",
        f"{minutes:.1f}",
        f"{requests / minutes / PER_MINUTE:.2%}",
        f"{refusals:,}",
        f"{peak / 2**20:.1f}",
        f"{peak / requests:.0f}",
        f"{time.perf_counter() - began:.1f}",
    ]


def run(settings: Settings) -> None:
    """Measure and print."""
    sizes = [200] if settings.quick else [2_000, 20_000]
    rows = [virtual.run(_measure(projects, resources)) for resources in (1, 2) for projects in sizes]
    columns = ("", "requests", "minutes", "of the limit", "refused", "peak MiB", "bytes a list", "real s, traced")
    title = f"A bulk run with {WORKERS} workers at {PER_MINUTE:,} requests a minute"
    show(Table(title, columns, rows))
