"""A list of lists as one list: the rows of an inner list for each item of an outer one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from attrs import evolve

from harness_async.errors import HarnessError, NotFoundError
from harness_async.pagination.failed import FailedWalk, IdentifierError
from harness_async.pagination.pager import Pager
from harness_async.pagination.source import Page, WalkReport
from harness_async.pagination.walk import Walk
from harness_async.types import Guarantee

Outer = TypeVar("Outer")
T = TypeVar("T")

_CONCURRENT_LISTS = 4
"""Inner lists that are read at once: enough to hide the latency behind the default rate limit (400 a minute, half a
second for a response), few enough to leave most places to other calls."""


_WEAKEST: tuple[Guarantee, ...] = ("exact", "covered", "seek", "live", "best_effort")
"""Guarantees from the strongest to the weakest, which is that of the chain."""


class ChainedWalk(Walk[T], Generic[Outer, T]):
    """The walk over a chain: a few inner walks at a time, their rows in the order of the outer list."""

    def __init__(self, chain: ChainedPager[Outer, T]) -> None:
        super().__init__()
        self._chain = chain
        self._outer = chain.outer.walk() if isinstance(chain.outer, Pager) else None
        self._waiting: deque[Outer] = deque(() if isinstance(chain.outer, Pager) else chain.outer)
        self._walks: deque[tuple[Outer, Walk[T]]] = deque()
        self._ended = WalkReport(guarantee="exact")
        self._done = self._has_gaps = False

    @property
    def report(self) -> WalkReport:
        """The cost of all walks together."""
        total = self._ended if self._outer is None else _add(self._outer.report, self._ended)
        for _, walk in self._walks:
            total = _add(total, walk.report)
        return evolve(total, guarantee="best_effort") if self._has_gaps else total

    @property
    def is_done(self) -> bool:
        """Whether everything was read, so that the next page is None."""
        return self._done

    async def next_page(self) -> Page[T] | None:
        """Return the next page of any inner list that has rows; None at the end."""
        while not self._done:
            self._start_walks()
            if not self._walks:
                await self._read_outer()
                continue
            page = await self._read_inner()
            if page is not None and page.items:
                return page
        return None

    async def aclose(self) -> None:
        """End all walks and wait until none of their requests is in flight. May be called twice."""
        self._has_gaps = self._has_gaps or not self._done
        self._done = True
        if self._outer is not None:
            await self._outer.aclose()
        while self._walks:
            await self._end_first()

    def _start_walks(self) -> None:
        while self._waiting and len(self._walks) < _CONCURRENT_LISTS:
            item = self._waiting.popleft()
            try:
                walk = self._chain.inner(item).walk()
            except ValueError as error:  # an identifier of the server's that cannot stand in a path
                walk = FailedWalk(IdentifierError(f"A list cannot be requested: {error}"))
            walk.start()
            self._walks.append((item, walk))

    async def _read_outer(self) -> None:
        page = None if self._outer is None else await self._outer.read_page()
        if page is None:
            self._done = True
        else:
            self._waiting.extend(page.items)

    async def _read_inner(self) -> Page[T] | None:
        item, walk = self._walks[0]
        try:
            page = await walk.read_page()
        except HarnessError as error:
            if not self._chain.skip(item, error):
                raise
            self._has_gaps = self._has_gaps or not isinstance(error, NotFoundError)
            await self._end_first(skipped=True)
            return None
        if page is None:
            await self._end_first()
        return page

    async def _end_first(self, *, skipped: bool = False) -> None:
        _, walk = self._walks.popleft()
        await walk.aclose()
        report = walk.report
        # A list that is gone has no rows: the others alone decide what the chain guarantees.
        self._ended = _add(self._ended, evolve(report, guarantee=self._ended.guarantee) if skipped else report)


def _add(one: WalkReport, other: WalkReport) -> WalkReport:
    guarantees: tuple[Guarantee, ...] = (one.guarantee, other.guarantee)
    return WalkReport(
        guarantee=max(guarantees, key=_WEAKEST.index),
        requests=one.requests + other.requests,
        pages=one.pages + other.pages,
        rows=one.rows + other.rows,
        duplicates=one.duplicates + other.duplicates,
        invalid_members=one.invalid_members + other.invalid_members,
    )


class ChainedPager(Pager[T], Generic[Outer, T]):
    """The pager of a chain. `first` and `count` take one request for each list they need."""

    def __init__(
        self,
        outer: Pager[Outer] | Sequence[Outer],
        inner: Callable[[Outer], Pager[T]],
        skip: Callable[[Outer, HarnessError], bool],
    ) -> None:
        """Chain `inner(item)` for each item of `outer`, except those whose failure `skip` accepts."""
        self.outer = outer
        self.inner = inner
        self.skip = skip

    def walk(self) -> Walk[T]:
        """Create a walk, an async context manager that is closed for certain and has a report."""
        return ChainedWalk(self)

    async def count(self) -> int | None:
        """Add up the totals of all lists; None where the server does not report one."""
        total = 0
        for item in await self.outer.collect() if isinstance(self.outer, Pager) else self.outer:
            try:
                part = await self.inner(item).count()
            except HarnessError as error:
                if not self.skip(item, error):
                    raise
                continue
            if part is None:
                return None
            total += part
        return total
