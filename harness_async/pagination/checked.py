"""Checked: pages several at a time, with proof that nothing was missed, and a way out where there is none.

1. The window ends at the server's now, so nothing can enter it: the list is frozen. The first page gives total and
   stride; a list of one page is one atomic read and done.
2. The other pages, as many at once as the driver likes. If all totals are equal and as many different rows came as
   the total says, the reading is the window, whatever the order of the list: `exact`, at no extra request.
3. Totals that only fell: rows went away, and others slipped past us to the left. One pass from the last page to the
   first catches every row that stayed, since rows now move only towards what is still to be read: `covered`.
4. Totals that rose or are missing, fewer rows than the total, or a status filter (rows enter and leave it): `seek`.
5. Rows outside the window: the filter is not what we take it for. Everything is read once more without it, as `live`
   does, and the walk says `best_effort`.

Rows are delivered as they come, each once, whichever step brought them.

Rows that appear late, inside the window, are what the freeze cannot keep out. They show as a total that rose, with two
exceptions: one that hides a departure, and one that pushes a row out of a list of exactly one full page between its
count and its rows. `strict` counts nothing and is immune to both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from attrs import define, field

from harness_async.pagination.seek import OutsideWindowError, SeekStrategy, outside
from harness_async.pagination.strategy import (
    Guarantee,
    ListExtent,
    LiveStrategy,
    PageRequest,
    PageResult,
    SeenKeys,
    TimeWindow,
    WalkStrategy,
)

_Phase: TypeAlias = Literal["first", "pass", "reverse", "handed over", "done"]


@define(eq=False, repr=False)
class TotalsRange:
    """The totals of a pass: their lowest and highest, for a pass may have ten thousand."""

    lowest: int = 0
    highest: int = 0
    certain: bool = True
    """Whether none was missing."""

    _empty: bool = True

    def add(self, total: int | None) -> None:
        """Take the total of one more reply."""
        if total is None:
            self.certain = False
        elif self._empty:
            self.lowest = self.highest = total
            self._empty = False
        else:
            self.lowest, self.highest = min(self.lowest, total), max(self.highest, total)


@define(eq=False, repr=False)
class CheckedStrategy:
    """Steps 1 to 3; steps 4 and 5 are other machines, to which it hands over."""

    limit: int
    window: TimeWindow
    """What to read; its end is in the past, or arrivals will cost requests."""

    volatile: bool = False
    """Whether rows may enter and leave the list without being created or deleted: a status filter is set."""

    seen: SeenKeys = field(factory=SeenKeys)
    _extent: ListExtent = field(init=False)
    _phase: _Phase = field(default="first", init=False)
    _todo: range = field(default=range(1), init=False)  # a range, for a total may be any number
    _under_way: int = field(default=0, init=False)
    _totals: TotalsRange = field(factory=TotalsRange, init=False)  # of this pass
    _most: int = field(default=0, init=False)  # the total that none of this pass may exceed
    _guarantee: Guarantee = field(default="exact", init=False)
    _total_overstated: bool = field(default=False, init=False)  # whether a total promised rows that are not there
    _delegate: WalkStrategy | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._extent = ListExtent(self.limit)

    @property
    def done(self) -> bool:
        """Whether the list has been read."""
        return self._phase == "done" if self._delegate is None else self._delegate.done

    @property
    def guarantee(self) -> Guarantee:
        """What the walk guarantees; meaningful when it is done."""
        return self._guarantee if self._delegate is None else self._delegate.guarantee

    @property
    def bounds(self) -> TimeWindow | None:
        """The window that was read; None where the freeze was dropped."""
        return self.window if self._delegate is None else self._delegate.bounds

    def next_request(self) -> PageRequest | None:
        """Give a page to ask for: several in the forward pass, else one at a time."""
        if self._delegate is not None:
            return None if self._under_way else self._delegate.next_request()
        if not self._todo or (self._under_way and self._phase != "pass"):
            return None
        self._under_way += 1
        index, self._todo = self._todo[0], self._todo[1:]
        return PageRequest(index, self.window)

    def receive(self, ask: PageRequest, reply: PageResult) -> Sequence[int]:
        """Take the reply to a page asked for."""
        if self._under_way:
            self._under_way -= 1
            return self._own(ask, reply)
        assert self._delegate is not None  # noqa: S101 - what is not under way here was asked for by the heir
        try:
            return self._delegate.receive(ask, reply)
        except OutsideWindowError:
            self._drop_freeze()
            return self.seen.new(reply)

    def handle_missing_page(self, ask: PageRequest) -> bool:
        """Take a refused page: what was promised and is missing needs another look, unless it is the list itself."""
        if not self._under_way:
            return self._delegate is not None and self._delegate.handle_missing_page(ask)
        self._under_way -= 1
        if self._delegate is not None:
            return True  # it reads what was refused here
        if ask.index == 0:
            return False
        self._totals.add(None)
        if self._phase == "pass":
            self._todo = range(0)  # nothing behind it can be had either
        self._settle()
        return True

    def _own(self, ask: PageRequest, reply: PageResult) -> Sequence[int]:
        if self._delegate is not None:  # under way when the freeze was dropped
            return self.seen.new(reply)
        if outside(reply, self.window):
            self._drop_freeze()
            return self.seen.new(reply)
        if self._phase == "first":
            return self._open(reply)
        new_rows = self.seen.new(reply)
        self._totals.add(reply.totals.items)
        if not reply.count and self._phase == "pass":
            self._todo = range(0)  # behind the end, whatever the total says
            # A total that promises rows where there are none is no measure of how many pages to read again.
            self._total_overstated = (
                self._total_overstated or (reply.totals.items or 0) > ask.index * self._extent.page_size
            )
        self._settle()
        return new_rows

    def _open(self, reply: PageResult) -> Sequence[int]:
        """Take the first page and plan the others."""
        self._extent.learn(reply)
        total = reply.totals.items
        # With a status filter rows may enter between the count and the rows: then a full page proves nothing.
        whole = not self.volatile or reply.count < self._extent.page_size or reply.count < self.limit
        if total == reply.count and whole and (reply.totals.pages or 0) <= 1:
            self._end("exact")
            return self.seen.new(reply)
        if total is None or total < reply.count or not reply.count or self.volatile:
            # Seeking begins with the same page.
            seek = self._seek()
            first = seek.next_request()
            assert first is not None  # noqa: S101 - a machine that was just made asks for something
            return seek.receive(first, reply)
        self._phase = "pass"
        self._most = total
        self._totals.add(total)
        self._todo = range(1, -(-total // self._extent.page_size))
        new_rows = self.seen.new(reply)
        self._settle()
        return new_rows

    def _settle(self) -> None:
        """When all replies of a pass are in, judge them."""
        totals = self._totals
        if totals.highest > self._most:
            self._todo = range(0)  # no page of this pass can prove anything any more
        if self._todo or self._under_way:
            return
        if self._phase == "reverse":
            if totals.certain and totals.highest <= self._most:
                self._end("covered")
            else:
                self._seek()
        elif totals.certain and totals.lowest == totals.highest == len(self.seen):
            self._end("exact")
        elif totals.highest > self._most or totals.lowest == totals.highest or self._total_overstated:
            self._seek()
        else:
            self._phase, self._most, self._totals = "reverse", totals.lowest, TotalsRange()
            self._todo = range(max(1, -(-totals.lowest // self._extent.page_size)))[::-1]

    def _end(self, guarantee: Guarantee) -> None:
        self._phase, self._guarantee = "done", guarantee
        self._todo = range(0)

    def _seek(self) -> SeekStrategy:
        seek = SeekStrategy(self.limit, self.window, self.seen)
        self._delegate = seek
        return seek

    def _drop_freeze(self) -> None:
        self._todo = range(0)
        self._delegate = LiveStrategy(self.limit, self.seen, guarantee="best_effort")
