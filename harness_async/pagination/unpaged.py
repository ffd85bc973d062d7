"""Lists that the API returns in one response, as pagers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from harness_async.errors import RequestError
from harness_async.pagination.pager import Pager
from harness_async.pagination.source import ListEstimate, Page, WalkReport
from harness_async.pagination.walk import Walk

T = TypeVar("T")


class UnpagedPager(Pager[T]):
    """The pager of a list that is not paged."""

    def __init__(self, fetch: Callable[[], Awaitable[Sequence[T]]]) -> None:
        """Create a pager; `fetch` requests the whole list."""
        self.fetch = fetch

    def walk(self) -> Walk[T]:
        """Create a walk, an async context manager that is closed for certain and has a report."""
        return _UnpagedWalk(self.fetch)

    async def count(self) -> int | None:
        """Fetch the list and count its items: one request."""
        return len(await self.fetch())


class _UnpagedWalk(Walk[T]):
    def __init__(self, fetch: Callable[[], Awaitable[Sequence[T]]]) -> None:
        super().__init__()
        self._fetch = fetch
        self._items: Sequence[T] | None = None
        self._done = False

    @property
    def report(self) -> WalkReport:
        done = self._done and self._items is not None
        rows = len(self._items or ()) if done else 0
        return WalkReport(guarantee="exact", requests=self.requests, pages=int(done), rows=rows)

    @property
    def is_done(self) -> bool:
        return self._done

    async def fetch_first_page(self) -> ListEstimate:
        items = await self._load()
        return ListEstimate(rows=len(items), requests=self.requests)

    async def _load(self) -> Sequence[T]:
        if self._items is None:
            try:
                self._items = await self._fetch()
            except RequestError as error:
                self.count_requests(len(error.attempts))
                raise
            self.count_requests(1)
        return self._items

    async def next_page(self) -> Page[T] | None:
        if self._done:
            return None
        items = await self._load()
        self._done = True
        return Page(items=items, number=0, size=len(items), total_items=len(items), total_pages=1)

    async def aclose(self) -> None:
        self._done = True
