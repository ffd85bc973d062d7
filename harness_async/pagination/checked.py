"""The strategy of `consistency="checked"`: several pages at a time, and a proof that no row was missed.

1. The window ends at the server's present time, so no new row can enter it: the list is frozen. The first page returns
   the total and the page size; a list of one page is one atomic read.
2. The other pages, any number at a time. If all totals are equal, and as many different rows arrived as they say, the
   rows are the window, whatever the order of the list: `exact`, without an additional request.
3. The totals only fell: rows were deleted, and others shifted past the reader to the left. One pass from the last page
   to the first reads every row that stayed, because rows now move towards what is still to be read: `covered`.
4. A total rose or is missing, there are fewer rows than the total, or a status filter is set (rows enter and leave the
   list): `seek`.
5. A row outside the window shows that the time filter does not apply to `created`. Everything is read once more
   without the window, as by `live`, and the walk reports `best_effort`.

Rows are delivered as they arrive, each once, whichever step read them.

Rows that appear late, within the window, are not kept out by the freeze. They show as a total that rose, with two
exceptions: one that hides a deletion, and one that pushes a row out of a list of exactly one full page between its
    count and its rows. `strict` counts nothing and is immune to both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from attrs import define, field

from harness_async.pagination.seek import OutsideWindowError, SeekStrategy, is_outside
from harness_async.pagination.strategy import ListExtent, LiveStrategy, PageRequest, PageResult, SeenKeys, WalkStrategy
from harness_async.types import Guarantee, TimeWindow

_Phase: TypeAlias = Literal["first", "forward", "reverse", "done"]


@define(eq=False)
class TotalsRange:
    """The lowest and highest total of a pass, which may have ten thousand pages."""

    lowest: int = 0
    highest: int = 0
    complete: bool = True
    """Whether no total was missing."""

    _empty: bool = True

    def add(self, total: int | None) -> None:
        """Add the total of one more result."""
        if total is None:
            self.complete = False
        elif self._empty:
            self.lowest = self.highest = total
            self._empty = False
        else:
            self.lowest, self.highest = min(self.lowest, total), max(self.highest, total)


@define(eq=False)
class CheckedStrategy:
    """Steps 1 to 3; steps 4 and 5 are delegated to other strategies."""

    limit: int
    window: TimeWindow
    """The window to read. Its end should be in the past, or insertions cost requests."""

    volatile: bool = False
    """Whether existing rows may enter and leave the list, because of a status filter."""

    seen: SeenKeys = field(factory=SeenKeys)
    _extent: ListExtent = field(init=False)
    _phase: _Phase = field(default="first", init=False)
    _pending: range = field(default=range(1), init=False)  # a range, because a total may be any number
    _in_flight: int = field(default=0, init=False)
    _totals: TotalsRange = field(factory=TotalsRange, init=False)  # of this pass
    _highest_allowed: int = field(default=0, init=False)  # the highest total that this pass may report
    _guarantee: Guarantee = field(default="exact", init=False)
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
        """The window that is read; None where it was given up."""
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
            self._give_up_window()
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
        self._totals.add(None)
        if self._phase == "forward":
            self._pending = range(0)  # no later page exists either
        self._settle()
        return True

    def _receive_own(self, request: PageRequest, result: PageResult) -> Sequence[int]:
        if self._delegate is not None:  # in flight when the window was given up
            return self.seen.add_new(result)
        if is_outside(result, self.window):
            self._give_up_window()
            return self.seen.add_new(result)
        if self._phase == "first":
            return self._start(result)
        positions = self.seen.add_new(result)
        self._totals.add(result.totals.items)
        if not result.count and self._phase == "forward":
            self._pending = range(0)  # past the end, whatever the total says
            # A total that promises rows that do not exist does not tell how many pages to read again.
            self._total_overstated = (
                self._total_overstated or (result.totals.items or 0) > request.index * self._extent.page_size
            )
        self._settle()
        return positions

    def _start(self, result: PageResult) -> Sequence[int]:
        """Process the first page and plan the others."""
        self._extent.update(result)
        total = result.totals.items
        # With a status filter, rows may enter between the count and the rows: a full page then proves nothing.
        whole = not self.volatile or result.count < self._extent.page_size or result.count < self.limit
        if total == result.count and whole and (result.totals.pages or 0) <= 1:
            self._end("exact")
            return self.seen.add_new(result)
        if total is None or total < result.count or not result.count or self.volatile:
            # Seek begins with the same page.
            seek = self._delegate_to_seek()
            first = seek.next_request()
            assert first is not None  # noqa: S101 - a new strategy has a request
            return seek.receive(first, result)
        self._phase = "forward"
        self._highest_allowed = total
        self._totals.add(total)
        self._pending = range(1, -(-total // self._extent.page_size))
        positions = self.seen.add_new(result)
        self._settle()
        return positions

    def _settle(self) -> None:
        """When all results of a pass have arrived, evaluate them."""
        totals = self._totals
        if totals.highest > self._highest_allowed:
            self._pending = range(0)  # no page of this pass can prove anything
        if self._pending or self._in_flight:
            return
        if self._phase == "reverse":
            if totals.complete and totals.highest <= self._highest_allowed:
                self._end("covered")
            else:
                self._delegate_to_seek()
        elif totals.complete and totals.lowest == totals.highest == len(self.seen):
            self._end("exact")
        elif totals.highest > self._highest_allowed or totals.lowest == totals.highest or self._total_overstated:
            self._delegate_to_seek()
        else:
            self._phase, self._highest_allowed, self._totals = "reverse", totals.lowest, TotalsRange()
            self._pending = range(max(1, -(-totals.lowest // self._extent.page_size)))[::-1]

    def _end(self, guarantee: Guarantee) -> None:
        self._phase, self._guarantee = "done", guarantee
        self._pending = range(0)

    def _delegate_to_seek(self) -> SeekStrategy:
        seek = SeekStrategy(self.limit, self.window, self.seen)
        self._delegate = seek
        return seek

    def _give_up_window(self) -> None:
        self._pending = range(0)
        self._delegate = LiveStrategy(self.limit, self.seen, guarantee="best_effort")
