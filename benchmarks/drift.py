"""Rows that moving lists lose, and requests that they cost: naive paging, live, checked and strict walks.

The strategies run in virtual time, without network, against a list in memory. The list has full pages, of which the
last misses one row, spread evenly over the 9,000 s that end a minute before the walk begins. A unit of time is the
mean latency of a request, 300 ms. Rows arrive, created now, and random rows depart, as Poisson processes with so many
events a unit. A request takes 0.5 to 1.5 units; the server counts at a random moment of it, and reads the rows 0.03
units later. Every mode meets the same schedules, each of which has its own seed.

Naive computes the number of pages from the first total and requests them one after another, without a frozen end.
Live and strict have one request in flight, checked has 8.

A row is lost if it was in the list from the beginning of the walk to its end and was not delivered; it is doubled
each time it was delivered again. Lossy is the share of walks with loss. Requests are compared with what the first
total requires.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left, insort
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Literal, TypeAlias

from attrs import define, field, frozen

from benchmarks.report import Settings, Table, show
from harness_async.pagination.checked import CheckedStrategy
from harness_async.pagination.seek import SeekStrategy
from harness_async.pagination.source import PageTotals
from harness_async.pagination.strategy import LiveStrategy, PageRequest, PageResult, WalkStrategy
from harness_async.types import Guarantee, TimeWindow

Order: TypeAlias = Literal["newest", "oldest", "hash"]
Mode: TypeAlias = Literal["naive", "live", "checked", "strict"]
Entry: TypeAlias = tuple[int, int, int, int]
"""A row: its position as two numbers, its `created`, its identity."""

ORDERS: tuple[Order, ...] = ("newest", "oldest", "hash")
MODES: tuple[Mode, ...] = ("naive", "live", "checked", "strict")

UNIT = 300
"""Milliseconds of a mean latency."""

START = 10_000_000
"""The server's clock when a walk begins, in milliseconds: the end of a frozen window."""

SPREAD, AGE = 9_000_000, 60_000
"""Milliseconds over which the rows are spread, and the age of the youngest."""

APART = 0.03
"""Units between the count and the rows of one response."""

PAGE, IN_FLIGHT, SEED = 50, 8, 1


@frozen
class Cell:
    """How much the list moves: events in a unit of time."""

    arrivals: float
    departures: float
    late: float = 0.0
    """Seconds by which a row may appear later than its `created` says."""

    def __str__(self) -> str:
        if not self.arrivals and not self.departures:
            return "quiet"
        return f"{self.arrivals:g}, {self.departures:g}" + (f", {self.late:g} s late" if self.late else "")


CELLS = (Cell(0, 0), Cell(0.02, 0.005), Cell(0.2, 0.05), Cell(1, 1), Cell(0.2, 0.05, late=10))


@define
class MovingList:
    """The sorted rows of a list that changes."""

    order: Order
    entries: list[Entry] = field(factory=list)
    _serial: int = 0

    def add(self, created: int) -> None:
        """Insert a row."""
        self._serial += 1
        number = self._serial
        places = {
            "newest": (-created, -number),
            "oldest": (created, number),
            "hash": ((number * 2654435761) % 2**32, number),
        }
        insort(self.entries, (*places[self.order], created, number))

    def window(self, bounds: TimeWindow | None) -> Sequence[Entry]:
        """Return the rows of a window, bounds included."""
        start, end = bounds or (None, None)
        if start is None and end is None:
            return self.entries
        low, high = -math.inf if start is None else start, math.inf if end is None else end
        if self.order == "hash":
            return [entry for entry in self.entries if low <= entry[2] <= high]
        first, last = (-high, -low) if self.order == "newest" else (low, high)
        begin = bisect_left(self.entries, first, key=lambda entry: entry[0])
        return self.entries[begin : bisect_left(self.entries, last + 1, key=lambda entry: entry[0])]


@define
class NaiveStrategy:
    """Requests one page after another, as many as the first total requires, and keeps every row."""

    limit: int
    guarantee: Guarantee = "best_effort"
    frozen_window: TimeWindow | None = None
    _index: int = 0
    _pages: int = 1
    _waiting: bool = False

    @property
    def done(self) -> bool:
        """Whether the list has been read."""
        return self._index == self._pages

    def next_request(self) -> PageRequest | None:
        """Return the next page, unless one is in flight."""
        if self.done or self._waiting:
            return None
        self._waiting = True
        return PageRequest(self._index)

    def receive(self, request: PageRequest, result: PageResult) -> Sequence[int]:
        """Keep all rows."""
        self._waiting = False
        if request.index == 0:
            self._pages = max(1, -(-(result.totals.items or 0) // self.limit))
        self._index += 1
        return range(result.count)

    def handle_missing_page(self, request: PageRequest) -> bool:  # noqa: ARG002 - the protocol of strategies
        """Treat any missing page as an error."""
        return False


@define
class Result:
    """The walks of one mode in one cell."""

    lost: int = 0
    doubled: int = 0
    runs_with_loss: int = 0
    requests: int = 0
    least: int = 0
    runs: int = 0
    guarantees: dict[Guarantee, int] = field(factory=dict)


@define
class _Request:
    """A request in flight."""

    request: PageRequest
    total: int = 0
    rows: Sequence[Entry] = ()


@define
class Run:
    """One walk over one schedule: a queue of events, in units of time."""

    strategy: WalkStrategy
    rows: MovingList
    cell: Cell
    width: int
    latency: random.Random
    churn: random.Random
    delivered: list[int] = field(factory=list)
    requests: int = 0
    in_flight: int = 0
    now: float = 0.0
    _queue: list[tuple[float, int, str, _Request | None]] = field(factory=list)
    _serial: int = 0

    def walk(self) -> None:
        """Run to the end of the walk."""
        self._draw("arrive", self.cell.arrivals)
        self._draw("depart", self.cell.departures)
        self._send()
        while self.in_flight:
            self.now, _, what, request = heapq.heappop(self._queue)
            if request is not None:
                self._serve(what, request)
            elif what == "arrive":
                late = self.churn.uniform(0, self.cell.late * 1000)
                self.rows.add(START + 1 + int(self.now * UNIT - late))
                self._draw("arrive", self.cell.arrivals)
            else:
                if self.rows.entries:
                    self.rows.entries.pop(self.churn.randrange(len(self.rows.entries)))
                self._draw("depart", self.cell.departures)
        assert self.strategy.done

    def _serve(self, what: str, request: _Request) -> None:
        """Count, read the rows, or pass the response to the strategy."""
        if what == "count":
            request.total = len(self.rows.window(request.request.window))
        elif what == "rows":
            begin = request.request.index * PAGE
            request.rows = self.rows.window(request.request.window)[begin : begin + PAGE]
        else:
            keys = [entry[3] for entry in request.rows]
            totals = PageTotals(request.total, -(-request.total // PAGE), PAGE)
            result = PageResult(keys, keys, totals, [entry[2] for entry in request.rows])
            self.delivered += [keys[position] for position in self.strategy.receive(request.request, result)]
            self.in_flight -= 1
            self._send()

    def _send(self) -> None:
        while self.in_flight < self.width and (wanted := self.strategy.next_request()) is not None:
            self.in_flight += 1
            self.requests += 1
            request = _Request(wanted)
            latency = self.latency.uniform(0.5, 1.5)
            counted = self.now + self.latency.uniform(0, latency - APART)
            self._at(counted, "count", request)
            self._at(counted + APART, "rows", request)
            self._at(self.now + latency, "response", request)

    def _draw(self, what: str, rate: float) -> None:
        if rate:
            self._at(self.now + self.churn.expovariate(rate), what, None)

    def _at(self, moment: float, what: str, request: _Request | None) -> None:
        self._serial += 1
        heapq.heappush(self._queue, (moment, self._serial, what, request))


def create_strategy(mode: Mode, limit: int) -> WalkStrategy:
    """Create the strategy of a mode for a walk that begins at `START`."""
    match mode:
        case "naive":
            return NaiveStrategy(limit)
        case "live":
            return LiveStrategy(limit)
        case "checked":
            return CheckedStrategy(limit, TimeWindow(None, START))
        case "strict":
            return SeekStrategy(limit, TimeWindow(None, START))


def measure(cell: Cell, order: Order, mode: Mode, schedules: int, pages: int) -> Result:
    """Walk all schedules of a cell in one mode."""
    result = Result()
    for number in range(schedules):
        name = f"{SEED}/{order}/{cell}/{number}"
        rows = MovingList(order)
        spread = random.Random(name)
        for _ in range(PAGE * pages - 1):
            rows.add(START - AGE - spread.randrange(SPREAD))
        before = {entry[3] for entry in rows.entries}
        run = Run(
            create_strategy(mode, PAGE),
            rows,
            cell,
            IN_FLIGHT if mode == "checked" else 1,
            random.Random(f"{name}/latency"),
            random.Random(f"{name}/churn"),
        )
        run.walk()
        got = set(run.delivered)
        lost = len((before & {entry[3] for entry in rows.entries}) - got)
        result.lost += lost
        result.runs_with_loss += lost > 0
        result.doubled += len(run.delivered) - len(got)
        result.requests += run.requests
        result.least += max(1, -(-len(before) // PAGE))
        result.runs += 1
        guarantee = run.strategy.guarantee
        result.guarantees[guarantee] = result.guarantees.get(guarantee, 0) + 1
    return result


def run(settings: Settings) -> None:
    """Measure and print."""
    schedules, pages = (1, 4) if settings.quick else (500, 20)
    tasks = list(product(CELLS, ORDERS, MODES))
    with ProcessPoolExecutor() as pool:
        results = pool.map(measure, *zip(*tasks, strict=True), [schedules] * len(tasks), [pages] * len(tasks))
        rows = []
        for (cell, order, mode), result in zip(tasks, results, strict=True):
            guarantees = ", ".join(f"{name} {count}" for name, count in sorted(result.guarantees.items()))
            cells = [
                f"{result.lost:,}",
                f"{result.doubled:,}",
                f"{100 * result.runs_with_loss / result.runs:.1f} %",
                f"{100 * (result.requests / result.least - 1):+.1f} %",
                "" if mode == "naive" else guarantees,
            ]
            rows.append([f"{cell}; {order}; {mode}", *cells])
    columns = ("arrivals, departures; order; mode", "lost", "doubled", "lossy", "requests", "guarantees")
    note = f"{schedules} schedules a line, {pages} pages of {PAGE} rows"
    show(Table("Lists that change during a walk", columns, rows, [note]))
