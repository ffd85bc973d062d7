"""How near walks and runs come to what the latency of the server allows, at 50 ms an answer.

*One list, p pages ahead.* Nothing is known of a list before its first page; then p pages can be under way at once, or
one where nothing is prefetched. The ideal is

    latency * (1 + ceil((pages - 1) / max(1, p)))

*Many lists, c at a time.* A client that has c projects at work, at most `max_in_flight` requests under way and at
most 8 pages of one project at once (`crew.MOST_AHEAD`) cannot be faster than the largest of three bounds:

    latency * total pages / max_in_flight                      all places taken all the time
    latency * sum of (1 + ceil((pages - 1) / 8)) / c           each project read as fast as one can be, c at a time
    latency * (1 + ceil((pages - 1) / 8)) of the longest list  which is read by one worker

That is not c requests at a time: a project that is alone is read 8 pages at a time.

What is missing to the ideal has two parts. *Schedule* is what the same walks take in virtual time, where nothing
costs time but the latency (`schedule.py`): what their order of requests costs. *CPU* is the processor time of our
process, which one event loop cannot hide where many answers come at a time.

    python -m benchmarks latency
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterable, Callable, Coroutine, Sequence
from importlib import import_module
from math import ceil
from typing import Any

from attrs import frozen

from benchmarks.readers import make_client, open_raw
from benchmarks.report import NOT_INSTALLED, Settings, Table, median, show, spread
from benchmarks.server import ORG, PAGE_SIZE, project_name, start_server

LATENCY = 0.05
"""Seconds before each answer."""

IN_FLIGHT = 32
"""The client's default of `max_in_flight`."""

MOST_AHEAD = 8
"""Pages of one project under way at once, at most: that of `crew`, written down again lest the bound follow it."""

PREFETCH = (0, 1, 8)
CONCURRENCY = (1, 8, 32)
AIM = 1.15

LONG = 6.0
"""Seconds from which on a reading is long."""

LONG_RUNS = 3
"""Runs of long readings, whose ratios differ by less than one in a hundred."""


def ideal_walk(pages: int, prefetch: int) -> float:
    """Give the seconds of a walk that waits for nothing but the server."""
    return LATENCY * (1 + ceil((pages - 1) / max(1, prefetch)))


def ideal_bulk(lists: Sequence[int], concurrency: int) -> float:
    """Give the seconds that no run over lists of so many pages can undercut."""
    chains = [1 + ceil((pages - 1) / MOST_AHEAD) for pages in lists]
    return LATENCY * max(sum(lists) / IN_FLIGHT, sum(chains) / concurrency, *chains)


@frozen
class Taken:
    """What one reading took."""

    seconds: float
    cpu: float
    """Seconds of processor time, of this process."""


async def take_time(reading: Coroutine[Any, Any, int], count: int) -> Taken:
    """Read so many rows, and take the time."""
    began, busy = time.perf_counter(), time.process_time()
    assert await reading == count
    return Taken(time.perf_counter() - began, time.process_time() - busy)


async def count_rows(rows: AsyncIterable[object]) -> int:
    """Read all rows."""
    return sum([1 async for _ in rows])


async def read_by_hand(url: str, pages: int) -> Taken:
    """Walk one list with a loop on nothing but aiohttp."""
    async with open_raw(url, decoder="json") as read:
        return await take_time(read(pages), pages * PAGE_SIZE)


async def walk(url: str, pages: int, prefetch: int) -> Taken:
    """Walk one list."""
    async with make_client(url) as client:
        pager = client.executions.list(ORG, project_name(0, pages), consistency="checked", prefetch=prefetch)
        async with pager.walk() as one:
            taken = await take_time(count_rows(one), pages * PAGE_SIZE)
    assert one.report.consistency == "exact"
    return taken


async def run_bulk(url: str, lists: Sequence[int], concurrency: int) -> Taken:
    """Read many lists."""
    refs = [(ORG, project_name(number, pages)) for number, pages in enumerate(lists)]
    async with make_client(url) as client, client.executions.bulk(refs, concurrency=concurrency) as bulk:
        return await take_time(count_rows(bulk), sum(lists) * PAGE_SIZE)


@frozen
class Row:
    """One line of a table: what is read, and what that should take."""

    name: str
    ideal: float
    schedule: Callable[[], float]
    """Gives the seconds that it takes in virtual time."""

    once: Callable[[str], Coroutine[Any, Any, Taken]]
    """Reads once, of the server of that URL."""


def hand_row(pages: int) -> Row:
    """Make the row of a loop by hand: what the machine and its loopback add to the latency of a request."""
    ideal = ideal_walk(pages, 0)
    return Row("raw aiohttp, json", ideal, lambda: ideal, lambda url: read_by_hand(url, pages))


def walk_row(pages: int, ahead: int) -> Row:
    """Make the row of a walk."""
    return Row(
        f"prefetch {ahead}",
        ideal_walk(pages, ahead),
        lambda: import_module("benchmarks.schedule").walk(pages, ahead, LATENCY),
        lambda url: walk(url, pages, ahead),
    )


def bulk_row(lists: Sequence[int], concurrency: int) -> Row:
    """Make the row of a run over many lists."""
    return Row(
        f"concurrency {concurrency}",
        ideal_bulk(lists, concurrency),
        lambda: import_module("benchmarks.schedule").run_bulk(lists, concurrency, LATENCY, IN_FLIGHT),
        lambda url: run_bulk(url, lists, concurrency),
    )


def measure(title: str, rows: Sequence[Row], url: str, runs: int, *, virtual: bool) -> Table:
    """Read everything several times in turns, after one reading for which the server makes its pages."""
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
        schedule = f"{row.schedule():.2f}" if virtual else NOT_INSTALLED
        ratio = f"{median(seconds) / row.ideal:.2f}"
        cpu = f"{median([each.cpu for each in taken]):.2f}"
        cells = [f"{row.ideal:.2f}", schedule, f"{median(seconds):.2f}", spread(seconds, ".2f"), ratio, f"{AIM}", cpu]
        lines.append([row.name, *cells])
    columns = ("s", "ideal", "schedule", "taken", "lowest - highest", "ratio", "aim", "CPU")
    note = (
        f"{1000 * LATENCY:.0f} ms an answer; {runs} runs in turns, each with a new client; "
        f"{min(runs, LONG_RUNS)} of what takes longer than {LONG:.0f} s."
    )
    return Table(title, columns, lines, (note,))


def run(settings: Settings) -> None:
    """Measure and print."""
    runs, pages, projects = (1, 20, 10) if settings.quick else (7, 200, 100)
    rng = random.Random(1)
    lists = [rng.randint(1, pages // 4) for _ in range(projects)]
    tables = {
        f"One list of {pages} pages, checked": [
            hand_row(pages),
            *(walk_row(pages, ahead) for ahead in PREFETCH),
        ],
        f"{projects} lists of 1 to {pages // 4} pages, {sum(lists):,} in all, checked": [
            bulk_row(lists, concurrency) for concurrency in CONCURRENCY
        ],
    }
    with start_server(LATENCY) as server:
        for title, rows in tables.items():
            show(measure(title, rows, server.url, runs, virtual=settings.has("looptime")))
