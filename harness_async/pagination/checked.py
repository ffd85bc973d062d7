"""The strategy of `consistency="checked"`: several pages at a time, and a proof that no row was missed.

1. The window ends at the server's present time, so no new row can enter it: the list is frozen. The first page returns
   the total and the page size. A list of one short page is one atomic read.
2. The other pages, any number at a time, up to a short or an empty one. If all totals are equal, and as many different
   rows arrived as they say, the rows are the window, whatever the order of the list: `exact`.
3. The totals only fell: rows were deleted, and others shifted past the reader to the left. One pass from the last page
   to the first reads every row that stayed, because rows now move towards what is still to be read: `covered`. This
   needs an order that does not change between requests, so it is claimed only where rows came sorted by time, without
   ties between pages.
4. Everything else is left to `seek`: a total that rose, is missing or is contradicted by the rows, fewer rows than the
   total, a status filter (rows enter and leave the list), or a window whose end is not certain to be in the past.
5. A row outside the window shows that the time filter does not apply to `created`. Everything is read once more
   without the window, as by `live`, and the walk reports `best_effort`.

Lists without a time filter, such as those of organizations and projects, are requested in an order in which new rows
come last. They are read by the pass of step 3 alone, which takes one request more where there is more than one page.

Rows are delivered as they arrive, each once, whichever step read them.

Rows that appear late, within the window, are not kept out by the freeze. They show as a total that rose, except where
one hides a deletion. `strict` counts nothing and is immune.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from attrs import define, field

from harness_async.pagination.seek import Order, OutsideWindowError, SeekStrategy, detect_order, is_outside
from harness_async.pagination.strategy import (
    MAX_PAGES_WITHOUT_NEWS,
    ListExtent,
    LiveStrategy,
    PageRequest,
    PageResult,
    SeenKeys,
    WalkStrategy,
)
from harness_async.types import Guarantee, TimeWindow

_Phase: TypeAlias = Literal["first", "forward", "reverse", "done"]


@define(eq=False)
class TotalsRange:
    """The totals of a pass, which may have ten thousand pages."""

    lowest: int = 0
    highest: int = 0
    complete: bool = True
    """Whether no total was missing, and none was contradicted by rows."""

    _empty: bool = True

    def add(self, total: int | None) -> None:
        """Add the total of one more result; None where it is missing or contradicted."""
        if total is None:
            self.complete = False
        elif self._empty:
            self.lowest = self.highest = total
            self._empty = False
        else:
            self.lowest, self.highest = min(self.lowest, total), max(self.highest, total)


@define(eq=False)
class StableOrder:
    """Evidence that a list, read from its last page to the first, is sorted by time and without ties between pages."""

    holds: bool = True
    order: Order | None = None
    _right: PageResult | None = None

    def update(self, result: PageResult) -> None:
        """Compare a page with the one to its right, which was read before it."""
        if not result.count:
            return
        if result.times is None or result.keys is None:
            self.holds = False
            return
        right, self._right = self._right, result
        known = set(() if right is None else right.keys or ())
        # Rows that have moved here from the page to the right are on both: only because other rows were deleted.
        if right is not None and not known.isdisjoint(result.keys):
            self.holds = self.holds and (result.totals.items or 0) < (right.totals.items or 0)
        times = [time for key, time in zip(result.keys, result.times, strict=True) if key not in known]
        next_times = () if right is None else (right.times or ())[:1]
        order = detect_order([*times, *next_times])
        if order is not None:
            self.order = self.order or order
            self.holds = self.holds and order == self.order != "none"
        if times and times[-1:] == [*next_times]:
            self.holds = False  # rows of one time may change places


@define(eq=False)
class CheckedStrategy:
    """Steps 1 to 3; steps 4 and 5 are delegated to other strategies."""

    limit: int
    window: TimeWindow | None
    """The window to read; None where the list has no time filter."""

    volatile: bool = False
    """Whether existing rows may enter and leave the list, because of a status filter."""

    frozen: bool = True
    """Whether the end of the window is certain to be in the past, so that no row can enter it."""

    seen: SeenKeys = field(factory=SeenKeys)
    _extent: ListExtent = field(init=False)
    _phase: _Phase = field(default="first", init=False)
    _pending: range = field(default=range(1), init=False)  # a range, because a total may be any number
    _in_flight: int = field(default=0, init=False)
    _totals: TotalsRange = field(factory=TotalsRange, init=False)  # of this pass
    _highest_allowed: int = field(default=0, init=False)  # the highest total that this pass may report
    _last: int = field(default=0, init=False)  # the first page of the reverse pass
    _stable: StableOrder = field(factory=StableOrder, init=False)
    _pass_keys: set[int] = field(factory=set, init=False, repr=False)  # rows of the reverse pass
    _guarantee: Guarantee = field(default="exact", init=False)
    _unordered: bool = field(default=False, init=False)  # whether a page is not sorted by time
    _without_news: int = field(default=0, init=False)  # pages in a row without a new row
    _total_overstated: bool = field(default=False, init=False)  # whether a total promised rows that do not exist
    _delegate: WalkStrategy | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._extent = ListExtent(self.limit)

    @property
    def done(self) -> bool:
        """Whether the list has been read."""
        return self._phase == "done" if self._delegate is None else self._delegate.done

    @property
    def guarantee(self) -> Guarantee:
        """What the walk guarantees once it is done."""
        return self._guarantee if self._delegate is None else self._delegate.guarantee

    @property
    def frozen_window(self) -> TimeWindow | None:
        """The window that is read; None where there is none, or it was given up."""
        return self.window if self._delegate is None else self._delegate.frozen_window

    def next_request(self) -> PageRequest | None:
        """Return a page to request: several in the forward pass, else one at a time."""
        if self._delegate is not None:
            return None if self._in_flight else self._delegate.next_request()
        if not self._pending or (self._in_flight and self._phase != "forward"):
            return None
        self._in_flight += 1
        index, self._pending = self._pending[0], self._pending[1:]
        return PageRequest(index, self.window)

    def receive(self, request: PageRequest, result: PageResult) -> Sequence[int]:
        """Process a result and return the positions of its new rows."""
        if self._in_flight:
            self._in_flight -= 1
            return self._receive_own(request, result)
        assert self._delegate is not None  # noqa: S101 - the delegate requested this page
        try:
            return self._delegate.receive(request, result)
        except OutsideWindowError:
            self._read_live()
            return self.seen.add_new(result)

    def handle_missing_page(self, request: PageRequest) -> bool:
        """Process a missing page: one that was promised requires another pass. Return False for the first page."""
        if not self._in_flight:
            return self._delegate is not None and self._delegate.handle_missing_page(request)
        self._in_flight -= 1
        if self._delegate is not None:
            return True  # the delegate reads it again
        if request.index == 0:
            return False
        if self._phase == "forward":
            self._pending = range(0)  # no later page exists either
        # A page behind the last full one only proves that nothing follows.
        if request.index * self._extent.page_size < self._highest_allowed:
            self._give_up_pass()
        self._settle()
        return True

    def _receive_own(self, request: PageRequest, result: PageResult) -> Sequence[int]:
        if self._delegate is not None:  # in flight when the window was given up
            return self.seen.add_new(result)
        if self.window is not None and is_outside(result, self.window):
            self._read_live()
            return self.seen.add_new(result)
        if self._phase == "first":
            return self._start(result)
        positions = self.seen.add_new(result)
        total, start = result.totals.items, request.index * self._extent.page_size
        is_contradicted = result.count > 0 and total is not None and start + result.count > total
        self._totals.add(None if is_contradicted else total)
        if self._phase == "reverse":
            self._stable.update(result)
            known = len(self._pass_keys)
            self._pass_keys.update(result.keys or ())
            self._count_news(len(self._pass_keys) - known)
            if not result.count and (total or 0) > start:
                self._give_up_pass()  # the total promises rows that do not exist, perhaps any number of pages
            elif self.window is None and request.index == self._last and positions and self._extent.is_full(1, result):
                self._start_reverse(request.index + 1, total or 0)  # the list is longer than its total said
        elif result.count:
            self._unordered = self._unordered or detect_order(result.times or ()) == "none"
            self._count_news(len(positions))
        else:
            self._pending = range(0)  # past the end, whatever the total says
            # A total that promises rows that do not exist does not tell how many pages to read again.
            self._total_overstated = self._total_overstated or (total or 0) > start
        self._settle()
        return positions

    def _start(self, result: PageResult) -> Sequence[int]:
        """Process the first page and plan the others."""
        self._extent.update(result)
        self._unordered = detect_order(result.times or ()) == "none"
        total, size = result.totals.items, self._extent.page_size
        is_short = not self._extent.is_full(0, result)
        if total == result.count and is_short and (result.totals.pages or 0) <= 1:
            self._end("exact")
            return self.seen.add_new(result)
        if total is None or total < result.count or not result.count or self.volatile:
            return self._delegate_first(result)
        self._totals.add(total)
        self._highest_allowed = total
        last = total // size  # after a full last page, one more has to be empty
        if self.window is None:
            self._start_reverse(last, total)
        elif self.frozen:
            self._phase, self._pending = "forward", range(1, last + 1)
        else:
            return self._delegate_first(result)
        positions = self.seen.add_new(result)
        self._settle()
        return positions

    def _settle(self) -> None:
        """When all results of a pass have arrived, evaluate them."""
        totals, is_open = self._totals, self.window is None
        if totals.highest > self._highest_allowed and not is_open:
            self._pending = range(0)  # no page of this pass can prove anything
        if self._pending or self._in_flight:
            return
        if self._phase == "reverse":
            is_complete = totals.complete and len(self._pass_keys) >= min(totals.lowest, self._highest_allowed)
            # New rows have to come last, or they shift rows to the right, past the reader.
            is_safe = self._stable.order == "oldest" if is_open else totals.highest <= self._highest_allowed
            if is_complete and self._stable.holds and is_safe:
                self._end("covered")
            else:
                self._fall_back()
        elif totals.complete and totals.lowest == totals.highest == len(self.seen):
            self._end("exact")
        elif (
            totals.highest > self._highest_allowed
            or totals.lowest == totals.highest
            or self._total_overstated
            or not totals.complete
            or self._unordered  # a reverse pass would prove nothing
        ):
            self._fall_back()
        else:
            self._start_reverse(max(1, -(-totals.lowest // self._extent.page_size)) - 1, totals.lowest)

    def _count_news(self, rows: int) -> None:
        """Give up a pass whose pages bring nothing new, because the server ignores the page number."""
        self._without_news = 0 if rows else self._without_news + 1
        if self._without_news >= MAX_PAGES_WITHOUT_NEWS:
            self._give_up_pass()

    def _give_up_pass(self) -> None:
        """Request no more pages of a pass that cannot prove anything."""
        self._pending = range(0)
        self._totals.add(None)

    def _start_reverse(self, last: int, total: int) -> None:
        self._phase, self._last, self._pending = "reverse", last, range(last + 1)[::-1]
        self._highest_allowed = total
        self._totals, self._stable, self._pass_keys = TotalsRange(), StableOrder(), set()

    def _end(self, guarantee: Guarantee) -> None:
        self._phase, self._guarantee = "done", guarantee
        self._pending = range(0)

    def _delegate_first(self, result: PageResult) -> Sequence[int]:
        """Let another strategy read the list from the first page, which has arrived."""
        self._fall_back()
        assert self._delegate is not None  # noqa: S101
        request = self._delegate.next_request()
        assert request is not None  # noqa: S101 - a new strategy has a request
        return self._delegate.receive(request, result)

    def _fall_back(self) -> None:
        if self.window is None:
            self._read_live()
        else:
            self._pending = range(0)
            self._delegate = SeekStrategy(self.limit, self.window, self.seen)

    def _read_live(self) -> None:
        self._pending = range(0)
        self._delegate = LiveStrategy(self.limit, self.seen, len(self.seen), guarantee="best_effort")
