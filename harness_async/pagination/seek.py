"""Seek: reading a list by moving its time window instead of counting pages.

Every request asks for the first page of a window. Of rows sorted newest first, the window's end then moves to the
oldest row seen; of rows sorted oldest first, its start moves to the newest. Rows that arrive or go away elsewhere
shift nothing, for nothing is counted: each row that stays is read, whatever else moves, and no total is needed. The
price is a row read twice on each page, one page in a hundred, and requests that must follow one another.

- *Bounds* are not documented to be inclusive or exclusive, so a window overlaps the one before by a millisecond on
  each side, and the keys of those milliseconds are kept to drop what comes twice. That is all the memory it needs.
- *Many rows of one moment*, more than a page: while the bound cannot move, the following pages of the same window.
  Should the total of these change, or not be told, the verdict is `best_effort`; a departure that an arrival of the
  same moment hides is out of sight there.
- *Rows in no order of time*: the window is cut in two at the median time seen, again and again, until what it holds
  fits one page, which is one atomic read. Keys of all rows are kept then.
- *Rows outside the window* show that the filter is not on `created` as we assume. The caller decides what then.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeAlias

from attrs import define, field

from harness_async.errors import PaginationError
from harness_async.pagination.strategy import (
    Guarantee,
    ListExtent,
    PageRequest,
    PageResult,
    SeenKeys,
    TimeWindow,
    shifted_by_inserts,
)

Order: TypeAlias = Literal["newest", "oldest", "none"]


class OutsideWindowError(Exception):
    """Rows outside the window that was asked for: the filter does not do what seeking needs."""


def outside(reply: PageResult, bounds: TimeWindow) -> bool:
    """Tell whether a row lies outside a window; either meaning of its bounds is allowed."""
    start, end = bounds
    times = reply.times
    if not times:
        return False
    return (start is not None and min(times) < start) or (end is not None and max(times) > end)


def order_of(times: Sequence[int]) -> Order | None:
    """Tell how times are sorted; None where they are all the same or there is but one."""
    if all(earlier >= later for earlier, later in pairwise(times)):
        return "newest" if times and times[0] != times[-1] else None
    if all(earlier <= later for earlier, later in pairwise(times)):
        return "oldest"
    return "none"


EVIDENCE = 10
"""Different times that a page must have before we believe that the list is sorted: ten rows in no order happen to be
sorted once in two million pages. Lists of smaller pages are cut instead, which needs no order."""


MOST_REPEATS = 3
"""Times that a page may come again word for word before we say that the server ignores the page number: arrivals can
push a page of one moment back once or twice."""


@define(eq=False, repr=False)
class BoundaryKeys:
    """The keys of rows at the moving bound, with their times: what the next window brings again."""

    _times: dict[int, int] = field(factory=dict)

    def new(self, reply: PageResult) -> Sequence[int]:
        """Give the positions of rows not among those kept, and keep them too until `move`."""
        new_rows: list[int] = []
        for position, (key, time) in enumerate(zip(reply.keys or (), reply.times or (), strict=True)):
            if key not in self._times:
                self._times[key] = time
                new_rows.append(position)
        return new_rows

    def move(self, bounds: TimeWindow) -> None:
        """Forget the rows that a window cannot bring."""
        start, end = bounds
        self._times = {
            key: time
            for key, time in self._times.items()
            if (start is None or time >= start) and (end is None or time <= end)
        }


@define(eq=False, repr=False)
class SeekStrategy:
    """One request after the other, each the first page of a smaller window; see the module.

    `memory` knows which rows were delivered: by default those at the bound, or what an earlier reading of the same
    list has left.
    """

    limit: int
    window: TimeWindow
    memory: BoundaryKeys | SeenKeys = field(factory=BoundaryKeys)
    guarantee: Guarantee = "seek"
    done: bool = field(default=False, init=False)
    _extent: ListExtent = field(init=False)
    _pending: list[TimeWindow] = field(init=False)  # windows to read; the last is next
    _depth: int = field(default=0, init=False)  # page within the window: more rows of one moment than a page holds
    _order: Order | None = field(default=None, init=False)
    _asked: bool = field(default=False, init=False)
    _last: PageResult | None = field(default=None, init=False)
    _repeats: int = field(default=0, init=False)
    _total: int | None = field(default=None, init=False)  # of the window, at its first page

    def __attrs_post_init__(self) -> None:
        self._extent = ListExtent(self.limit)
        self._pending = [self.window]

    @property
    def bounds(self) -> TimeWindow | None:
        """The window as a whole."""
        return self.window

    def next_request(self) -> PageRequest | None:
        """Give the next page, unless one is under way."""
        if self.done or self._asked:
            return None
        self._asked = True
        return PageRequest(self._depth, self._pending[-1])

    def handle_missing_page(self, ask: PageRequest) -> bool:
        """Take a refused page behind the first of a window as that window's end."""
        self._asked = False
        if ask.index == 0:
            return False
        self._close_window()
        return True

    def receive(self, ask: PageRequest, reply: PageResult) -> Sequence[int]:
        """Take the reply to the page asked for.

        Raises:
            OutsideWindowError: A row lies outside the window asked for.
            PaginationError: More rows of one moment than a page, and the server repeats the page.
        """
        self._asked = False
        if ask.bounds is not None and outside(reply, ask.bounds):
            raise OutsideWindowError
        last = self._last if ask.index else None
        repeated = last is not None and reply.count > 0 and reply.repeats(last) and not shifted_by_inserts(last, reply)
        self._repeats = self._repeats + 1 if repeated else 0
        if self._repeats == MOST_REPEATS:
            raise PaginationError("The server repeats a page of rows of one moment: it seems to ignore the page number")
        self._extent.learn(reply)
        self._doubt(ask, reply)
        new_rows = self.memory.new(reply)
        if self._is_last(ask, reply):
            self._close_window()
        else:
            self._judge(ask, reply)
            self._move(ask, reply.times or ())
        self._last = reply
        return new_rows

    def _doubt(self, ask: PageRequest, reply: PageResult) -> None:
        """Pages behind the first of a window are counted after all: only a total that stays and fits vouches for them.

        With no total at all there is one thing we take for whole: a first page below the limit with nothing behind it.
        """
        total, server_clips, last = reply.totals.items, self._extent.server_clips, self._last
        if ask.index == 0 or last is None:
            self._total = total
            return
        if (
            total is None
            and self._total is None
            and not server_clips
            and not reply.count
            and ask == PageRequest(1, self.window)
        ):
            if last.count >= self.limit:
                self.guarantee = "best_effort"
            return
        end = ask.index * self._extent.page_size + reply.count
        short = reply.count < self._extent.page_size
        if total is None or total != self._total or (short and end != total):
            self.guarantee = "best_effort"

    def _is_last(self, ask: PageRequest, reply: PageResult) -> bool:
        """Tell whether a window has been read with this reply: a page that is not full has nothing behind it.

        A full page may have, whatever the total says: it was perhaps counted before a row arrived.
        """
        if not reply.count:
            return True
        if reply.count >= self.limit or (self._extent.server_clips and reply.count >= self._extent.page_size):
            return False
        total = reply.totals.items
        if total is not None:
            # Short of a total, the page was clipped.
            return ask.index * self._extent.page_size + reply.count >= total
        # A first page below the limit may be clipped: only another one has shown what a full page is.
        known = self._extent.server_clips or self._extent.page_size == self.limit or self._last is not None
        return known and reply.count < self._extent.page_size

    def _judge(self, ask: PageRequest, reply: PageResult) -> None:
        """Find out how the list is sorted, and whether each page keeps to it."""
        times = reply.times or ()
        if ask.index and self._last is not None and self._last.times:
            times = (self._last.times[-1], *times)
        order = order_of(times)
        if self._order is None and len(set(times)) < EVIDENCE:
            self._order = "none" if len(set(times)) > 1 else None
        elif order is not None and order != self._order:
            self._order = order if self._order is None else "none"

    def _move(self, ask: PageRequest, times: Sequence[int]) -> None:
        """Choose what to ask for next: a smaller window, two of them, or the next page of this one."""
        window = self._pending[-1]
        windows: list[TimeWindow] = []
        match self._order:
            case "newest":
                windows = [_clip(window, None, times[-1] + 1)]
            case "oldest":
                windows = [_clip(window, times[-1] - 1, None)]
            case "none":
                windows = _cut(window, times)
        if not windows or window in windows:
            self._depth = ask.index + 1
            return
        self._pending[-1:] = windows
        self._depth = 0
        if isinstance(self.memory, BoundaryKeys) and self._order != "none":
            self.memory.move(windows[0])

    def _close_window(self) -> None:
        self._pending.pop()
        self._depth = 0
        self.done = not self._pending


def _clip(window: TimeWindow, start: int | None, end: int | None) -> TimeWindow:
    """Narrow a window; never widen it, or seeking would not end."""
    starts = [bound for bound in (window[0], start) if bound is not None]
    ends = [bound for bound in (window[1], end) if bound is not None]
    return (max(starts, default=None), min(ends, default=None))


def _cut(window: TimeWindow, times: Sequence[int]) -> list[TimeWindow]:
    """Cut a window in two at a time seen, the halves overlapping by a millisecond; [] where it cannot be cut."""
    in_order = sorted(times)
    for middle in (in_order[(len(times) - 1) // 2], (in_order[0] + in_order[-1]) // 2, in_order[-1], in_order[0]):
        halves = [_clip(window, None, middle + 1), _clip(window, middle, None)]
        if window not in halves:
            return halves
    return []
