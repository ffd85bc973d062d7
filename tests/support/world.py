"""Projects in virtual time: a server without sockets whose requests, refusals and pages are observed."""

from __future__ import annotations

import asyncio
import random
import weakref
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from attrs import define, field, frozen

from harness_async import BulkRun, HarnessError, ProjectRef, RatePacer
from harness_async.bulk.workers import BulkSpec
from harness_async.errors import ErrorDetails, PermissionDeniedError
from harness_async.http.transport import RawResponse, ServerClock
from harness_async.pagination.pager import ListPager
from harness_async.pagination.source import FetchedPage, ListSpec, PageTotals, hash_by
from harness_async.testing import Limiter
from harness_async.types import Consistency, TimeWindow

NOW = 1_000_000_000
"""When the newest row was created, in milliseconds; each older one a second before."""


@frozen
class Row:
    """A row of a project."""

    project: str
    number: int


class Rows(list[Row]):
    """The rows of a page, seen as long as they are alive."""

    __slots__ = ("__weakref__",)


@define
class World:
    """Projects on a server that responds after a while, and the requests that it received."""

    totals: dict[str, int]
    seed: int = 1
    pacer: RatePacer = field(factory=RatePacer)
    failing: dict[str, HarnessError] = field(factory=dict[str, HarnessError])
    log: list[tuple[float, str, int]] = field(factory=list[tuple[float, str, int]])
    limiter: Limiter | None = None
    places: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(1000))
    """Requests that may be in flight."""

    refused: int = 0
    alive: int = 0
    most_alive: int = 0

    def latency(self, project: str, number: int) -> float:
        """Return how long a response takes: the same in every run of a seed."""
        return random.Random(f"{self.seed}/{project}/{number}").uniform(0.2, 0.5)

    def watch(self, rows: Rows) -> None:
        """Count a page for as long as it is alive."""
        self.alive += 1
        self.most_alive = max(self.most_alive, self.alive)
        weakref.finalize(rows, self._forget)

    def _forget(self) -> None:
        self.alive -= 1

    def spec(self, consistency: Consistency = "live", **options: Any) -> BulkSpec[Row]:
        """Create the job of reading all projects, with pages of 10 rows."""

        def open_list(ref: ProjectRef, _end: int | None) -> ListPager[Row]:
            return ListPager(
                ListSpec(
                    source=Source(self, ref.project),
                    hash_keys=hash_by(lambda row: (row.project, row.number)),
                    created=lambda row: NOW - 1000 * row.number,
                    limit=10,
                    consistency=consistency,
                )
            )

        refs = [ProjectRef("org", name) for name in self.totals]
        return BulkSpec(
            **{
                "open_list": open_list,
                "projects": refs,
                "limited_by": lambda: "latency",
                "unlisted": {},
                "rate": lambda: self.pacer.limiter.rate(0.0) if self.pacer.limiter.limit else None,
                **options,
            }
        )

    def least(self) -> int:
        """Count the requests that reading everything takes when nothing moves."""
        return sum(total // 10 + 1 for total in self.totals.values())  # a full page is not the last one


def known_clock() -> ServerClock:
    """Create the clock of a server that has responded before, so that windows are frozen."""
    clock = ServerClock()
    clock.observe({"Date": formatdate(usegmt=True)}, clock.monotonic())
    return clock


@define
class Source:
    """The list of one project."""

    world: World
    project: str
    first_page: int = 1
    clock: ServerClock = field(factory=known_clock)

    @property
    def identity(self) -> object:
        """Name the list."""
        return self.project

    async def fetch(self, number: int, limit: int, bounds: TimeWindow | None = None) -> FetchedPage[Row]:
        """Respond after a while with the rows of a page within a time window."""
        world = self.world
        slot = await world.pacer.acquire()
        now = asyncio.get_running_loop().time()
        world.log.append((now, self.project, number))
        world.refused += world.limiter is not None and not world.limiter.allow(now)
        async with world.places:
            await asyncio.sleep(world.latency(self.project, number))
        world.pacer.record_success(slot)
        if self.project in world.failing:
            raise world.failing[self.project]
        start, end = (0, NOW) if bounds is None else (bounds.start or 0, bounds.end or NOW)
        numbers = [each for each in range(world.totals[self.project]) if start <= NOW - 1000 * each <= end]
        rows = Rows(Row(self.project, each) for each in numbers[(number - 1) * limit : number * limit])
        world.watch(rows)
        return FetchedPage(items=rows, totals=PageTotals(items=len(numbers), pages=None, size=limit))

    def decode(self, response: RawResponse) -> FetchedPage[Row]:
        """Decode nothing: these pages have no response."""
        raise AssertionError(response)


def served(world: World) -> Counter[Row]:
    """Return the rows of the server, each once."""
    return Counter(Row(name, number) for name, total in world.totals.items() for number in range(total))


async def take(run: BulkRun[Row], pause: Callable[[], float] = lambda: 0.0) -> Counter[Row]:
    """Take all rows, with a pause after each."""
    got: Counter[Row] = Counter()
    async with run:
        async for row in run:
            got[row] += 1
            if rest := pause():
                await asyncio.sleep(rest)
    return got


def refusal(kind: type[Any] = PermissionDeniedError, status: int = 403) -> HarnessError:
    """Create an error of the API."""
    error: HarnessError = kind(ErrorDetails(message="no"), status=status, method="GET", url="u", attempts=())
    return error
