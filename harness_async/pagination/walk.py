"""Walks: one reading of a list, driven by a strategy.

A walk requests the pages that its strategy asks for, at most `prefetch` of them ahead of the consumer, and delivers
them in the order of the requests. There is no queue and no task group: the consumer's own call fetches when nothing is
prefetched. Otherwise a few tasks are in flight, topped up when one ends or a page is consumed. A slow consumer
therefore holds back the requests, and a walk that ends early has a known set of tasks to cancel.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from attrs import evolve

from harness_async.errors import (
    BadRequestError,
    NotFoundError,
    PaginationError,
    RequestError,
)
from harness_async.pagination.checked import CheckedStrategy
from harness_async.pagination.freeze import Freeze
from harness_async.pagination.seek import BoundaryKeys, OutsideWindowError, SeekStrategy, fill_gaps
from harness_async.pagination.source import FetchedPage, ListEstimate, ListSpec, Page, WalkReport, estimate_requests
from harness_async.pagination.strategy import LiveStrategy, PageRequest, PageResult, SeenKeys, WalkStrategy
from harness_async.types import TimeWindow

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("harness_async")

_CLOCK_TOLERANCE = 1000
"""Milliseconds by which the end of a window may differ from the server's time before the walk restarts."""


class Walk(ABC, Generic[T]):
    """One walk over a list: an async context manager that ends it, and an async iterator of its rows.

    For one consumer at a time. `report` returns its cost so far, and after the end what it guarantees.
    """

    def __init__(self, prefetch: int = 0) -> None:
        self.requests: int = 0
        """Requests sent so far, retries included."""

        self.retries: int = 0
        """Requests that repeated a failed one."""

        self.prefetch: int = prefetch
        """Pages to request ahead of the consumer; may change during the walk."""

        self.expected_requests: int = 1
        """Requests that the walk takes at least, as far as is known."""

        self._rest: Iterator[T] = iter(())

    @property
    def requests_left(self) -> int:
        """Requests that are still to be made, as far as is known."""
        return max(0, self.expected_requests - self.report.requests)

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """Whether everything was read, so that the next page is None."""

    async def fetch_first_page(self) -> ListEstimate:
        """Request the first page before anything is read, and keep it; return an estimate of the list."""
        return ListEstimate(rows=None, requests=self.expected_requests)

    def count_requests(self, requests: int) -> None:
        """Count the requests that one page took."""
        self.requests += requests
        self.retries += max(0, requests - 1)

    @property
    @abstractmethod
    def report(self) -> WalkReport:
        """The cost and guarantee of the walk as of now."""

    @abstractmethod
    async def next_page(self) -> Page[T] | None:
        """Return the next page that has new rows (or is the first), None at the end, without prefetching more.

        Together with that page, never more than `prefetch` pages (or one) are held or in flight.
        """

    async def read_page(self) -> Page[T] | None:
        """Return the next page like `next_page`, and request pages ahead of the consumer."""
        page = await self.next_page()
        if self.prefetch:
            self.start()
        return page

    @abstractmethod
    async def aclose(self) -> None:
        """End the walk and wait until none of its requests is in flight. May be called twice."""

    def start(self) -> None:
        """Request pages ahead of the consumer, if the walk prefetches."""

    def __aiter__(self) -> AsyncGenerator[T, None]:
        """Iterate over the rows. A second loop continues where the first one stopped."""
        return self.iterate(close=False)

    async def iterate(self, *, close: bool) -> AsyncGenerator[T, None]:
        """Iterate over the rows, and end the walk with the loop where `close` is set."""
        try:
            while True:
                for item in self._rest:
                    yield item
                page = await self.next_page()
                if page is None:
                    return
                if self.prefetch:
                    self.start()
                self._rest = iter(page.items)
        finally:
            if close:
                await self.aclose()

    async def pages(self, *, close: bool = False) -> AsyncGenerator[Page[T], None]:
        """Iterate over the pages, and end the walk with the loop where `close` is set."""
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


def create_strategy(spec: ListSpec[Any], freeze: Freeze | None) -> WalkStrategy:
    """Create the strategy for a list."""
    if freeze is not None:
        if spec.consistency == "strict":
            return SeekStrategy(spec.limit, freeze.window)
        return CheckedStrategy(spec.limit, freeze.window, volatile=spec.volatile, frozen=freeze.is_frozen)
    if spec.stable_order and spec.consistency == "checked":
        return CheckedStrategy(spec.limit, None, volatile=spec.volatile)
    return LiveStrategy(spec.limit)


class PageWalk(Walk[T]):
    """The walk over one page-numbered list."""

    requests: int
    retries: int
    expected_requests: int

    def __init__(self, spec: ListSpec[T]) -> None:
        super().__init__(spec.prefetch)
        self._spec = spec if spec.largest_page is None else evolve(spec, limit=spec.largest_page.limit)
        self._freeze: Freeze | None = None
        self._clock_was_guessed = False
        if spec.created is not None and spec.consistency != "live" and not spec.stable_order:
            self._clock_was_guessed = not spec.source.clock.has_responses
            self._freeze = Freeze.of(spec.window, spec.source.clock)
        self._may_restart = self._freeze is not None or spec.largest_page is not None or spec.ceiling is not None
        self._uses_times = spec.created is not None and spec.consistency != "live"
        self._strategy = create_strategy(self._spec, self._freeze)
        self._tasks: deque[asyncio.Task[Page[T] | None]] = deque()  # in the order of their requests
        self._pages = self._rows = self._received = self._new = self._invalid_members = self._foreign_pages = 0
        self._closed = self._warned = self._delivered = self._is_read = self._discarded = False
        self._held = 0  # pages with a consumer that does not want more prefetched meanwhile
        self._kept_request: PageRequest | None = None  # of `fetch_first_page`
        self._kept_page: FetchedPage[T] | None = None

    @property
    def requests_left(self) -> int:
        """Requests that are still to be made, as far as is known."""
        return max(0, self.expected_requests - self.requests)

    @property
    def is_done(self) -> bool:
        """Whether everything was read, so that the next page is None."""
        return self._strategy.done and not self._tasks

    @property
    def report(self) -> WalkReport:
        """The cost and guarantee of the walk as of now."""
        window = None if self._freeze is None else self._strategy.frozen_window
        guarantee = self._strategy.guarantee
        # `live` promises nothing about the end of the list, so that it holds for a walk that was left early too.
        is_partial = guarantee != "live" and (self._discarded or not self.is_done)
        return WalkReport(
            guarantee="best_effort" if self._foreign_pages or is_partial else guarantee,
            requests=self.requests,
            pages=self._pages,
            rows=self._rows,
            duplicates=self._received - self._new,
            window=None
            if window is None or self._freeze is None
            else TimeWindow(window.start, self._freeze.certain_end),
            invalid_members=self._invalid_members,
        )

    async def next_page(self) -> Page[T] | None:
        """Return the next page that has new rows (or is the first), None at the end, without prefetching more."""
        if self._is_read:
            raise RuntimeError("Another task reads this walk; read it in one task, or create a walk for each")
        self._is_read, self._held = True, 0
        try:
            while not self._closed and (self._tasks or not self._strategy.done):
                page = await (
                    self._next_prefetched() if self.prefetch or self._tasks else self._fetch(self._next_request())
                )
                if page is not None:
                    self._rows += len(page.items)
                    self._held = 1
                    return page
            return None
        finally:
            self._is_read = False

    async def aclose(self) -> None:
        """End the walk and wait until none of its requests is in flight. May be called twice."""
        self._closed = True
        if self._tasks:
            self._discarded = True
            tasks = tuple(self._tasks)
            self._tasks.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def start(self) -> None:
        """Request pages ahead of the consumer."""
        self._held = 0
        self._top_up()

    async def fetch_first_page(self) -> ListEstimate:
        """Request the first page before anything is read, and keep it until it is needed.

        Its compressed body is kept, about a tenth of its memory, because a run may estimate ten thousand lists before
        it reads one. The first page of a longer list that is not frozen is not kept: it would be outdated.
        """
        while True:
            request = self._next_request()
            assert request is not None and not self._pages  # noqa: S101, PT018 - nothing is read yet
            try:
                fetched = await self._request_page(request)
            except RequestError as error:
                if self._use_smaller_pages(error):
                    continue
                raise
            if not self._restart_if_needed(fetched):
                break
        rows, requests = fetched.totals.items, estimate_requests(self._spec, fetched)
        if self._strategy.frozen_window is None and requests > 1:
            self._strategy = create_strategy(self._spec, self._freeze)
            self.expected_requests += 1
            return ListEstimate(rows=rows, requests=self.expected_requests)
        self._kept_request, self._kept_page = request, fetched
        if (response := fetched.response) is not None:
            fetched.items, fetched.response = (), evolve(response, body=zlib.compress(response.body, 1))
        return ListEstimate(rows=rows, requests=requests)

    def _next_request(self) -> PageRequest | None:
        kept, self._kept_request = self._kept_request, None
        return kept or self._strategy.next_request()

    async def _next_prefetched(self) -> Page[T] | None:
        self._top_up()
        if not self._tasks:
            return await self._fetch(self._next_request())
        task = self._tasks[0]
        if not task.done():
            # Not `await task`: a consumer that is cancelled must not cancel the page it waits for.
            await asyncio.wait((task,))
        if self._closed:  # meanwhile, by another task
            return None
        self._tasks.popleft()
        return task.result()

    def _top_up(self) -> None:
        while not self._closed and len(self._tasks) + self._held < self.prefetch:
            request = self._next_request()
            if request is None:
                return
            self._tasks.append(asyncio.create_task(self._prefetch(request)))

    async def _prefetch(self, request: PageRequest) -> Page[T] | None:
        page = await self._fetch(request)
        self._top_up()
        return page

    async def _fetch(self, request: PageRequest | None) -> Page[T] | None:
        """Fetch a page and pass it to the strategy; return its new rows, if there are any."""
        if request is None:
            raise PaginationError(f"{self._spec.source!r} cannot be read further: the walk has no request left")
        kept, self._kept_page = self._kept_page, None
        if kept is not None:
            return self._deliver(request, self._unpack(kept))
        if self._spec.ceiling is not None and self._avoid_ceiling(request):
            return None
        try:
            fetched = await self._request_page(request)
        except RequestError as error:
            is_missing = isinstance(error, BadRequestError | NotFoundError)
            if self._use_smaller_pages(error) or (is_missing and self._strategy.handle_missing_page(request)):
                return None
            raise
        if not self._pages and self._may_restart and self._restart_if_needed(fetched):
            return None
        return self._deliver(request, fetched)

    def _exceeds_ceiling(self, index: int) -> bool:
        """Return whether a page reaches behind the position from which on the server refuses rows."""
        return self._spec.ceiling is not None and (index + 1) * self._spec.limit > self._spec.ceiling

    def _avoid_ceiling(self, request: PageRequest) -> bool:
        """Restart by time windows if a page reaches behind the ceiling: the list has grown, or its total is missing.

        What was delivered is not delivered again.
        """
        if not self._exceeds_ceiling(request.index):
            return False
        live = self._strategy
        if isinstance(live, LiveStrategy) and self._seek(live.seen):
            return True
        raise PaginationError(
            f"{self._spec.source!r} has more than {self._spec.ceiling:,} rows that cannot be divided by time, and the "
            "server refuses rows behind that position; narrow the filters"
        )

    def _seek(self, seen: SeenKeys | None = None) -> bool:
        """Restart by time windows, which never count as far as the ceiling of the server."""
        if self._spec.created is None or isinstance(self._strategy, SeekStrategy):
            return False
        self._freeze = self._freeze or Freeze(self._spec.window, None)
        self._strategy = SeekStrategy(self._spec.limit, self._freeze.window, seen or BoundaryKeys())
        self._uses_times = True
        return True

    async def _request_page(self, request: PageRequest) -> FetchedPage[T]:
        spec = self._spec
        try:
            fetched = await spec.source.fetch(spec.source.first_page + request.index, spec.limit, request.window)
        except RequestError as error:
            self.count_requests(len(error.attempts))
            raise
        self.requests += fetched.requests
        self.retries += fetched.requests - 1
        if spec.largest_page is not None:
            # Smaller pages for all lists only now: the error of the larger one may have had another reason.
            spec.largest_page.limit = min(spec.largest_page.limit, spec.limit)
        if not self._pages:
            self.expected_requests = self.requests - 1 + estimate_requests(spec, fetched)
        else:
            self.expected_requests += fetched.requests - 1
        return fetched

    def _unpack(self, kept: FetchedPage[T]) -> FetchedPage[T]:
        if kept.response is None:
            return kept
        return self._spec.source.decode(evolve(kept.response, body=zlib.decompress(kept.response.body)))

    def _use_smaller_pages(self, error: RequestError | None = None) -> bool:
        """Restart with smaller pages if the server does not seem to accept large ones."""
        large = self._spec.largest_page
        if large is None or self._pages or self._spec.limit <= large.fallback:
            return False
        if error is not None and not isinstance(error, BadRequestError):
            return False
        self._spec = evolve(self._spec, limit=large.fallback)
        self._strategy = create_strategy(self._spec, self._freeze)
        return True

    def _restart_if_needed(self, fetched: FetchedPage[T]) -> bool:
        """After the first response, restart if it shows that the list has to be requested in another way."""
        count, totals, limit = len(fetched.items), fetched.totals, self._spec.limit
        is_clipped = 0 < count < limit and (count < (totals.items or 0) or (totals.size or limit) < limit)
        if is_clipped and self._use_smaller_pages():
            return True
        if self._exceeds_ceiling((totals.items or 0) // limit):  # a full page is never the last one
            return self._seek()
        return self._freeze is not None and self._restart_if_clock_moved(self._freeze)

    def _restart_if_clock_moved(self, before: Freeze) -> bool:
        """After the first response, restart if it shows that the window was frozen at a wrong time."""
        if self._strategy.frozen_window is None or before.is_frozen:
            return False
        now = Freeze.of(self._spec.window, self._spec.source.clock)
        end, new_end = before.window.end, now.window.end
        if end is not None and new_end is not None and abs(end - new_end) < _CLOCK_TOLERANCE:
            certain = now.certain_end
            self._freeze = evolve(before, certain_end=None if certain is None else min(certain, end))
            if isinstance(self._strategy, CheckedStrategy):
                self._strategy.frozen = self._freeze.is_frozen
            return False
        # Once: a slow server whose clock is never certain would repeat its first page for ever.
        is_guess, self._clock_was_guessed = self._clock_was_guessed, False
        if not is_guess or before.window == now.window:
            return False
        self._freeze = now
        self._strategy = create_strategy(self._spec, now)
        return True

    def _deliver(self, request: PageRequest, fetched: FetchedPage[T]) -> Page[T] | None:
        """Pass a page to the strategy, and return a page of its new rows."""
        spec, rows = self._spec, fetched.items
        self._pages += 1
        result = PageResult(
            rows if spec.hash_keys is None else (),
            keys=None if spec.hash_keys is None else spec.hash_keys(rows),
            totals=fetched.totals,
            times=fill_gaps([*map(spec.created, rows)]) if self._uses_times and spec.created is not None else None,
        )
        try:
            positions = self._strategy.receive(request, result)
        except OutsideWindowError as error:
            raise PaginationError(
                f"The server returned rows outside the window {request.window} of {spec.source!r}: its filter does "
                "not apply to `created`, which `strict` relies on; `checked` continues without it"
            ) from error
        self._invalid_members += fetched.invalid_members
        self._foreign_pages += fetched.is_foreign
        if not self._warned and (self._strategy.guarantee == "best_effort" or self._foreign_pages):
            self._warned = True
            logger.warning("%r: it is not known whether all rows were read (best effort)", spec.source)
        self._received += len(rows)
        self._new += len(positions)
        if not positions and self._delivered:
            return None
        self._delivered = True
        return Page(
            items=rows if len(positions) == len(rows) else [rows[position] for position in positions],
            number=spec.source.first_page + request.index,
            size=fetched.totals.size or spec.limit,
            total_items=fetched.totals.items,
            total_pages=fetched.totals.pages,
        )
