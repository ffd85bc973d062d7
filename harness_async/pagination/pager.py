"""Lists as users meet them: `Pager`, `Page`, `Walk`; and the driver that does what a machine of `walking` says.

A pager is a recipe and holds nothing open. Each iteration is a walk of its own: pages asked for as the machine
says, up to `prefetch` of them ahead of the consumer, handed over in the order in which they were asked for. There is
no queue and no task group here. The consumer's own call fetches when nothing is prefetched; otherwise a few tasks
are under way, topped up when one ends or a page is taken, so that a slow consumer holds back the server and a walk
that is left early has a known set of tasks to cancel.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar, get_args

from attrs import define, evolve, field, frozen

from harness_async.errors import BadRequestError, NotFoundError, PaginationError
from harness_async.http.protocol import ServerClock, Totals, check_int, check_limit
from harness_async.pagination.checked import CheckedStrategy
from harness_async.pagination.seek import OutsideWindowError, SeekStrategy
from harness_async.pagination.strategy import Guarantee, LiveStrategy, PageRequest, PageResult, TimeWindow, WalkStrategy

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("harness_async")

Consistency: TypeAlias = Literal["live", "checked", "strict"]


@frozen(kw_only=True)
class Page(Generic[T]):
    """One page of a list, less the rows that an earlier page already brought."""

    items: Sequence[T]
    number: int
    """As the API counts: from 1 in IaCM, from 0 in the v1 generation."""

    size: int
    """Rows of a full page, as the server told or as it was asked."""

    total_items: int | None = None
    total_pages: int | None = None


@frozen(kw_only=True)
class WalkReport:
    """What a walk cost and what it guarantees."""

    consistency: Guarantee = "live"
    requests: int = 0
    """Sends, those of retries included."""

    pages: int = 0
    rows: int = 0
    duplicates: int = 0
    """Rows that came more than once and were delivered once."""

    window: tuple[int | None, int | None] | None = None
    """Start and frozen end of the walk, in milliseconds since 1970; None where nothing was frozen."""


@define(kw_only=True, eq=False, repr=False)
class FetchedPage(Generic[T]):
    """A page as it came from the server."""

    items: Sequence[T]
    totals: Totals
    requests: int = 1
    """Sends it took."""


@frozen(kw_only=True)
class ListEstimate:
    """What the first page of a list tells of the whole."""

    rows: int | None
    """How many there are; None where the server does not say."""

    requests: int
    """What reading the list takes at least, the first page included."""


class Source(Protocol[T]):
    """A list that can be asked for its pages; the session makes them."""

    @property
    def first_page(self) -> int:
        """The number of the first page."""
        ...

    @property
    def clock(self) -> ServerClock:
        """The server's clock, as far as it is known."""
        ...

    def fetch(self, number: int, limit: int, bounds: TimeWindow | None = None) -> Awaitable[FetchedPage[T]]:
        """Ask for one page, of the window `bounds` in place of the caller's where there is one."""
        ...


@frozen(kw_only=True, eq=False, repr=False)
class ListSpec(Generic[T]):
    """What a walk needs to know of its list."""

    source: Source[T]
    hashes: Callable[[Sequence[T]], Sequence[int]] | None = None
    """Hashes what tells each of some rows from the others; without it none is dropped. Among a million rows two share
    a hash with a probability of 3 in 100 million."""

    created: Callable[[T], int] | None = None
    """When a row was created, in milliseconds; without it there is only `live`."""

    window: TimeWindow = (None, None)
    """The caller's own time filters, which `source` has as well."""

    volatile: bool = False
    """Whether a filter lets rows enter and leave the list while they exist."""

    limit: int = field(default=100, validator=lambda _i, _a, value: check_limit(value))
    prefetch: int = field(default=0, validator=lambda _i, _a, value: check_int("prefetch", value, 0))
    consistency: Consistency = field(default="live", validator=lambda _i, _a, value: check_consistency(value))


def hashes_by(key: Callable[[T], Hashable]) -> Callable[[Sequence[T]], Sequence[int]]:
    """Make a function that hashes the key of each row."""
    return lambda rows: [hash(key(row)) for row in rows]


def check_consistency(value: object) -> object:
    """Return the name of a way to walk, or raise `ValueError`."""
    if value not in get_args(Consistency):
        raise ValueError(f"consistency must be one of {', '.join(get_args(Consistency))}, not {value!r}")
    return value


class Walk(ABC, Generic[T]):
    """One walk over a list: an async context manager that ends it for certain, and an async iterator of its rows.

    For one consumer at a time. `report` tells what it cost so far, and after the end what it guarantees.
    """

    def __init__(self, prefetch: int = 0) -> None:
        self.requests: int = 0
        """Sends so far, those of retries included."""

        self.retries: int = 0
        """How many of them repeated a failed one."""

        self.prefetch: int = prefetch
        """Pages to ask for ahead of the consumer; may change while the walk goes on."""

        self._rest: Iterator[T] = iter(())

    def count_sends(self, sends: int) -> None:
        """Count what one request took."""
        self.requests += sends
        self.retries += max(0, sends - 1)

    @property
    @abstractmethod
    def report(self) -> WalkReport:
        """What the walk cost and guarantees, as of now."""

    async def read_page(self) -> Page[T] | None:
        """Wait for the next page that has rows (or is the first); None at the end."""
        page = await self.next_page()
        if self.prefetch:
            self.start()
        return page

    @abstractmethod
    async def next_page(self) -> Page[T] | None:
        """Do as `read_page`, but ask for nothing more until the next page is wanted.

        With the page returned there are never more than `ahead` pages held or under way, or one.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """End the walk and wait until nothing of it is under way. May be called twice."""

    def start(self) -> None:
        """Begin to fetch ahead before the next row is asked for, where the walk fetches ahead at all."""

    def __aiter__(self) -> AsyncGenerator[T, None]:
        """Iterate over the rows; a second loop goes on where the first was left."""
        return self.iterate(close=False)

    async def iterate(self, *, close: bool) -> AsyncGenerator[T, None]:
        """Iterate over the rows, and end the walk with the loop if asked to."""
        try:
            while True:
                for item in self._rest:
                    yield item
                page = await self.read_page()
                if page is None:
                    return
                self._rest = iter(page.items)
        finally:
            if close:
                await self.aclose()

    async def pages(self, *, close: bool = False) -> AsyncGenerator[Page[T], None]:
        """Iterate over the pages, and end the walk with the loop if asked to."""
        try:
            while (page := await self.read_page()) is not None:
                yield page
        finally:
            if close:
                await self.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class ListWalk(Walk[T]):
    """A walk that can look at its list before it is read, as a run over many lists does."""

    def __init__(self, prefetch: int = 0) -> None:
        super().__init__(prefetch)
        self.expected: int = 1
        """Requests that the walk takes at least, as far as it is known."""

    def expect(self, requests: int) -> None:
        """Note what the walk takes at least."""
        self.expected = requests

    @property
    def left(self) -> int:
        """Requests that are still to be made, as far as it is known."""
        return max(0, self.expected - self.report.requests)

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether all has been read, so that the next page is None."""

    @abstractmethod
    async def fetch_first_page(self) -> ListEstimate:
        """Ask for the first page now, before anything is read, and keep it for when it is wanted."""


class Listing(Protocol[T]):
    """What gives such walks; its rows must pickle."""

    def walk(self) -> ListWalk[T]:
        """Make a walk over the list."""
        ...


def create_strategy(plan: ListSpec[Any]) -> WalkStrategy:
    """Make the machine that walks a list as it was asked to; an open window is closed at the server's now."""
    start, end = plan.window
    # A start in the future makes an empty window, not one that ends before it begins.
    window = (start, max(plan.source.clock.now(), start or 0) if end is None else end)
    match plan.consistency:
        case "checked" if plan.created is not None:
            return CheckedStrategy(plan.limit, window, volatile=plan.volatile)
        case "strict" if plan.created is not None:
            return SeekStrategy(plan.limit, window)
        case _:
            return LiveStrategy(plan.limit)


def estimate(plan: ListSpec[Any], first: FetchedPage[Any]) -> ListEstimate:
    """Tell from the first page what a list has and what reading it takes, if nothing moves."""
    totals, count = first.totals, len(first.items)
    if not count:
        return ListEstimate(rows=totals.items, requests=1)
    page_size = totals.size if totals.size and count <= totals.size < plan.limit else min(plan.limit, count)
    if totals.items is None:
        requests = totals.pages if totals.pages is not None else 1 + (count == plan.limit)
    elif plan.created is not None and (
        plan.consistency == "strict" or (plan.consistency == "checked" and plan.volatile)
    ):
        # A window begins with the last row of the one before, and one that is not full is the last.
        is_full = count == plan.limit or count < totals.items
        requests = (totals.items - 1) // max(1, page_size - 1) + 1 if is_full else 1
    else:
        requests = -(-totals.items // page_size)
    return ListEstimate(rows=totals.items, requests=max(1, requests))


class PageWalk(ListWalk[T]):
    """The driver: does what its machine says, at most `prefetch` pages ahead of the consumer."""

    def __init__(self, plan: ListSpec[T]) -> None:
        super().__init__(plan.prefetch)
        self._plan = plan
        self._offset = plan.source.clock.offset
        self._strategy = create_strategy(plan)
        self._tasks: deque[asyncio.Task[Page[T] | None]] = deque()  # in the order in which pages were asked for
        self._page_count = 0
        self._row_count = 0
        self._received = self._fresh = 0
        self._delivered = self._warned = False
        self._closed = False
        self._taken = 0  # pages in the hands of a consumer who wants no more meanwhile
        self._looked: PageRequest | None = None  # what `peek` asked for
        self._kept: bytes | None = None  # and what came

    @property
    def is_over(self) -> bool:
        """Whether all has been read, so that the next page is None."""
        return self._strategy.done and not self._tasks

    @property
    def report(self) -> WalkReport:
        """What the walk cost and guarantees, as of now."""
        return WalkReport(
            consistency=self._strategy.guarantee,
            requests=self.requests,
            pages=self._page_count,
            rows=self._row_count,
            duplicates=self._received - self._fresh,
            window=self._strategy.bounds,
        )

    async def next_page(self) -> Page[T] | None:
        """Wait for the next page that has rows (or is the first); None at the end."""
        self._taken = 0
        while not self._closed:
            page = await (self._prefetched() if self.prefetch or self._tasks else self._direct())
            if page is not None:
                self._row_count += len(page.items)
                self._taken = 1
                return page
            if self._strategy.done and not self._tasks:
                self._closed = True
        return None

    async def aclose(self) -> None:
        """End the walk and wait until nothing of it is under way. May be called twice."""
        self._closed = True
        tasks = tuple(self._tasks)
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def start(self) -> None:
        """Begin to fetch ahead before the next row is asked for."""
        self._taken = 0
        self._top_up()

    async def _direct(self) -> Page[T] | None:
        ask = self._next()
        if ask is None and not self._strategy.done:
            raise PaginationError(f"{self._plan.source!r} cannot be read on: the walk has nothing left to ask for")
        return None if ask is None else await self._ask(ask)

    async def _prefetched(self) -> Page[T] | None:
        self._top_up()
        if not self._tasks:
            return await self._direct()
        task = self._tasks[0]
        if not task.done():
            # Not `await task`: a consumer that is cancelled must not cancel the page it waits for.
            await asyncio.wait((task,))
        self._tasks.popleft()
        return task.result()

    def _top_up(self) -> None:
        while not self._closed and len(self._tasks) + self._taken < self.prefetch:
            ask = self._next()
            if ask is None:
                return
            self._tasks.append(asyncio.create_task(self._ask_ahead(ask)))

    async def _ask_ahead(self, ask: PageRequest) -> Page[T] | None:
        page = await self._ask(ask)
        self._top_up()
        return page

    async def fetch_first_page(self) -> ListEstimate:
        """Ask for the first page now, before anything is read, and keep it for when it is wanted.

        Kept packed, in about a tenth of its memory, for ten thousand lists may be looked at before one is read. A
        first page of many that nothing freezes is not kept: by then it would be another.
        """
        while True:
            ask = self._strategy.next_request()
            assert ask is not None and not self._page_count  # noqa: S101, PT018 - nobody reads yet
            fetched = await self._fetch(ask)
            if not self._misjudged_now():
                break
        fetch_first_page = estimate(self._plan, fetched)
        if self._strategy.bounds is None and fetch_first_page.requests > 1:
            self._strategy = create_strategy(self._plan)
            self.expect(self.expected + 1)
            return evolve(fetch_first_page, requests=self.expected)
        import pickle  # only plans need it
        import zlib

        self._looked, self._kept = ask, zlib.compress(pickle.dumps(fetched), 1)
        return fetch_first_page

    def _next(self) -> PageRequest | None:
        ask, self._looked = self._looked, None
        return ask or self._strategy.next_request()

    def _unpack(self, packed: bytes) -> FetchedPage[T]:
        import pickle
        import zlib

        self._kept = None
        fetched: FetchedPage[T] = pickle.loads(zlib.decompress(packed))  # noqa: S301 - packed by `peek`
        return fetched

    async def _ask(self, ask: PageRequest) -> Page[T] | None:
        try:
            fetched = await self._fetch(ask) if self._kept is None else self._unpack(self._kept)
        except (BadRequestError, NotFoundError):
            if self._strategy.handle_missing_page(ask):
                return None
            raise
        self._page_count += 1
        if self._page_count == 1 and self._misjudged_now():
            return None
        return self._deliver(ask, self._plan.source.first_page + ask.index, fetched)

    async def _fetch(self, ask: PageRequest) -> FetchedPage[T]:
        """Ask for a page and count what it took, even if it failed."""
        source = self._plan.source
        try:
            fetched = await source.fetch(source.first_page + ask.index, self._plan.limit, ask.bounds)
        except BaseException as error:
            self.count_sends(len(getattr(error, "attempts", ())))
            raise
        self.count_sends(fetched.requests)
        if not self._page_count:
            self.expect(self.requests - 1 + estimate(self._plan, fetched).requests)
        return fetched

    def _misjudged_now(self) -> bool:
        """After the first answer, begin anew if it shows that the window was frozen at a wrong time."""
        offset = self._plan.source.clock.offset
        if self._strategy.bounds is None or self._plan.window[1] is not None or abs(offset - self._offset) < 1.0:
            return False
        self._strategy = create_strategy(self._plan)
        return True

    def _deliver(self, ask: PageRequest, number: int, fetched: FetchedPage[T]) -> Page[T] | None:
        rows, hashes, created = fetched.items, self._plan.hashes, self._plan.created
        reply = PageResult(
            rows if hashes is None else (),
            keys=None if hashes is None else hashes(rows),
            totals=fetched.totals,
            times=None if created is None or self._plan.consistency == "live" else [*map(created, rows)],
        )
        try:
            new_rows = self._strategy.receive(ask, reply)
        except OutsideWindowError as error:
            raise PaginationError(
                f"The server gave rows outside the window {ask.bounds} of {self._plan.source!r}: its time filter is "
                "not on `created`, which strict relies on; checked goes on without it"
            ) from error
        if not self._warned and self._strategy.guarantee == "best_effort":
            self._warned = True
            logger.warning("%r: rows outside the time window; reading on without it, best effort", self._plan.source)
        self._received += len(rows)
        self._fresh += len(new_rows)
        if not new_rows and self._delivered:
            return None
        self._delivered = True
        return Page(
            items=rows if len(new_rows) == len(rows) else [rows[position] for position in new_rows],
            number=number,
            size=fetched.totals.size or self._plan.limit,
            total_items=fetched.totals.items,
            total_pages=fetched.totals.pages,
        )


class Pager(ABC, Generic[T]):
    """A list, not yet asked for: iterate it, or take pages, a walk, all rows, the first or the total.

    Each iteration walks the list anew. Safe to share between tasks; each gets its own walk.
    """

    @abstractmethod
    def walk(self) -> Walk[T]:
        """Make a walk to be used with `async with`: closed for certain, with a report of what it cost."""

    async def first(self) -> T | None:
        """Fetch the first item, or None where there is none, with no more requests than that takes."""
        items = await self.collect(max_items=1)
        return items[0] if items else None

    @abstractmethod
    async def count(self) -> int | None:
        """Fetch the total, or None where the server does not say: one request."""

    def __aiter__(self) -> AsyncGenerator[T, None]:
        """Iterate over the items of a fresh walk; leaving the loop early ends it soon, `walk` at once."""
        return self.walk().iterate(close=True)

    def pages(self) -> AsyncGenerator[Page[T], None]:
        """Iterate over the pages of a fresh walk."""
        return self.walk().pages(close=True)

    async def collect(self, max_items: int | None = None) -> Sequence[T]:
        """Fetch the items into a list, at most so many; pages beyond them are not asked for."""
        if max_items is not None:
            check_int("max_items", max_items, 0)
        items: list[T] = []
        async with self.walk() as walk:
            while max_items is None or len(items) < max_items:
                page = await walk.read_page()
                if page is None:
                    break
                items.extend(page.items)
        return items if max_items is None else items[:max_items]


class ListPager(Pager[T]):
    """The pager of one page-numbered list."""

    def __init__(self, plan: ListSpec[T]) -> None:
        self._plan = plan

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._plan.source!r}>"

    def walk(self) -> PageWalk[T]:
        """Make a walk to be used with `async with`."""
        return PageWalk(self._plan)

    async def first(self) -> T | None:
        """Fetch the first item, or None where there is none: one request."""
        fetched = await self._fetch_one()
        return fetched.items[0] if fetched.items else None

    async def count(self) -> int | None:
        """Fetch the total, or None where the server does not say: one request."""
        return (await self._fetch_one()).totals.items

    def _fetch_one(self) -> Awaitable[FetchedPage[T]]:
        return self._plan.source.fetch(self._plan.source.first_page, 1)
