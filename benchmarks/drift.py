"""What lists that move cost and lose: naive paging beside live, checked and strict, over random schedules.

Virtual time and no network: the machines are driven as the client drives them, against a list held in memory. The
model: *pages* full pages of rows spread evenly over the 9,000 s that end a minute before the walk begins. One unit of
time is the mean latency of a request, taken to be 300 ms. Rows arrive, created now, and random rows go away, both as
Poisson processes with so many events a unit. A request takes 0.5 to 1.5 units; at a random moment of it the server
counts, and takes the rows 0.03 units later. Each schedule has a seed of its own, and every mode meets the same ones.

Naive is what most scripts do: the number of pages is computed from the first total, and they are asked for one after
another, of a list that is open at its end; what comes is kept as it comes. Live and strict have one request under
way, checked as many as `--in-flight`.

A row is lost if it was in the list from the beginning of the walk to its end and was not delivered; it is doubled
each time it was delivered again. Lossy is the share of runs with loss. The requests are set against those that the
first total asks for.

python benchmarks/drift.py [--schedules 500] [--seed 1] [--page 50] [--pages 20] [--in-flight 8]
"""

from __future__ import annotations

import argparse
import heapq
import math
import os
import platform
import random
import time
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Literal, TypeAlias

from attrs import define, field, frozen

from harness_async.pagination.checked import CheckedStrategy
from harness_async.pagination.seek import SeekStrategy
from harness_async.pagination.source import PageTotals
from harness_async.pagination.strategy import LiveStrategy, PageRequest, PageResult, WalkStrategy
from harness_async.types import Guarantee, TimeWindow

Order: TypeAlias = Literal["newest", "oldest", "hash"]
Mode: TypeAlias = Literal["naive", "live", "checked", "strict"]
Entry: TypeAlias = tuple[int, int, int, int]
"""A row: its place in two numbers, its `created`, its identity."""

ORDERS: tuple[Order, ...] = ("newest", "oldest", "hash")
MODES: tuple[Mode, ...] = ("naive", "live", "checked", "strict")

UNIT = 300
"""Milliseconds of a mean latency."""

START = 10_000_000
"""The server's clock when a walk begins, in milliseconds: the end of a frozen window."""

SPREAD, AGE = 9_000_000, 60_000
"""Milliseconds over which the rows are spread, and the age of the youngest."""

APART = 0.03
"""Units between the count and the rows of one reply."""


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


@frozen
class Settings:
    """What holds for all cells."""

    schedules: int
    seed: int
    page: int
    pages: int
    in_flight: int


@define
class MovingList:
    """The rows, kept sorted, and the pages of a window of them."""

    order: Order
    entries: list[Entry] = field(factory=list)
    _serial: int = 0

    def add(self, created: int) -> int:
        """Put a row where it belongs and give its identity."""
        self._serial += 1
        number = self._serial
        places = {
            "newest": (-created, -number),
            "oldest": (created, number),
            "hash": ((number * 2654435761) % 2**32, number),
        }
        insort(self.entries, (*places[self.order], created, number))
        return number

    def window(self, bounds: TimeWindow | None) -> Sequence[Entry]:
        """List the rows of a window, its bounds among them."""
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
    """Pages one after another, as many as the first total says; nothing frozen, nothing compared."""

    limit: int
    guarantee: Guarantee = "best_effort"
    frozen_window: TimeWindow | None = None
    _index: int = 0
    _pages: int = 1
    _asked: bool = False

    @property
    def done(self) -> bool:
        """Whether the list has been read."""
        return self._index == self._pages

    def next_request(self) -> PageRequest | None:
        """Give the next page, unless one is under way."""
        if self.done or self._asked:
            return None
        self._asked = True
        return PageRequest(self._index)

    def receive(self, request: PageRequest, result: PageResult) -> Sequence[int]:
        """Take all rows as they come."""
        self._asked = False
        if request.index == 0:
            self._pages = max(1, -(-(result.totals.items or 0) // self.limit))
        self._index += 1
        return range(result.count)

    def handle_missing_page(self, request: PageRequest) -> bool:  # noqa: ARG002 - the machines' common interface
        """Take any refusal for an error."""
        return False


@define
class Result:
    """What the runs of one mode in one cell came to."""

    lost: int = 0
    doubled: int = 0
    runs_with_loss: int = 0
    requests: int = 0
    least: int = 0
    runs: int = 0
    guarantees: dict[Guarantee, int] = field(factory=dict)


@define
class _Request:
    request: PageRequest
    total: int = 0
    rows: Sequence[Entry] = ()


@define
class Run:
    """One walk over one schedule: a queue of what happens when, in units of time."""

    machine: WalkStrategy
    rows: MovingList
    cell: Cell
    width: int
    page: int
    latency: random.Random
    churn: random.Random
    delivered: list[int] = field(factory=list)
    requests: int = 0
    under_way: int = 0
    now: float = 0.0
    _queue: list[tuple[float, int, str, _Request | None]] = field(factory=list)
    _serial: int = 0

    def walk(self) -> None:
        """Run to the end of the walk."""
        self._draw("arrive", self.cell.arrivals)
        self._draw("depart", self.cell.departures)
        self._ask()
        while self.under_way:
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
        assert self.machine.done

    def _serve(self, what: str, request: _Request) -> None:
        """Count, take the rows, or hand the reply over."""
        if what == "count":
            request.total = len(self.rows.window(request.request.window))
        elif what == "rows":
            begin = request.request.index * self.page
            request.rows = self.rows.window(request.request.window)[begin : begin + self.page]
        else:
            keys = [entry[3] for entry in request.rows]
            totals = PageTotals(request.total, -(-request.total // self.page), self.page)
            result = PageResult(keys, keys, totals, [entry[2] for entry in request.rows])
            self.delivered += [keys[position] for position in self.machine.receive(request.request, result)]
            self.under_way -= 1
            self._ask()

    def _ask(self) -> None:
        while self.under_way < self.width and (wanted := self.machine.next_request()) is not None:
            self.under_way += 1
            self.requests += 1
            request = _Request(wanted)
            latency = self.latency.uniform(0.5, 1.5)
            counted = self.now + self.latency.uniform(0, latency - APART)
            self._at(counted, "count", request)
            self._at(counted + APART, "rows", request)
            self._at(self.now + latency, "reply", request)

    def _draw(self, what: str, rate: float) -> None:
        if rate:
            self._at(self.now + self.churn.expovariate(rate), what, None)

    def _at(self, moment: float, what: str, request: _Request | None) -> None:
        self._serial += 1
        heapq.heappush(self._queue, (moment, self._serial, what, request))


def make_machine(mode: Mode, limit: int) -> WalkStrategy:
    """Make the machine of a mode, as a client does that was asked for it at `START`."""
    match mode:
        case "naive":
            return NaiveStrategy(limit)
        case "live":
            return LiveStrategy(limit)
        case "checked":
            return CheckedStrategy(limit, TimeWindow(None, START))
        case "strict":
            return SeekStrategy(limit, TimeWindow(None, START))


def measure(mode: Mode, order: Order, cell: Cell, settings: Settings) -> Result:
    """Walk all schedules of a cell in one mode."""
    result = Result()
    for number in range(settings.schedules):
        name = f"{settings.seed}/{order}/{cell}/{number}"
        rows = MovingList(order)
        spread = random.Random(name)
        for _ in range(settings.page * settings.pages):
            rows.add(START - AGE - spread.randrange(SPREAD))
        before = {entry[3] for entry in rows.entries}
        run = Run(
            make_machine(mode, settings.page),
            rows,
            cell,
            settings.in_flight if mode == "checked" else 1,
            settings.page,
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
        result.least += max(1, -(-len(before) // settings.page))
        result.runs += 1
        guarantee = run.machine.guarantee
        result.guarantees[guarantee] = result.guarantees.get(guarantee, 0) + 1
    return result


def measure_all(settings: Settings, jobs: int) -> Iterator[tuple[Cell, Order, Mode, Result]]:
    """Measure every cell, order and mode, several at a time, in the order in which they are printed."""
    tasks = list(product(CELLS, ORDERS, MODES))
    with ProcessPoolExecutor(jobs) as pool:
        futures = [pool.submit(measure, mode, order, cell, settings) for cell, order, mode in tasks]
        for (cell, order, mode), future in zip(tasks, futures, strict=True):
            yield cell, order, mode, future.result()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, as the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=500, help="random schedules for each line of the table")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--page", type=int, default=50, help="rows of a page")
    parser.add_argument("--pages", type=int, default=20, help="pages of the list")
    parser.add_argument("--in-flight", type=int, default=8, help="requests under way in checked")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = vars(parser.parse_args(arguments))
    jobs = options.pop("jobs")
    settings = Settings(**options)
    began = time.perf_counter()
    print(
        f"Python {platform.python_version()}; {settings.schedules} schedules a line, seed {settings.seed}; "
        f"{settings.pages} pages of {settings.page}; {settings.in_flight} requests under way in checked, else 1; "
        f"count and rows {APART} apart; {time.strftime('%Y-%m-%d')}"
    )
    print(f"{'arrivals, departures':22} order   mode        lost  doubled   lossy  requests  verdicts")
    for cell, order, mode, result in measure_all(settings, jobs):
        share = f"{100 * result.runs_with_loss / result.runs:.1f} %"
        over = f"{100 * (result.requests / result.least - 1):+.1f} %"
        said = ", ".join(f"{name} {count}" for name, count in sorted(result.guarantees.items()))
        print(
            f"{cell!s:22} {order:7} {mode:8} {result.lost:7} {result.doubled:8} {share:>7} {over:>9}"
            + ("" if mode == "naive" else f"  {said}")
        )
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
