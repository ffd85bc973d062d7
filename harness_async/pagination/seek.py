"""The strategy of `consistency="strict"`: seek, which moves a time window instead of counting pages.

Every request is for the first page of a window. If rows are sorted newest first, the end of the window then moves to
the oldest row; if they are sorted oldest first, its start moves to the newest. Insertions and deletions elsewhere shift
nothing, because nothing is counted: every row that stays is read. The price is one row read twice on each page of a
hundred, and requests that follow one another.

- *Bounds* are not documented to be inclusive or exclusive. A window therefore overlaps the one before by a millisecond
  or more, up to one without rows, and the keys of the overlap are kept to recognize duplicates. That is all the memory
  needed.
- *Order*: the order of one page does not prove that of the list. The total of each window has to be that of the window
  before it, less the rows between the two. Where it is not, rows may have been skipped, or have changed: the gap is
  requested too, and read by bisection unless its own total says that nothing was skipped.
- *Bisection*: the window is divided at the median time, again and again, until its rows fit on a short page, which is
  one atomic read. This needs neither an order nor totals, and is the way where totals are missing or contradict the
  rows. It takes some 2.4 requests a page, and the keys of all rows are kept.
- *A page below the limit* is the end of its window where the total agrees. Otherwise the next page is requested, and
  shows whether the server clips pages, or overstates totals.
- *More rows of one millisecond than a page holds* are read by counting pages. That is proof where all totals are equal
  to the number of different rows; else the guarantee is `best_effort`.
- *Rows outside the window* show that the filter does not apply to `created`. The caller decides what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from attrs import define, field

from harness_async.errors import PaginationError
from harness_async.pagination.strategy import ListExtent, PageRequest, PageResult, SeenKeys, shifted_by_inserts
from harness_async.types import Guarantee, TimeWindow

Order: TypeAlias = Literal["newest", "oldest", "none"]


class OutsideWindowError(Exception):
    """A row lies outside the requested window: the time filter does not apply to `created`."""


def fill_gaps(times: list[int]) -> list[int]:
    """Give rows without a time (0) that of the row before, or of the first row that has one.

    Lists are mostly sorted by time, and a member that is missing in the row says nothing about the server's filter.
    """
    if 0 in times and any(times):
        last = next(filter(None, times))
        for position, time in enumerate(times):
            times[position] = last = time or last
    return times


def is_outside(result: PageResult, window: TimeWindow) -> bool:
    """Return whether a row lies outside a window, with inclusive bounds."""
    start, end = window
    times = result.times
    if not times:
        return False
    return (start is not None and min(times) < start) or (end is not None and max(times) > end)


def detect_order(times: Sequence[int]) -> Order | None:
    """Return how times are sorted; None where they do not differ."""
    oldest_first = sorted(times)
    if oldest_first[::-1] == [*times]:
        return "newest" if times and times[0] != times[-1] else None
    return "oldest" if oldest_first == [*times] else "none"


MIN_DISTINCT_TIMES = 10
"""Different times that a page must have to prove that the list is sorted: ten rows in no order are sorted once in two
million pages. Lists with smaller pages are bisected, which needs no order."""

MAX_REPEATS = 3
"""How often a page may repeat before the server is said to ignore the page number: insertions can push a page of one
millisecond back once or twice."""

MAX_DISAGREEMENTS = 5
"""Totals that disagree although no row was skipped, after which totals are ignored."""

MAX_REQUESTS_PER_PAGE = 20
"""Requests for each page of rows, beyond which a walk is said not to end."""

_SPARE_REQUESTS = 100


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


@define(eq=False)
class _Part:
    """A window to read."""

    window: TimeWindow
    bisect: bool = False
    """Whether to divide it rather than to rely on the order of its rows."""

    expected: int | None = None
    """The total that agrees with the window before it."""

    gap: TimeWindow | None = None
    """The window between this one and the one before it; verified if the total disagrees."""

    gap_rows: int = 0
    """Rows that were received from the gap."""

    known_rows: int | None = None
    """Of a gap: rows that were received from it. A total that is not higher shows that none was skipped."""

    first: PageResult | None = None
    """The first page, once it was received."""

    keys: set[int] = field(factory=set)
    """The rows of its pages, where it has several."""

    totals: set[int | None] = field(factory=set)
    """The totals of its pages."""


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
    _depth: int = field(default=0, init=False)  # page within a window
    _order: Order | None = field(default=None, init=False)
    _requested: bool = field(default=False, init=False)
    _previous: PageResult | None = field(default=None, init=False)
    _repeats: int = field(default=0, init=False)
    _requests: int = field(default=0, init=False)
    _received: int = field(default=0, init=False)  # new rows
    _known: int = field(default=0, init=False)  # rows of an earlier strategy
    _total: int | None = field(default=None, init=False)  # of the whole window, at the first request
    _trusts_totals: bool = field(default=True, init=False)
    _overstates: bool = field(default=False, init=False)  # whether a total promised rows that do not exist
    _clips: bool = field(default=False, init=False)  # whether a page below the limit was followed by another one
    _disagreements: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._extent = ListExtent(self.limit)
        self._known = len(self.seen) if isinstance(self.seen, SeenKeys) else 0
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
        self._close_part(self._parts[-1])
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
        positions = self.seen.add_new(result)
        self._received += len(positions)
        part = self._parts[-1]
        total = self._total_of(request, result)
        part.totals.add(total)
        if request.index == 0:
            self._receive_first(part, result, total, has_new=bool(positions))
        else:
            self._receive_next(part, request.index, result, total)
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
        pages = max(self._received, self._known) // max(1, self._extent.page_size) + 1
        if self._requests > _SPARE_REQUESTS + MAX_REQUESTS_PER_PAGE * pages:
            raise PaginationError(
                f"The list cannot be read: {self._requests} requests returned {self._received} rows; the server seems "
                "to ignore the time filter"
            )

    def _total_of(self, request: PageRequest, result: PageResult) -> int | None:
        """Return the total of a window, unless totals are contradicted by the rows."""
        total = result.totals.items
        if self._requests == 1:
            self._total = total
        end = request.index * self._extent.page_size + result.count
        if total is not None and (end > total > 0 or (total == 0 and result.count)):
            self._trusts_totals = False
        if self._total is not None and self._received > self._total:
            self._trusts_totals = False
        return total if self._trusts_totals else None

    # -- the first page of a window --------------------------------------------------------------------------------

    def _receive_first(self, part: _Part, result: PageResult, total: int | None, *, has_new: bool) -> None:
        gap = None
        if part.gap is not None:
            gap, part.gap = self._verify_gap(part, part.gap, total), None
        if part.known_rows is not None and not has_new and total is not None and total <= part.known_rows:
            self._disagreements += 1
            self._trusts_totals = self._trusts_totals and self._disagreements < MAX_DISAGREEMENTS
            self._close_part(part)
        elif not result.count or self._is_whole(result, total):
            if total and not result.count:
                self.guarantee = "best_effort"
            self._close_part(part)
        elif self._is_full(result):
            self._check_order(result)
            self._divide(part, result, total)
        else:
            self._read_next_page(part, result)
        if gap is not None:
            self._parts.append(gap)
            self._depth = 0
            self.done = False

    def _verify_gap(self, part: _Part, gap: TimeWindow, total: int | None) -> _Part | None:
        """Return the gap before a window, if the total does not show that no row was skipped."""
        expected = part.expected
        if expected is not None and total == expected:
            if isinstance(self.seen, BoundaryKeys):
                self.seen.move(part.window)
            return None
        return _Part(gap, bisect=True, known_rows=None if expected is None or total is None else part.gap_rows)

    def _is_full(self, result: PageResult) -> bool:
        return self._extent.is_full(0, result) or (self._clips and result.count >= self._extent.page_size)

    def _is_whole(self, result: PageResult, total: int | None) -> bool:
        """Return whether a first page is its whole window: a short one, and the total does not disagree.

        A full page may be followed by another one whatever the total says, which may be older than the rows.
        """
        if self._is_full(result):
            return False
        size = self._extent.page_size
        is_short = result.count < size or size == self.limit or self._extent.server_clips
        if total is None:
            return is_short
        return total == result.count or (is_short and self._overstates)

    def _check_order(self, result: PageResult) -> None:
        """Detect how the list is sorted, and whether each page agrees."""
        times = result.times or ()
        order = detect_order(times)
        if self._order is None and len(set(times)) < MIN_DISTINCT_TIMES:
            self._order = "none" if len(set(times)) > 1 else None
        elif order is not None and order != self._order:
            self._order = order if self._order is None else "none"

    def _divide(self, part: _Part, result: PageResult, total: int | None) -> None:
        """Continue with a smaller window, two of them, or by counting pages, if it cannot be divided."""
        times, window = result.times or (), part.window
        if total == result.count:
            total = None  # perhaps it counts the rows of the page
        order = None if part.bisect or len(set(times)) == 1 else self._order
        parts = [] if order in {"none", None} else self._move_bound(window, times, total, forward=order == "oldest")
        parts = parts or [_Part(half, bisect=True) for half in _bisect(window, times)]
        if not parts or any(each.window == window for each in parts):
            self._read_next_page(part, result)
            return
        self._parts[-1:] = parts
        self._depth = 0

    @staticmethod
    def _move_bound(window: TimeWindow, times: Sequence[int], total: int | None, *, forward: bool) -> list[_Part]:
        """Move a bound to the last row, where possible: what is still to be read, and the gap to verify."""
        last, step = times[-1], 1 if forward else -1
        bound = last - step
        if total is None:
            # The gap has at least one row less than the page, so that it fits on a short one.
            bound, gap = last - 2 * step, last - step
        else:
            gap, known = last, set(times)
            while bound in known:  # rows at a bound are counted or not, so that one could take the place of another
                bound -= step
        if step * bound <= step * times[len(times) // 2]:
            return []  # no progress
        if forward:
            part = _Part(_clip(window, bound, None), gap=_clip(window, None, gap), gap_rows=len(times))
        else:
            part = _Part(_clip(window, None, bound), gap=_clip(window, gap, None), gap_rows=len(times))
        if total is not None:
            part.expected = total - sum(step * time < step * bound for time in times)
        return [part]

    # -- the following pages of a window ---------------------------------------------------------------------------

    def _read_next_page(self, part: _Part, first: PageResult) -> None:
        part.first = first
        part.keys = set(first.keys or ())
        self._depth = 1

    def _receive_next(self, part: _Part, index: int, result: PageResult, total: int | None) -> None:
        first, size = part.first, self._extent.page_size
        part.keys.update(result.keys or ())
        if first is not None and result.count and index == 1 and first.count < self.limit:
            self._clips = True
            # The first page was clipped. Divide by its rows, because pages that are counted prove nothing.
            before = len(self._parts), part.window
            self._check_order(first)
            self._divide(part, first, total)
            if before != (len(self._parts), self._parts[-1].window):
                return
            part.keys.update(result.keys or ())
        if result.count and result.count >= size:
            self._depth = index + 1
            return
        self._close_part(part)

    def _close_part(self, part: _Part) -> None:
        if part.first is not None:
            self._judge_pages(part, part.first)
        self._parts.pop()
        self._depth = 0
        self.done = not self._parts

    def _judge_pages(self, part: _Part, first: PageResult) -> None:
        """Judge a window that was read by several pages."""
        totals, is_short = part.totals, not self._is_full(first)
        if totals == {None}:
            # A short page and nothing behind it is the whole window.
            is_proved = is_short and len(part.keys) == first.count
        else:
            # A short first page is one atomic read, if its rows were counted at either request.
            is_whole = is_short and first.count == len(part.keys) in totals
            is_proved = totals == {len(part.keys)} or is_whole
            highest = max((total for total in totals if total is not None), default=0)
            self._overstates = self._overstates or (highest > len(part.keys) and not is_proved)
        if not is_proved:
            self.guarantee = "best_effort"


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
