"""The strategy of `consistency="strict"`: seek, which moves a time window instead of counting pages.

Every request is for the first page of a window. If rows are sorted newest first, the end of the window then moves to
the oldest row; if they are sorted oldest first, its start moves to the newest. Insertions and deletions elsewhere shift
nothing, because nothing is counted: every row that stays is read, and no total is needed. The price is one row read
twice on each page of a hundred, and requests that follow one another.

- *Bounds* are not documented to be inclusive or exclusive. A window therefore overlaps the one before by a millisecond
  on each side, and the keys of those milliseconds are kept to recognize duplicates. That is all the memory needed.
- *More rows of one millisecond than a page holds*: while the bound cannot move, the following pages of the same window
  are requested. If their total changes, or is missing, the guarantee is `best_effort`.
- *Order and totals*: the order of one page does not prove that of the list. The total of each window has to be that of
  the window before it, less the rows between the two. Where it is not, rows may have been skipped (or have changed):
  the part between is read again by bisection. Without totals everything is read by bisection.
- *Bisection*: the window is divided at the median time, again and again, until it fits a short page, which is one
  atomic read. The keys of all rows are kept then.
- *Rows outside the window* show that the filter does not apply to `created`. The caller decides what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeAlias

from attrs import define, field

from harness_async.errors import PaginationError
from harness_async.pagination.strategy import ListExtent, PageRequest, PageResult, SeenKeys, shifted_by_inserts
from harness_async.types import Guarantee, TimeWindow

Order: TypeAlias = Literal["newest", "oldest", "none"]


class OutsideWindowError(Exception):
    """A row lies outside the requested window: the time filter does not apply to `created`."""


def is_outside(result: PageResult, window: TimeWindow) -> bool:
    """Return whether a row lies outside a window, with inclusive bounds."""
    start, end = window
    times = result.times
    if not times:
        return False
    return (start is not None and min(times) < start) or (end is not None and max(times) > end)


def detect_order(times: Sequence[int]) -> Order | None:
    """Return how times are sorted; None where they do not differ."""
    if all(earlier >= later for earlier, later in pairwise(times)):
        return "newest" if times and times[0] != times[-1] else None
    if all(earlier <= later for earlier, later in pairwise(times)):
        return "oldest"
    return "none"


MIN_DISTINCT_TIMES = 10
"""Different times that a page must have to prove that the list is sorted: ten rows in no order are sorted once in two
million pages. Lists with smaller pages are bisected, which needs no order."""


MAX_REPEATS = 3
"""How often a page may repeat before the server is said to ignore the page number: insertions can push a page of one
millisecond back once or twice."""


@define(eq=False)
class BoundaryKeys:
    """The keys of rows at the moving bound, with their times: those that the next window returns again."""

    _times: dict[int, int] = field(factory=dict)

    def add_new(self, result: PageResult) -> Sequence[int]:
        """Return the positions of rows that are not kept yet, and keep them until `move`."""
        positions: list[int] = []
        for position, (key, time) in enumerate(zip(result.keys or (), result.times or (), strict=True)):
            if key not in self._times:
                self._times[key] = time
                positions.append(position)
        return positions

    def move(self, window: TimeWindow) -> None:
        """Forget the rows that a window cannot return."""
        start, end = window
        self._times = {
            key: time
            for key, time in self._times.items()
            if (start is None or time >= start) and (end is None or time <= end)
        }


MAX_REQUESTS_PER_PAGE = 20
"""Requests for each page of rows, beyond which a walk is said not to end. Bisection takes 2.4 in a random order."""

_SPARE_REQUESTS = 100


@define(eq=False)
class _Part:
    """A window to read."""

    window: TimeWindow
    bisect: bool = False
    """Whether to divide it rather than to rely on the order of its rows."""

    expected: tuple[int, int] | None = None
    """The lowest and highest total that agree with the window before it, for either meaning of the bounds."""

    gap: TimeWindow | None = None
    """What to read again if the total does not agree. If it agrees, rows outside the window may be forgotten."""


@define(eq=False)
class SeekStrategy:
    """Requests the first page of ever smaller windows; see the module.

    `seen` holds the rows that were delivered: those near the bound, or those of an earlier strategy on the same list.
    """

    limit: int
    window: TimeWindow
    seen: BoundaryKeys | SeenKeys = field(factory=BoundaryKeys)
    guarantee: Guarantee = "seek"
    done: bool = field(default=False, init=False)
    _extent: ListExtent = field(init=False)
    _parts: list[_Part] = field(init=False)  # still to read; the last one is next
    _depth: int = field(default=0, init=False)  # page within a window, for rows of one millisecond beyond one page
    _order: Order | None = field(default=None, init=False)
    _requested: bool = field(default=False, init=False)
    _previous: PageResult | None = field(default=None, init=False)
    _repeats: int = field(default=0, init=False)
    _total: int | None = field(default=None, init=False)  # of the window at its first page
    _requests: int = field(default=0, init=False)
    _received: int = field(default=0, init=False)  # new rows

    def __attrs_post_init__(self) -> None:
        self._extent = ListExtent(self.limit)
        self._parts = [_Part(self.window)]

    @property
    def frozen_window(self) -> TimeWindow | None:
        """The whole window."""
        return self.window

    def next_request(self) -> PageRequest | None:
        """Return the next page, unless one is in flight."""
        if self.done or self._requested:
            return None
        self._requested = True
        return PageRequest(self._depth, self._parts[-1].window)

    def handle_missing_page(self, request: PageRequest) -> bool:
        """Process a missing page after the first of a window as the end of that window."""
        self._requested = False
        if request.index == 0:
            return False
        self._close_part()
        return True

    def receive(self, request: PageRequest, result: PageResult) -> Sequence[int]:
        """Process the result of the page in flight.

        Raises:
            OutsideWindowError: A row lies outside the requested window.
            PaginationError: The server repeats a page of rows of one millisecond, or the walk does not end.
        """
        self._requested = False
        if request.window is not None and is_outside(result, request.window):
            raise OutsideWindowError
        self._check_progress(request, result)
        self._extent.update(result)
        gap = self._check_total(request, result)
        positions = self.seen.add_new(result)
        self._received += len(positions)
        if self._is_complete(request, result):
            self._close_part()
        else:
            self._check_order(request, result)
            self._choose_next(request, result)
        if gap is not None:
            self._parts.append(_Part(gap, bisect=True))
            self._depth = 0
            self.done = False
        self._previous = result
        return positions

    def _check_progress(self, request: PageRequest, result: PageResult) -> None:
        last = self._previous if request.index else None
        repeated = (
            last is not None and result.count > 0 and result.repeats(last) and not shifted_by_inserts(last, result)
        )
        self._repeats = self._repeats + 1 if repeated else 0
        if self._repeats == MAX_REPEATS:
            raise PaginationError(
                "The server repeats a page of rows of one millisecond: it seems to ignore the page number"
            )
        self._requests += 1
        pages = self._received // max(1, self._extent.page_size) + 1
        if self._requests > _SPARE_REQUESTS + MAX_REQUESTS_PER_PAGE * pages:
            raise PaginationError(
                f"The list cannot be read: {self._requests} requests returned {self._received} rows; the server seems "
                "to ignore the time filter"
            )

    def _check_total(self, request: PageRequest, result: PageResult) -> TimeWindow | None:
        """Compare a total with what is known, and return the window to read again if it does not agree.

        Pages after the first of a window are counted: they require a constant and fitting total. Without any total,
        only a first page below the limit followed by an empty page counts as complete.
        """
        total, part, last = result.totals.items, self._parts[-1], self._previous
        if request.index == 0 or last is None:
            self._total = total
            if total is None or total < result.count:
                part.bisect = True  # the order alone proves nothing
            if part.gap is None:
                return None
            if not self._agrees(part.expected, total):
                return part.gap
            if isinstance(self.seen, BoundaryKeys):
                self.seen.move(part.window)
            return None
        if total is None and self._total is None and not self._extent.server_clips and not result.count:
            if request != PageRequest(1, self.window) or last.count >= self.limit:
                self.guarantee = "best_effort"
            return None
        end = request.index * self._extent.page_size + result.count
        short = result.count < self._extent.page_size
        if total is None or total != self._total or (short and end != total):
            self.guarantee = "best_effort"
        return None

    @staticmethod
    def _agrees(expected: tuple[int, int] | None, total: int | None) -> bool:
        return expected is not None and total is not None and expected[0] <= total <= expected[1]

    def _is_complete(self, request: PageRequest, result: PageResult) -> bool:
        """Return whether a window is complete with this result: no page follows one that is not full.

        A full page may be followed by another one whatever the total says, which may be older than the rows.
        """
        if not result.count:
            return True
        if result.count >= self.limit or (self._extent.server_clips and result.count >= self._extent.page_size):
            return False
        total = result.totals.items
        if total is not None:
            # Below the total, the page was clipped.
            return request.index * self._extent.page_size + result.count >= total
        # A first page below the limit may be clipped: only another page shows what a full one is.
        known = self._extent.server_clips or self._extent.page_size == self.limit or self._previous is not None
        return known and result.count < self._extent.page_size

    def _check_order(self, request: PageRequest, result: PageResult) -> None:
        """Detect how the list is sorted, and whether each page agrees."""
        times = result.times or ()
        if request.index and self._previous is not None and self._previous.times:
            times = (self._previous.times[-1], *times)
        order = detect_order(times)
        if self._order is None and len(set(times)) < MIN_DISTINCT_TIMES:
            self._order = "none" if len(set(times)) > 1 else None
        elif order is not None and order != self._order:
            self._order = order if self._order is None else "none"

    def _choose_next(self, request: PageRequest, result: PageResult) -> None:
        """Choose the next request: a smaller window, two of them, or the next page of this one."""
        part, times, total = self._parts[-1], result.times or (), result.totals.items
        order = "none" if part.bisect and self._order is not None else self._order
        if part.bisect and self._order is None and len(set(times)) > 1:
            order = "none"
        parts: list[_Part] = []
        passed: list[int] = []
        match order:
            case "newest":
                last = times[-1]
                passed = [sum(time > last for time in times), sum(time > last + 1 for time in times)]
                parts = [_Part(_clip(part.window, None, last + 1), gap=_clip(part.window, last, None))]
            case "oldest":
                last = times[-1]
                passed = [sum(time < last for time in times), sum(time < last - 1 for time in times)]
                parts = [_Part(_clip(part.window, last - 1, None), gap=_clip(part.window, None, last))]
            case "none":
                parts = [_Part(half, bisect=True) for half in _bisect(part.window, times)]
        if not parts or any(each.window == part.window for each in parts):
            self._depth = request.index + 1
            return
        if passed and total is not None and not request.index:
            parts[0].expected = (total - passed[0], total - passed[1])
        self._parts[-1:] = parts
        self._depth = 0

    def _close_part(self) -> None:
        self._parts.pop()
        self._depth = 0
        self.done = not self._parts


def _clip(window: TimeWindow, start: int | None, end: int | None) -> TimeWindow:
    """Narrow a window. It is never widened, or the walk would not end."""
    starts = [bound for bound in (window[0], start) if bound is not None]
    ends = [bound for bound in (window[1], end) if bound is not None]
    return TimeWindow(max(starts, default=None), min(ends, default=None))


def _bisect(window: TimeWindow, times: Sequence[int]) -> list[TimeWindow]:
    """Bisect a window at one of the times, with an overlap of a millisecond; [] where that is impossible."""
    in_order = sorted(times)
    for middle in (in_order[(len(times) - 1) // 2], (in_order[0] + in_order[-1]) // 2, in_order[-1], in_order[0]):
        halves = [_clip(window, None, middle + 1), _clip(window, middle, None)]
        if window not in halves:
            return halves
    return []
