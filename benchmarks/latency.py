"""Time of walks and bulk runs at a latency of 50 ms, beside the ideal.

*One list, p pages prefetched.* The first page is alone; then p pages can be in flight, or one without prefetching.
The ideal is

    latency * (1 + ceil((pages - 1) / max(1, p)))

*Many lists, concurrency c.* No client with c active projects, `max_in_flight` requests in flight and 8 pages of one
project in flight (`workers.MAX_PREFETCH`) is faster than the largest of

    latency * total pages / max_in_flight
    latency * sum of (1 + ceil((pages - 1) / 8)) / c
    latency * (1 + ceil((pages - 1) / 8)) of the longest list

*Schedule* is what the same walks take in virtual time, where only the latency takes time (`virtual.py`): the cost of
the order of requests. *CPU* is the processor time of the process.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterable, Callable, Coroutine, Sequence
from math import ceil
from typing import Any

from attrs import frozen

from benchmarks.readers import create_client, open_raw
from benchmarks.report import Settings, Table, median, show, spread
from benchmarks.server import ORG, project_name, row_count, start_server
from benchmarks.virtual import bulk_seconds, walk_seconds

LATENCY = 0.05
"""Seconds before each response."""

IN_FLIGHT = 32
"""The client's default of `max_in_flight`."""

MAX_PREFETCH = 8
"""Pages of one project in flight at most, as in `bulk.workers`; not imported, so that the ideal does not follow it."""

PREFETCH = (0, 1, 8)
CONCURRENCY = (1, 8, 32)
AIM = 1.15

LONG = 6.0
LONG_RUNS = 3
"""Runs of what takes longer than `LONG` seconds."""


def ideal_walk(pages: int, prefetch: int) -> float:
    """Return the ideal seconds of a walk."""
    return LATENCY * (1 + ceil((pages - 1) / max(1, prefetch)))


def ideal_bulk(lists: Sequence[int], concurrency: int) -> float:
    """Return the ideal seconds of a bulk run over lists of so many pages."""
    chains = [1 + ceil((pages - 1) / MAX_PREFETCH) for pages in lists]
    return LATENCY * max(sum(lists) / IN_FLIGHT, sum(chains) / concurrency, *chains)


@frozen
class Taken:
    """Seconds of one run."""

    seconds: float
    cpu: float
    """Processor time of this process."""


async def timed(reading: Coroutine[Any, Any, int], count: int) -> Taken:
    """Read so many rows and measure the time."""
    began, busy = time.perf_counter(), time.process_time()
    assert await reading == count
    return Taken(time.perf_counter() - began, time.process_time() - busy)


async def count_rows(rows: AsyncIterable[object]) -> int:
    """Read all rows."""
    return sum([1 async for _ in rows])


async def read_raw(url: str, pages: int) -> Taken:
    """Read one list with a loop on aiohttp."""
    async with open_raw(url, decoder="json") as read:
        return await timed(read(pages), row_count(pages))


async def walk(url: str, pages: int, prefetch: int) -> Taken:
    """Walk one list."""
    async with create_client(url) as client:
        pager = client.executions.list(ORG, project_name(0, pages), consistency="checked", prefetch=prefetch)
        async with pager.walk() as one:
            taken = await timed(count_rows(one), row_count(pages))
    assert one.report.guarantee == "exact"
    return taken


async def run_bulk(url: str, lists: Sequence[int], concurrency: int) -> Taken:
    """Read many lists."""
    refs = [(ORG, project_name(number, pages)) for number, pages in enumerate(lists)]
    async with create_client(url) as client, client.executions.bulk(refs, concurrency=concurrency) as bulk:
        return await timed(count_rows(bulk), sum(map(row_count, lists)))


@frozen
class Row:
    """One row of a table."""

    name: str
    ideal: float
    schedule: Callable[[], float]
    """Returns the seconds in virtual time."""

    once: Callable[[str], Coroutine[Any, Any, Taken]]
    """Reads once from the server with that URL."""


def raw_row(pages: int) -> Row:
    """Create the row of a loop on aiohttp: what the machine adds to the latency of a request."""
    ideal = ideal_walk(pages, 0)
    return Row("raw aiohttp, json", ideal, lambda: ideal, lambda url: read_raw(url, pages))


def walk_row(pages: int, ahead: int) -> Row:
    """Create the row of a walk."""
    return Row(
        f"prefetch {ahead}",
        ideal_walk(pages, ahead),
        lambda: walk_seconds(pages, ahead, LATENCY),
        lambda url: walk(url, pages, ahead),
    )


def bulk_row(lists: Sequence[int], concurrency: int) -> Row:
    """Create the row of a bulk run."""
    return Row(
        f"concurrency {concurrency}",
        ideal_bulk(lists, concurrency),
        lambda: bulk_seconds(lists, concurrency, LATENCY, IN_FLIGHT),
        lambda url: run_bulk(url, lists, concurrency),
    )


def measure(title: str, rows: Sequence[Row], url: str, runs: int) -> Table:
    """Run every row several times in turns, after one run for which the server creates its pages."""
    asyncio.run(rows[-1].once(url))
    times: dict[str, list[Taken]] = {row.name: [] for row in rows}
    for turn in range(runs):
        for row in rows:
            if turn < LONG_RUNS or row.ideal < LONG:
                times[row.name].append(asyncio.run(row.once(url)))
    lines = []
    for row in rows:
        taken = times[row.name]
        seconds = [each.seconds for each in taken]
        schedule = f"{row.schedule():.2f}"
        ratio = f"{median(seconds) / row.ideal:.2f}"
        cpu = f"{median([each.cpu for each in taken]):.2f}"
        cells = [f"{row.ideal:.2f}", schedule, f"{median(seconds):.2f}", spread(seconds, ".2f"), ratio, f"{AIM}", cpu]
        lines.append([row.name, *cells])
    columns = ("s", "ideal", "schedule", "taken", "lowest - highest", "ratio", "aim", "CPU")
    note = (
        f"{1000 * LATENCY:.0f} ms a response; {runs} runs in turns, each with a new client; "
        f"{min(runs, LONG_RUNS)} of what takes longer than {LONG:.0f} s."
    )
    return Table(title, columns, lines, (note,))


def run(settings: Settings) -> None:
    """Measure and print."""
    runs, pages, projects = (1, 8, 4) if settings.quick else (7, 200, 100)
    rng = random.Random(1)
    lists = [rng.randint(1, pages // 4) for _ in range(projects)]
    tables = {
        f"One list of {pages} pages, checked": [
            raw_row(pages),
            *(walk_row(pages, ahead) for ahead in PREFETCH),
        ],
        f"{projects} lists of 1 to {pages // 4} pages, {sum(lists):,} in all, checked": [
            bulk_row(lists, concurrency) for concurrency in CONCURRENCY
        ],
    }
    with start_server(LATENCY) as url:
        for title, rows in tables.items():
            show(measure(title, rows, url, runs))
