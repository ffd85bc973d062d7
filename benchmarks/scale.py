"""A bulk run over thousands of projects, in virtual time: share of the rate limit, requests, memory of the run.

Every list is empty, and every request takes 0.2 to 0.5 s. The workers, the pacer and the walks are the real ones.
"""

from __future__ import annotations

import asyncio
import random
import time
import tracemalloc

from benchmarks import virtual
from benchmarks.report import Settings, Table, show
from harness_async import RateLimit, RatePacer

PER_MINUTE = 1000
WORKERS = 32


async def _measure(projects: int) -> list[str]:
    pacer, rng, requests = RatePacer(RateLimit(PER_MINUTE)), random.Random(1), 0

    async def send() -> None:
        nonlocal requests
        permit = await pacer.acquire()
        requests += 1
        await asyncio.sleep(rng.uniform(0.2, 0.5))
        pacer.record_success(permit)

    source = virtual.Source(0, send)
    began = time.perf_counter()
    tracemalloc.start()
    async with virtual.bulk_run([source] * projects, WORKERS, WORKERS) as bulk:
        assert [row async for row in bulk] == []
        assert bulk.report.complete == projects
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    minutes = asyncio.get_running_loop().time() / 60
    return [
        f"{projects:,} empty projects",
        f"{requests:,}",
        f"{minutes:.1f}",
        f"{requests / minutes / PER_MINUTE:.2%}",
        f"{peak / 2**20:.1f}",
        f"{time.perf_counter() - began:.1f}",
    ]


def run(settings: Settings) -> None:
    """Measure and print."""
    row = virtual.run(_measure(200 if settings.quick else 20_000))
    columns = ("", "requests", "minutes", "of the limit", "peak MiB, traced", "real s, traced")
    title = f"A bulk run with {WORKERS} workers at {PER_MINUTE:,} requests a minute"
    show(Table(title, columns, [row]))
