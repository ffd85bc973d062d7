"""A list on a server that moves while it is read: the model that the strategies are tested against, without HTTP."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from attrs import define, field

from harness_async.pagination.source import PageTotals
from harness_async.pagination.strategy import PageRequest, PageResult, WalkStrategy
from harness_async.types import TimeWindow

Order: TypeAlias = Literal["newest", "oldest", "updated", "hash", "random ties"]
Totals: TypeAlias = Literal[
    "true", "items", "pages", "limit pages", "size", "none",
    "of the page", "zero", "one more", "one less", "half", "triple", "absurd", "random",
]  # fmt: skip
Filter: TypeAlias = Literal["inclusive", "exclusive", "ignored"]
PastEnd: TypeAlias = Literal["empty", "missing"]
Pages: TypeAlias = Literal["numbered", "same", "shuffled"]

NOW = 1_000_000
"""The server's clock at the beginning, in milliseconds."""

WINDOW = TimeWindow(None, NOW)

_TOTALS: dict[Totals, Callable[[int, int, random.Random], int | None]] = {
    "of the page": lambda _total, rows, _rng: rows,
    "zero": lambda _total, _rows, _rng: 0,
    "one more": lambda total, _rows, _rng: total + 1,
    "one less": lambda total, _rows, _rng: max(0, total - 1),
    "half": lambda total, _rows, _rng: total // 2,
    "triple": lambda total, _rows, _rng: 3 * total,
    "absurd": lambda total, _rows, _rng: 10**18 + total,
    "random": lambda total, _rows, rng: rng.randint(0, 2 * total + 2),
}


@define(eq=False)
class Row:
    """A row: its identity, when it was created and changed, and whether the status filter accepts it."""

    number: int
    created: int
    updated: int
    accepted: bool = True


@define(eq=False)
class Flight:
    """A request in flight: its rows may be counted before they are read."""

    request: PageRequest
    total: int | None = None


@define(eq=False)
class MovingList:
    """Rows, how they are sorted and paged, and what the server says about them."""

    order: Order = "newest"
    totals: Totals = "true"
    filter: Filter = "inclusive"
    pages: Pages = "numbered"
    past_end: PastEnd = "empty"
    limit: int = 5
    clip: int = 1000
    rng: random.Random = field(factory=lambda: random.Random(0))
    now: int = NOW
    rows: list[Row] = field(factory=list)
    requests: int = 0
    added: int = 0
    first: set[int] = field(factory=set)
    """The rows of the window when it was first counted."""

    steady: set[int] = field(factory=set)
    """Those of them that have been in the list ever since."""

    def add(self, created: int) -> Row:
        self.added += 1
        row = Row(self.added, created, created)
        self.rows.append(row)
        return row

    def fill(self, count: int, *, apart: int = 1000) -> None:
        """Add rows with their times apart, the newest first."""
        for number in range(count):
            self.add(NOW - 1 - apart * number)

    def remove(self, row: Row) -> None:
        self.rows.remove(row)
        self.steady.discard(row.number)

    def change(self, row: Row, *, accepted: bool) -> None:
        """Change the status of a row, and the time of its last change."""
        self.now += 1
        row.updated, row.accepted = self.now, accepted
        if not accepted:
            self.steady.discard(row.number)

    def select(self, window: TimeWindow | None) -> list[Row]:
        """Return the rows of a window, sorted."""
        start, end = TimeWindow() if window is None or self.filter == "ignored" else window
        strict = self.filter == "exclusive"
        keys: dict[Order, Callable[[Row], Any]] = {
            "newest": lambda row: (-row.created, -row.number),
            "oldest": lambda row: (row.created, row.number),
            "updated": lambda row: (-row.updated, -row.number),
            "hash": lambda row: ((row.number * 2654435761) % 2**32, row.number),
            "random ties": lambda row: (-row.created, self.rng.random()),
        }
        rows = [
            row
            for row in self.rows
            if row.accepted
            and (start is None or row.created >= start + strict)
            and (end is None or row.created <= end - strict)
        ]
        return sorted(rows, key=keys[self.order])

    def count(self, flight: Flight) -> None:
        """Count the rows for a request."""
        rows = self.select(flight.request.window)
        flight.total = len(rows)
        if not self.requests:
            self.first = {row.number for row in rows}
            self.steady = set(self.first)
        self.requests += 1

    def respond(self, flight: Flight) -> PageResult | None:
        """Read the rows of a request that was counted. None is a page that does not exist."""
        size, index = min(self.limit, self.clip), flight.request.index
        position = 0 if self.pages != "numbered" else index
        rows = self.select(flight.request.window)[position * size : (position + 1) * size]
        if self.pages == "shuffled":
            self.rng.shuffle(rows)
        if self.past_end == "missing" and index and not rows:
            return None
        assert flight.total is not None
        change = _TOTALS.get(self.totals)
        total = flight.total if change is None else change(flight.total, len(rows), self.rng)
        has_items = self.totals not in {"pages", "size", "none"}
        rows_of_a_page = {"true": size, "pages": size, "limit pages": self.limit}.get(self.totals)
        pages = None if rows_of_a_page is None else -(-flight.total // rows_of_a_page)
        return PageResult(
            (),
            [row.number for row in rows],
            PageTotals(
                items=total if has_items else None, pages=pages, size=size if self.totals in {"true", "size"} else None
            ),
            [row.created for row in rows],
        )


def read(
    server: MovingList,
    strategy: WalkStrategy,
    happen: Callable[[], None] = lambda: None,
    *,
    width: int = 1,
    split: bool = False,
    most: int = 20_000,
) -> list[int]:
    """Read a list with some requests in flight, which are executed in any order.

    `happen` is called before each step of the server. `split` makes two steps of counting and reading.
    """
    flights: list[Flight] = []
    got: list[int] = []
    while True:
        while len(flights) < width and (request := strategy.next_request()) is not None:
            flights.append(Flight(request))
        if not flights:
            break
        flight = flights[0] if width == 1 else server.rng.choice(flights)
        happen()
        if flight.total is None:
            server.count(flight)
            assert server.requests <= most, "an endless walk"
            if split:
                continue
        flights.remove(flight)
        result = server.respond(flight)
        if result is None:
            assert strategy.handle_missing_page(flight.request), "the list is said to be gone"
        else:
            keys = result.keys or ()
            got.extend(keys[position] for position in strategy.receive(flight.request, result))
    assert strategy.done
    return got
