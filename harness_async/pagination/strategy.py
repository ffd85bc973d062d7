"""Walk strategies: what they share, and the plain one, `LiveStrategy`.

A strategy decides which page of a list to request next, which rows of a result are new, and when the list has been
read. It performs no I/O: `walk` sends the requests. A list changes while it is read: deleted rows shift later rows to
the left, across the boundary between two pages, where they are never read; inserted rows shift rows to the right, where
they are read twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import eq
from typing import Protocol

from attrs import define, field, frozen

from harness_async.errors import PaginationError
from harness_async.pagination.source import PageTotals
from harness_async.types import Guarantee, TimeWindow


@frozen
class PageRequest:
    """A page to request."""

    index: int
    """Position of the page, from 0."""

    window: TimeWindow | None = None
    """The time window that replaces the caller's; None leaves the caller's own filters."""


@define(eq=False)
class PageResult:
    """What a strategy needs to know about a page."""

    rows: Sequence[object]
    """The rows themselves where they have no keys; empty otherwise, so that a strategy does not keep them alive."""

    keys: Sequence[int] | None
    """The hashed keys of the rows; None where rows have no keys, and no duplicate is recognized."""

    totals: PageTotals
    times: Sequence[int] | None = None
    """When each row was created, in milliseconds since 1970; None where rows have no time."""

    count: int = field(init=False)
    """Number of rows."""

    def __attrs_post_init__(self) -> None:
        self.count = len(self.rows if self.keys is None else self.keys)

    def repeats(self, other: PageResult) -> bool:
        """Return whether a page seems to be another one again: the same keys, or without keys mostly the same rows."""
        if self.keys is not None:
            return self.keys == other.keys
        if not self.count or self.count != other.count:
            return False
        equal = sum(map(eq, self.rows, other.rows))
        # What is common identifies a row only if no other row of the page has it too.
        changed = {_common_part(*pair) for pair in zip(self.rows, other.rows, strict=True)} - {None}
        if 2 * (equal + len(changed)) > self.count:
            return True
        shuffled = Counter(map(repr, self.rows)) & Counter(map(repr, other.rows))
        return 2 * shuffled.total() > self.count


def _common_part(row: object, other: object) -> str | None:
    """Return what two rows have in common where they differ in one member, which is not named like an identifier."""
    if not isinstance(row, Mapping) or not isinstance(other, Mapping) or row.keys() != other.keys():
        return None
    changed = [name for name in row if row[name] != other[name]]
    if len(changed) != 1:
        return None
    name = changed[0]
    if isinstance(row[name], Mapping):
        inner = _common_part(row[name], other[name])
        return None if inner is None else repr({**row, name: inner})
    if len(row) == 1 or str(name).lower().endswith(("id", "identifier", "name", "key")):
        return None
    return repr({**row, name: None})


class WalkStrategy(Protocol):
    """A way to read a list."""

    @property
    def done(self) -> bool:
        """Whether the list has been read."""
        ...

    @property
    def guarantee(self) -> Guarantee:
        """What the walk guarantees once it is done."""
        ...

    @property
    def frozen_window(self) -> TimeWindow | None:
        """The time window that is read; None where nothing is frozen."""
        ...

    def next_request(self) -> PageRequest | None:
        """Return a page to request now; None where a result has to come first, or when done."""
        ...

    def receive(self, request: PageRequest, result: PageResult) -> Sequence[int]:
        """Process a result and return the positions of its new rows."""
        ...

    def handle_missing_page(self, request: PageRequest) -> bool:
        """Process a 400 or 404 for a page. Return False where it is an error of the list itself."""
        ...


@define(eq=False)
class SeenKeys:
    """The hashed keys of delivered rows: 60 to 140 bytes a row."""

    _keys: set[int] = field(factory=set, repr=False)

    def __len__(self) -> int:
        return len(self._keys)

    def add_new(self, result: PageResult) -> Sequence[int]:
        """Return the positions of rows that were not seen before, and remember them."""
        keys, seen = result.keys, self._keys
        if keys is None:
            return range(result.count)
        before = len(seen)
        if seen.isdisjoint(keys):
            # Nearly every page is new as a whole: a loop over its rows costs six times as much.
            seen.update(keys)
            if len(seen) - before == len(keys):
                return range(len(keys))
            seen.difference_update(keys)
        positions: list[int] = []
        for position, key in enumerate(keys):
            if key not in seen:
                seen.add(key)
                positions.append(position)
        return positions


COMMON_MAXIMUM = 100
"""Rows to which servers commonly clip a page. A page of exactly as many may be clipped, whatever the total says."""


@define(eq=False)
class ListExtent:
    """What is known about the size of a list: rows of a full page, and whether there is another page."""

    limit: int
    page_size: int = 0
    """Rows of a full page, as the server returns them."""

    server_clips: bool = False
    """Whether the server reports that pages are smaller than requested."""

    trusts_total: bool = True
    """Whether no result has contradicted the total of items."""

    def update(self, result: PageResult) -> None:
        """Derive the page size from the fullest page, or from a server that reports a smaller one.

        A reported size equal to the limit proves nothing: a server that clips may echo the limit.
        """
        size = result.totals.size
        self.server_clips = size is not None and result.count <= size < self.limit
        self.page_size = size if size is not None and self.server_clips else max(self.page_size, result.count)

    def is_full(self, index: int, result: PageResult) -> bool:
        """Return whether a page is a full one, after which there may be another whatever the totals say."""
        full = result.count >= self.page_size
        is_common = result.count == COMMON_MAXIMUM
        return result.count >= self.limit or is_common or (full and (self.server_clips or index > 0))

    def has_more(self, index: int, result: PageResult) -> bool:
        """Return whether to request the page after this one. Only an empty or a short page is the end."""
        if not result.count:
            return False
        end = index * self.page_size + result.count
        if result.totals.items is not None and end > result.totals.items:
            self.trusts_total = False
        if self.is_full(index, result):
            return True
        total, pages = self.total_items(result), result.totals.pages
        full = result.count >= self.page_size
        if total is not None:
            # One page too many costs less than lost rows.
            return end < total or (pages is not None and index + 1 < pages and full)
        if pages is not None:
            # A full page below the limit was clipped, and the number of pages computed without that.
            return index + 1 < pages or (full and not self.server_clips)
        return full

    def promises(self, index: int, previous: PageResult) -> bool:
        """Return whether the totals of the previous page say that this page exists."""
        total, pages = self.total_items(previous), previous.totals.pages
        return (total is not None and index * self.page_size < total) or (pages is not None and index < pages)

    def total_items(self, result: PageResult) -> int | None:
        """Return the total of items, unless it was contradicted."""
        return result.totals.items if self.trusts_total else None


def shifted_by_inserts(previous: PageResult, result: PageResult) -> bool:
    """Return whether a page may repeat because a whole page of rows was inserted before it."""
    before, after = previous.totals.items, result.totals.items
    return before is not None and after is not None and after - before >= result.count


MAX_REPEATED_ROWS = 10
"""Rows on repetitions of one page, from which on the server is said to ignore the page number."""

MAX_PAGES_WITHOUT_NEWS = 10
"""The same for pages that differ and bring no new row: rows of one time may be shuffled by the server."""


@define(eq=False)
class LiveStrategy:
    """The strategy of `consistency="live"`: one page after the other, newest rows included.

    Each key is delivered once. Where the total is lower than at the previous page, rows have crossed the boundary
    between the two pages: the pages to the left are read again, from right to left, as far as a row can have moved.
    With one request at a time and true totals this loses no row to deletions alone or to insertions alone. A deletion
    hidden by an insertion leaves the total as it was and is not noticed.

    Right to left, because deletions move rows to the left only: a row that moves in the same direction ends in what is
    still to be read, or was seen before it moved. As far as the total fell, because a row that was not on page q stood
    to the right of q's end and has moved by at most that much since.

    The list ends at an empty page, or at one that is shorter than a full one. A total never ends it at a full page. A
    first page below the limit is the end where the total agrees; without a total, one more page is requested, because
    the server may clip pages. A total that the rows contradict is ignored. Pages that repeat are an error.
    """

    limit: int
    seen: SeenKeys = field(factory=SeenKeys)
    delivered: int = 0
    """Rows that were delivered, those of an earlier strategy included."""

    guarantee: Guarantee = "live"
    frozen_window: TimeWindow | None = field(default=None, init=False)
    done: bool = field(default=False, init=False)
    _extent: ListExtent = field(init=False)
    _requested: bool = field(default=False, init=False)
    _index: int = field(default=0, init=False)  # next page on the way forward
    _back: int | None = field(default=None, init=False)  # next page on the way back, if there is one
    _previous: PageResult | None = field(default=None, init=False)  # last result on the way forward
    _more: bool = field(default=True, init=False)
    _verifying: bool = field(default=False, init=False)  # whether the way back checks that the list still exists
    _boundary: tuple[int, int | None] = field(default=(0, None), init=False)  # pages to its left, and the total then
    _rereads_left: int = field(default=0, init=False)
    _repeated_rows: int = field(default=0, init=False)
    _without_news: int = field(default=0, init=False)  # pages in a row without a new row
    _lowest_total: int | None = field(default=None, init=False)  # true or not
    _walked: SeenKeys = field(init=False)  # keys of this walk, without those of an earlier strategy

    def __attrs_post_init__(self) -> None:
        self._extent = ListExtent(self.limit)
        self._walked = SeenKeys() if self.delivered else self.seen

    def next_request(self) -> PageRequest | None:
        """Return the next page, unless one is in flight."""
        if self.done or self._requested:
            return None
        self._requested = True
        return PageRequest(self._index if self._back is None else self._back)

    def receive(self, request: PageRequest, result: PageResult) -> Sequence[int]:
        """Process the result of the page in flight.

        Raises:
            PaginationError: Pages repeat.
        """
        self._requested = False
        positions: Sequence[int] = ()
        if (total := result.totals.items) is not None:
            self._lowest_total = total if self._lowest_total is None else min(total, self._lowest_total)
        if self._back is None:
            positions = self._advance(request.index, result)
        elif result.keys is None:  # rows without keys would be delivered twice
            self._back = None
        else:
            positions = self.seen.add_new(result)
            self._look_back(request.index, result)
        self.delivered += len(positions)
        if self._verifying:
            self._end_verification(request.index, result)
        if not self._more and self._back is None:
            self._finish()
        return positions

    def handle_missing_page(self, request: PageRequest) -> bool:
        """Process a missing page as the end, unless the list itself is gone.

        Where the total promised the page, the page before it is requested again, then the first one: if that is missing
        too, the list is gone. Else it shrank, and rows have moved to the left.
        """
        self._requested = False
        if self._previous is None or (self._verifying and not request.index):
            return False
        if self._verifying:
            self._back = 0
        elif self._back is None and self._extent.promises(request.index, self._previous):
            self._back, self._verifying = request.index - 1, True
            self._boundary = (request.index, self._extent.total_items(self._previous))
        elif self._back:  # the list shrank below the pages to read again
            self._back = request.index - 1
        else:
            self._back, self._more = None, False
            self._finish()
        return True

    def _end_verification(self, index: int, result: PageResult) -> None:
        """After a page that was requested to verify that the list exists, end the way forward."""
        self._verifying, self._more = False, False
        last = -(-(self._extent.total_items(result) or 0) // max(1, self._extent.page_size)) - 1
        if index + 1 < self._boundary[0] and last > index and result.keys is not None and self._rereads_left > 0:
            self._rereads_left -= 1
            self._back = last  # the pages between the first and the missing one were skipped

    def _finish(self) -> None:
        self.done = True
        if self._lowest_total is not None and self.delivered < self._lowest_total:
            self.guarantee = "best_effort"

    def _advance(self, index: int, result: PageResult) -> Sequence[int]:
        previous = self._previous
        shifted = previous is not None and shifted_by_inserts(previous, result)
        repeats = previous is not None and result.repeats(previous) and not shifted
        self._extent.update(result)
        if repeats and index == 1 and result.count < self.limit and not self._extent.promises(index, result):
            self._more = False  # a short list that is not paged at all
            return ()
        positions = self.seen.add_new(result)
        walked = positions if self._walked is self.seen else self._walked.add_new(result)
        if walked and not repeats:
            self._repeated_rows = self._without_news = 0
        elif result.count and not shifted:
            self._count_repeat(index, result, is_repeat=repeats)
        self._more = self._extent.has_more(index, result)
        self._index = index + 1
        # As many as true totals can require; totals that change at random must not repeat the list for ever.
        total = self._extent.total_items(result) or 0
        self._rereads_left += 2 if previous else 2 + -(-total // max(1, self._extent.page_size))
        if previous is not None and result.keys is not None:
            self._boundary = (index, self._extent.total_items(previous))
            self._look_back(index, result)
        self._previous = result
        return positions

    def _count_repeat(self, index: int, result: PageResult, *, is_repeat: bool) -> None:
        """Count a page that brings nothing new."""
        self._repeated_rows = self._repeated_rows + result.count if is_repeat else 0
        self._without_news += 1
        if self._repeated_rows >= MAX_REPEATED_ROWS or self._without_news >= MAX_PAGES_WITHOUT_NEWS:
            raise PaginationError(
                f"Page {index + 1} of the list repeats pages before it: the server seems to ignore the page number"
            )

    def _look_back(self, index: int, result: PageResult) -> None:
        """Decide after page `index` whether the page to its left has to be read again."""
        pages, before = self._boundary
        now = self._extent.total_items(result)
        fell = 0 if before is None or now is None else before - now
        leftmost = max(0, pages - -(-fell // max(1, self._extent.page_size))) if fell > 0 else pages
        if index > leftmost and self._rereads_left > 0:
            self._rereads_left -= 1
            self._back = index - 1
        else:
            self._back = None
