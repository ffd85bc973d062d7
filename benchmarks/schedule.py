"""How long walks and runs over many lists take in virtual time: what their own order of requests costs, and no more.

The walks, the crew and the machines are the real ones. In place of HTTP a source answers after the latency, and
nothing else takes any time, so that the difference to the ideal is the schedule's alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Coroutine, Sequence
from typing import Any

import looptime
from attrs import define, field

from harness_async.bulk.run import BulkRun
from harness_async.bulk.workers import BulkSpec
from harness_async.http.transport import RawResponse, ServerClock
from harness_async.pagination.pager import ListPager
from harness_async.pagination.source import FetchedPage, ListSpec, PageTotals, hash_by
from harness_async.types import ProjectRef, TimeWindow


@define
class Source:
    """A list of pages of one row, each answered after the latency when it has got a place."""

    pages: int
    latency: float
    places: asyncio.Semaphore
    first_page: int = 1
    identity: object = None
    clock: ServerClock = field(factory=ServerClock)

    async def fetch(self, number: int, limit: int, bounds: TimeWindow | None = None) -> FetchedPage[int]:
        """Answer with one row, which is the number of the page."""
        del limit, bounds  # the same for all
        async with self.places:
            await asyncio.sleep(self.latency)
        return FetchedPage(items=[number], totals=PageTotals(items=self.pages, pages=self.pages, size=1))

    def decode(self, response: RawResponse) -> FetchedPage[int]:
        """Decode nothing: these pages have no response."""
        raise AssertionError(response)

    def open(self, prefetch: int = 0) -> ListPager[int]:
        """Make the list."""
        return ListPager(
            ListSpec(
                source=self,
                hash_keys=hash_by(lambda row: row),
                created=lambda _: 0,
                limit=1,
                prefetch=prefetch,
                consistency="checked",
            )
        )


async def _read(rows: AsyncIterable[int], count: int) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert sum([1 async for _ in rows]) == count
    return loop.time() - began


async def _walk(pages: int, prefetch: int, latency: float) -> float:
    async with Source(pages, latency, asyncio.Semaphore(max(1, prefetch))).open(prefetch).walk() as walk:
        return await _read(walk, pages)


async def _run_bulk(lists: Sequence[int], concurrency: int, latency: float, in_flight: int) -> float:
    places = asyncio.Semaphore(in_flight)
    sources = {
        ProjectRef("default", f"project{number}"): Source(pages, latency, places) for number, pages in enumerate(lists)
    }

    def open_list(ref: ProjectRef, _end: int | None) -> ListPager[int]:
        return sources[ref].open()

    job = BulkSpec(
        open_list=open_list,
        projects=iter(sources),
        limited_by=lambda: "latency",
        concurrency=concurrency,
        max_in_flight=in_flight,
        unlisted={},
    )
    async with BulkRun(job) as run:
        return await _read(run, sum(lists))


def _in_virtual_time(main: Coroutine[Any, Any, float]) -> float:
    loop = looptime.new_event_loop(noop_cycles=0)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


def walk(pages: int, prefetch: int, latency: float) -> float:
    """Give the virtual seconds of a checked walk."""
    return _in_virtual_time(_walk(pages, prefetch, latency))


def run_bulk(lists: Sequence[int], concurrency: int, latency: float, in_flight: int) -> float:
    """Give the virtual seconds of a checked run over lists of so many pages."""
    return _in_virtual_time(_run_bulk(lists, concurrency, latency, in_flight))
