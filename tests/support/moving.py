"""A list on a server that moves while it is read: the model that the walks are tested against."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal, TypeAlias

from attrs import define, field

from harness_async.pagination.source import PageTotals
from harness_async.pagination.strategy import PageRequest, PageResult, WalkStrategy
from harness_async.types import TimeWindow

Order: TypeAlias = Literal["newest", "oldest", "hash", "random ties"]
Family: TypeAlias = Literal["iacm", "v1", "none"]
Filter: TypeAlias = Literal["inclusive", "exclusive", "ignored"]

NOW = 1_000_000
"""The server's clock at the beginning, in milliseconds."""


@define(frozen=True)
class Row:
    """A row: its identity and when it was created."""

    number: int
    created: int


@define
class Request:
    """A request under way: its count may be taken before its rows."""

    request: PageRequest
    total: int | None = None
    counted: bool = False


@define
class MovingList:
    """Rows, how they are sorted, and what the server says of them."""

    order: Order = "newest"
    family: Family = "iacm"
    filter: Filter = "inclusive"
    limit: int = 5
    clip: int = 1000
    now: int = NOW
    rows: list[Row] = field(factory=list)
    requests: int = 0
    _rng: random.Random = field(factory=lambda: random.Random(0))
    _serial: int = 0

    def add(self, created: int) -> Row:
        self._serial += 1
        row = Row(self._serial, created)
        self.rows.append(row)
        return row

    def window(self, bounds: TimeWindow) -> list[Row]:
        start, end = bounds
        if self.filter == "ignored":
            return list(self.rows)
        last = None if end is None else end - (self.filter == "exclusive")
        first = None if start is None else start + (self.filter == "exclusive")
        return [
            row
            for row in self.rows
            if (first is None or row.created >= first) and (last is None or row.created <= last)
        ]

    def sorted(self, bounds: TimeWindow) -> list[Row]:
        keys: dict[Order, Callable[[Row], object]] = {
            "newest": lambda row: (-row.created, -row.number),
            "oldest": lambda row: (row.created, row.number),
            "hash": lambda row: ((row.number * 2654435761) % 2**32, row.number),
            "random ties": lambda row: (-row.created, self._rng.random()),
        }
        return sorted(self.window(bounds), key=keys[self.order])  # type: ignore[arg-type]

    def count(self, request: Request) -> None:
        request.total = len(self.window(request.request.window or TimeWindow()))
        request.counted = True

    def answer(self, request: Request) -> PageResult:
        """Take the rows, and the count if it was not taken before."""
        self.requests += 1
        if not request.counted:
            self.count(request)
        size = min(self.limit, self.clip)
        index = request.request.index
        rows = self.sorted(request.request.window or TimeWindow())[index * size : (index + 1) * size]
        total = None if self.family == "none" else request.total
        return PageResult(
            rows=rows,
            keys=[row.number for row in rows],
            totals=PageTotals(
                items=total,
                pages=-(-total // size) if total is not None and self.family == "iacm" else None,
                size=None if self.family == "none" else size,
            ),
            times=[row.created for row in rows],
        )


def read(
    server: MovingList, machine: WalkStrategy, between: Callable[[], None] = lambda: None, *, most: int = 100_000
) -> list[int]:
    """Read a list one request at a time, letting something happen between two requests."""
    got: list[int] = []
    while (request := machine.next_request()) is not None:
        result = server.answer(Request(request))
        new_rows = machine.receive(request, result)
        keys = result.keys or ()
        got.extend(keys[position] for position in new_rows)
        assert server.requests <= most, "an endless walk"
        between()
    assert machine.done
    return got
