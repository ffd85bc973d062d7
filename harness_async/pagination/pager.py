"""Pagers: lists as users see them, which are requested when they are iterated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Generic, TypeVar

from harness_async.pagination.source import FetchedPage, ListSpec
from harness_async.pagination.walk import Page, PageWalk, Walk
from harness_async.validation import check_int

T = TypeVar("T")


class Pager(ABC, Generic[T]):
    """A list that is not requested yet. Iterate it, or call one of its methods.

    Each iteration is a walk of its own. Safe to share between tasks.
    """

    @abstractmethod
    def walk(self) -> Walk[T]:
        """Create a walk, an async context manager that is closed for certain and has a report."""

    async def first(self) -> T | None:
        """Fetch the first item, or None where there is none, with as few requests as that takes."""
        items = await self.collect(max_items=1)
        return items[0] if items else None

    @abstractmethod
    async def count(self) -> int | None:
        """Fetch the total, or None where the server does not report it: one request."""

    def __aiter__(self) -> AsyncGenerator[T, None]:
        """Iterate over the items of a new walk. Leaving the loop early ends it soon; `walk` ends it at once."""
        return self.walk().iterate(close=True)

    def pages(self) -> AsyncGenerator[Page[T], None]:
        """Iterate over the pages of a new walk."""
        return self.walk().pages(close=True)

    async def collect(self, max_items: int | None = None) -> Sequence[T]:
        """Fetch the items into a list, at most so many. Pages beyond them are not requested.

        Raises:
            ValueError: `max_items` is negative or not an integer.
        """
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

    def __init__(self, spec: ListSpec[T]) -> None:
        self._spec = spec

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._spec.source!r}>"

    def walk(self) -> PageWalk[T]:
        """Create a walk, an async context manager that is closed for certain and has a report."""
        return PageWalk(self._spec)

    async def first(self) -> T | None:
        """Fetch the first item, or None where there is none: one request."""
        page = await self._fetch_one()
        return page.items[0] if page.items else None

    async def count(self) -> int | None:
        """Fetch the total, or None where the server does not report it: one request."""
        return (await self._fetch_one()).totals.items

    async def _fetch_one(self) -> FetchedPage[T]:
        return await self._spec.source.fetch(self._spec.source.first_page, 1)
