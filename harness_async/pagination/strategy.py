"""How a page-numbered list is walked: machines without I/O, replies in, the next page out.

A list moves while it is read: rows that go away pull later rows to the left, over the edge between two pages, where
nobody reads them; rows that arrive push rows to the right, where they are read twice. A machine decides which page
to ask for next, which rows of a reply are new, and when the list has been read. The driver (`pagination`) does the
asking and knows none of this, so that one driver serves every machine.

**Live.** Pages one after another. Each key is delivered once. Where the total of a reply is lower than that of the
page before, rows have crossed the seam between the two: the pages to the left are read again, from right to left,
as far as a row can have moved. With one request at a time and totals that are true this loses no row to departures
alone or to arrivals alone. A departure that an arrival hides leaves the total as it was and is out of its sight.

*Why right to left:* departures move rows to the left only. A row that moves while we go the same way ends in what is
still to be read, or was seen before it moved. *How far:* a row not seen by the reply to page q stood to the right of
q's end then; since then it moved by at most the fall of the total.

**The end** is the server's to say, in a total of items or of pages; where it says neither, a page shorter than those
before it. A first page that is shorter than what we asked for proves nothing, for the server may clip pages: one more
is asked for. A total that the rows contradict is not believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

from attrs import define, field, frozen

from harness_async.errors import PaginationError
from harness_async.http.protocol import Totals

Guarantee: TypeAlias = Literal["live", "exact", "covered", "seek", "best_effort"]

TimeWindow: TypeAlias = tuple[int | None, int | None]
"""Start and end of a window in milliseconds since 1970, as the filters take them; None is open."""


@frozen
class PageRequest:
    """A page to ask for."""

    index: int
    """Counted from 0."""

    bounds: TimeWindow | None = None
    """The window to ask for in place of the caller's; None leaves the caller's own filters alone."""


@define(eq=False, repr=False)
class PageResult:
    """What a machine needs to know of one page."""

    rows: Sequence[object]
    """The rows themselves, where they have no keys: a machine that remembers a reply must not keep them alive."""

    keys: Sequence[int] | None
    """What tells each row from the others, hashed; None where rows have no such thing, and none is dropped."""

    totals: Totals
    times: Sequence[int] | None = None
    """When each row was created, in milliseconds since 1970; None where rows have no time."""

    count: int = field(init=False)
    """How many rows came."""

    def __attrs_post_init__(self) -> None:
        self.count = len(self.rows if self.keys is None else self.keys)

    def repeats(self, other: PageResult) -> bool:
        """Tell whether two pages are the same, row for row."""
        if self.keys is None:
            return self.rows == other.rows
        return self.keys == other.keys


class WalkStrategy(Protocol):
    """What the driver drives."""

    @property
    def done(self) -> bool:
        """Whether the list has been read."""
        ...

    @property
    def guarantee(self) -> Guarantee:
        """What the walk guarantees; meaningful when it is done."""
        ...

    @property
    def bounds(self) -> TimeWindow | None:
        """The window that was read, where it was frozen."""
        ...

    def next_request(self) -> PageRequest | None:
        """Give a page to ask for now; None when a reply must come first, or when done."""
        ...

    def receive(self, ask: PageRequest, reply: PageResult) -> Sequence[int]:
        """Take a reply and give the positions of its new rows."""
        ...

    def handle_missing_page(self, ask: PageRequest) -> bool:
        """Take a 400 or 404 for a page and say whether it is no error: the end of the list, or to be looked into."""
        ...


@define(eq=False)
class SeenKeys:
    """The keys of delivered rows, hashed: some 60 to 140 bytes a row."""

    _keys: set[int] = field(factory=set, repr=False)

    def __len__(self) -> int:
        return len(self._keys)

    def new(self, reply: PageResult) -> Sequence[int]:
        """Return the positions of rows not seen before, and remember them."""
        keys, seen = reply.keys, self._keys
        if keys is None:
            return range(reply.count)
        before = len(seen)
        if seen.isdisjoint(keys):
            # The whole page at once, as nearly every page can be: a loop over its rows costs six times as much.
            seen.update(keys)
            if len(seen) - before == len(keys):
                return range(len(keys))
            seen.difference_update(keys)
        new_rows: list[int] = []
        for position, key in enumerate(keys):
            if key not in seen:
                seen.add(key)
                new_rows.append(position)
        return new_rows


@define(eq=False, repr=False)
class ListExtent:
    """What is known of the size of a list: the stride, and whether there is more behind a page."""

    limit: int
    page_size: int = 0
    """Rows of a full page, as the server really gives them."""

    server_clips: bool = False
    """Whether the server itself said that pages are smaller than what we ask for."""

    trusted: bool = True
    """Whether the total of items has not been contradicted."""

    def learn(self, reply: PageResult) -> None:
        """Take the stride from the fullest page, or from a server that says that it clips.

        A told size equal to the limit proves nothing: it may be the limit itself, echoed by a server that clips.
        """
        size = reply.totals.size
        self.server_clips = size is not None and reply.count <= size < self.limit
        self.page_size = size if size is not None and self.server_clips else max(self.page_size, reply.count)

    def has_more(self, index: int, reply: PageResult) -> bool:
        """Tell whether to ask for the page after this one."""
        if not reply.count:
            return False
        total, pages = self.items(reply), reply.totals.pages
        end = index * self.page_size + reply.count
        full = reply.count >= self.page_size
        if total is not None and end > total:
            self.trusted, total = False, None
        if total is not None:
            # Both must agree to end: whichever says more is asked, for a page too many costs less than rows.
            return end < total or (pages is not None and index + 1 < pages and full)
        if pages is not None:
            # A full last page that is smaller than what we asked for was clipped, and the pages counted without that.
            return index + 1 < pages or (full and not self.server_clips and reply.count < self.limit)
        return full

    def promises(self, index: int, last: PageResult) -> bool:
        """Tell whether the totals of the page before say that there is this one."""
        total, pages = self.items(last), last.totals.pages
        return (total is not None and index * self.page_size < total) or (pages is not None and index < pages)

    def items(self, reply: PageResult) -> int | None:
        """Give the total of items, if it can be believed."""
        return reply.totals.items if self.trusted else None


@define(eq=False, repr=False)
class LiveStrategy:
    """One page after another, newest rows included; see the module for what that guarantees."""

    limit: int
    seen: SeenKeys = field(factory=SeenKeys)
    guarantee: Guarantee = "live"
    bounds: TimeWindow | None = field(default=None, init=False)
    done: bool = field(default=False, init=False)
    _extent: ListExtent = field(init=False)
    _asked: bool = field(default=False, init=False)
    _index: int = field(default=0, init=False)  # the page to ask for on the way forward
    _back: int | None = field(default=None, init=False)  # the page to ask for on the way back, if on it
    _last: PageResult | None = field(default=None, init=False)  # the reply before, on the way forward
    _more: bool = field(default=True, init=False)
    _checking: bool = field(default=False, init=False)  # whether the way back is for `refuse`
    _page_boundary: tuple[int, int | None] = field(
        default=(0, None), init=False
    )  # pages to its left, and the total then
    _spared: int = field(default=0, init=False)  # re-reads left; see `_look_back`

    def __attrs_post_init__(self) -> None:
        self._extent = ListExtent(self.limit)

    def next_request(self) -> PageRequest | None:
        """Give the next page, unless one is under way."""
        if self.done or self._asked:
            return None
        self._asked = True
        return PageRequest(self._index if self._back is None else self._back)

    def receive(self, ask: PageRequest, reply: PageResult) -> Sequence[int]:
        """Take the reply to the page asked for.

        Raises:
            PaginationError: It is the page before, word for word.
        """
        self._asked = False
        new_rows: Sequence[int] = ()
        if self._back is None:
            new_rows = self._forward(ask.index, reply)
        elif reply.keys is None:  # what has no identity would be delivered twice
            self._back = None
        else:
            new_rows = self.seen.new(reply)
            self._look_back(ask.index, reply)
        if self._checking:
            self._back, self._more = None, False
        self.done = not self._more and self._back is None
        return new_rows

    def handle_missing_page(self, ask: PageRequest) -> bool:
        """Take a refused page as the end, unless the list itself is gone.

        A page that the total promised is doubtful: the page before is asked for again. If that one is refused too,
        it is the list that went away, and no end.
        """
        self._asked = False
        if self._last is None or self._checking:
            return False
        if self._back is None and self._extent.promises(ask.index, self._last):
            self._back, self._checking = ask.index - 1, True
        elif self._back:  # the list shrank below what was to be read again
            self._back = ask.index - 1
        else:
            self._back, self._more = None, False
        self.done = not self._more and self._back is None
        return True

    def _forward(self, index: int, reply: PageResult) -> Sequence[int]:
        last = self._last
        if last is not None and reply.count and reply.repeats(last) and not shifted_by_inserts(last, reply):
            raise PaginationError(
                f"The server answered page {index + 1} of the list with the page before, word for word: "
                "it seems to ignore the page number"
            )
        self._extent.learn(reply)
        new_rows = self.seen.new(reply)
        self._more = self._extent.has_more(index, reply)
        self._index = index + 1
        # What honest totals can need; totals that jump at random must not read the list over and over.
        self._spared += 2 if last else 2 + -(-(self._extent.items(reply) or 0) // max(1, self._extent.page_size))
        if last is not None and reply.keys is not None:
            self._page_boundary = (index, self._extent.items(last))
            self._look_back(index, reply)
        self._last = reply
        return new_rows

    def _look_back(self, index: int, reply: PageResult) -> None:
        """After page `index`, decide whether the page to its left must be read again."""
        pages, before = self._page_boundary
        now = self._extent.items(reply)
        fell = 0 if before is None or now is None else before - now
        leftmost = max(0, pages - -(-fell // max(1, self._extent.page_size))) if fell > 0 else pages
        if index > leftmost and self._spared > 0:
            self._spared -= 1
            self._back = index - 1
        else:
            self._back = None


def shifted_by_inserts(last: PageResult, reply: PageResult) -> bool:
    """Tell whether a page may repeat because a whole page of rows arrived before it."""
    before, after = last.totals.items, reply.totals.items
    return before is not None and after is not None and after - before >= reply.count
