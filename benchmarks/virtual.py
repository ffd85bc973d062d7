"""Walks and bulk runs in virtual time: the real strategies, workers and pacers, over lists without HTTP.

The clock of the loop jumps to the next timer, so that only the waits of the list's requests take time.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from email.utils import formatdate
from typing import Any, TypeVar

from attrs import define, field

from harness_async.bulk.run import BulkRun
from harness_async.bulk.workers import BulkSpec
from harness_async.http.transport import RawResponse, ServerClock
from harness_async.pagination.pager import ListPager
from harness_async.pagination.source import FetchedPage, ListSpec, PageTotals, hash_by
from harness_async.types import ProjectRef, TimeWindow

T = TypeVar("T")

LIMIT = 2
"""Rows of a page."""

NEWEST = 10**12
"""When the first row was created, in milliseconds; each row is a millisecond older than the one before it."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop without sockets whose clock jumps to the next timer."""

    def __init__(self) -> None:
        self._now = 0.0
        selector = selectors.SelectSelector()
        setattr(selector, "select", self._jump)  # noqa: B010 - a method replaced on purpose
        super().__init__(selector)

    def time(self) -> float:
        """Return the virtual time."""
        return self._now

    def _jump(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("the loop waits for something that is not a timer")
        self._now += timeout
        return []


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def create_clock() -> ServerClock:
    """Create a clock that has seen a `Date`, so that the end of a walk's window is certain."""
    clock = ServerClock()
    clock.observe({"Date": formatdate(usegmt=True)}, time.monotonic())
    return clock


@define
class Source:
    """A list of pages of two rows; the last page has one row."""

    pages: int
    send: Callable[[], Awaitable[object]]
    """Waits as long as a request takes."""

    first_page: int = 1
    identity: object = None
    clock: ServerClock = field(factory=create_clock)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return max(0, self.pages * LIMIT - 1)

    async def fetch(self, number: int, limit: int, window: TimeWindow | None = None) -> FetchedPage[int]:
        """Return a page of row numbers."""
        del window  # the list does not change
        await self.send()
        first = (number - 1) * limit
        totals = PageTotals(items=self.rows, pages=self.pages, size=limit)
        return FetchedPage(items=range(first, max(first, min(first + limit, self.rows))), totals=totals)

    def decode(self, response: RawResponse) -> FetchedPage[int]:
        """Refuse: these pages have no response."""
        raise AssertionError(response)

    def open(self, prefetch: int = 0) -> ListPager[int]:
        """Open the list as a checked pager."""
        return ListPager(
            ListSpec(
                source=self,
                hash_keys=hash_by(lambda row: row),
                created=lambda row: NEWEST - row,
                limit=LIMIT,
                prefetch=prefetch,
                consistency="checked",
            )
        )


def bulk_run(sources: Sequence[Source], concurrency: int, max_in_flight: int) -> BulkRun[int]:
    """Create a bulk run over lists."""
    lists = {ProjectRef("default", f"project{number}"): source for number, source in enumerate(sources)}
    return BulkRun(
        BulkSpec(
            open_list=lambda ref, _end: lists[ref].open(),
            projects=iter(lists),
            limited_by=lambda: "latency",
            concurrency=concurrency,
            max_in_flight=max_in_flight,
            unlisted={},
        )
    )


def _limited(latency: float, in_flight: int) -> Callable[[], Awaitable[object]]:
    semaphore = asyncio.Semaphore(in_flight)

    async def send() -> None:
        async with semaphore:
            await asyncio.sleep(latency)

    return send


def walk_seconds(pages: int, prefetch: int, latency: float) -> float:
    """Return the virtual seconds of a checked walk."""

    async def main() -> float:
        source = Source(pages, _limited(latency, max(1, prefetch)))
        async with source.open(prefetch).walk() as walk:
            assert sum([1 async for _ in walk]) == source.rows
        assert walk.report.guarantee == "exact"
        return asyncio.get_running_loop().time()

    return run(main())


def bulk_seconds(pages: Sequence[int], concurrency: int, latency: float, in_flight: int) -> float:
    """Return the virtual seconds of a checked bulk run over lists of so many pages."""

    async def main() -> float:
        send = _limited(latency, in_flight)
        sources = [Source(each, send) for each in pages]
        async with bulk_run(sources, concurrency, in_flight) as bulk:
            assert sum([1 async for _ in bulk]) == sum(source.rows for source in sources)
        assert all(outcome.guarantee == "exact" for outcome in bulk.report.outcomes.values())
        return asyncio.get_running_loop().time()

    return run(main())
