"""A bulk run over very many projects, in virtual time: share of the limit, requests, memory of the run itself.

    python benchmarks/scale.py [--projects 20000] [--per-minute 1000]

The crew, the pacer and the walks are the real ones; in place of HTTP a source answers after 0.2 to 0.5 s.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence

import looptime
from attrs import define, field

from harness_async.bulk.run import BulkRun
from harness_async.bulk.workers import BulkSpec
from harness_async.config import RateLimit
from harness_async.http.pacer import RatePacer
from harness_async.http.transport import RawResponse, ServerClock
from harness_async.pagination.pager import ListPager
from harness_async.pagination.source import FetchedPage, ListSpec, PageTotals, hash_by
from harness_async.types import ProjectRef, TimeWindow


@define
class Source:
    """Empty lists, at the pace of the limit."""

    pacer: RatePacer
    rng: random.Random
    first_page: int = 1
    identity: object = None
    clock: ServerClock = field(factory=ServerClock)
    requests: int = 0

    async def fetch(self, number: int, limit: int, bounds: TimeWindow | None = None) -> FetchedPage[int]:
        """Answer with nothing, after a while."""
        del number, bounds  # every page is empty
        slot = await self.pacer.acquire()
        self.requests += 1
        await asyncio.sleep(self.rng.uniform(0.2, 0.5))
        self.pacer.record_success(slot)
        return FetchedPage(items=[], totals=PageTotals(items=0, pages=0, size=limit))

    def decode(self, response: RawResponse) -> FetchedPage[int]:
        """Decode nothing: these pages have no response."""
        raise AssertionError(response)


def refs(count: int) -> Iterator[ProjectRef]:
    """Name so many projects."""
    for number in range(count):
        yield ProjectRef(f"org{number // 100}", f"project{number}")


async def run(projects: int, per_minute: int) -> None:
    """Run once and print."""
    loop = asyncio.get_running_loop()
    source = Source(RatePacer(RateLimit(per_minute)), random.Random(1))

    def open_list(_ref: ProjectRef, _end: int | None) -> ListPager[int]:
        return ListPager(ListSpec(source=source, hash_keys=hash_by(lambda row: row)))

    job = BulkSpec(open_list=open_list, projects=refs(projects), limited_by=lambda: "rate limit", unlisted={})
    began, real = loop.time(), time.perf_counter()
    tracemalloc.start()
    async with BulkRun(job) as bulk:
        async for _ in bulk:
            pass
        report = bulk.report
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    minutes = (loop.time() - began) / 60
    share = source.requests / minutes / per_minute
    print(
        f"Python {sys.version.split()[0]}, {projects:,} empty projects, {per_minute} a minute, 32 workers, virtual time"
    )
    print(f"  complete {report.complete:,}, requests {source.requests:,}, {minutes:.1f} min, {share:.2%} of the limit")
    print(f"  peak traced memory {peak / 2**20:.1f} MiB; {time.perf_counter() - real:.1f} s of real time, traced")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, as the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--projects", type=int, default=20_000)
    parser.add_argument("--per-minute", type=int, default=1000)
    options = parser.parse_args(arguments)
    loop = looptime.new_event_loop(noop_cycles=0)
    try:
        loop.run_until_complete(run(options.projects, options.per_minute))
    finally:
        loop.close()


if __name__ == "__main__":
    main()
