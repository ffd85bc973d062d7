"""Lists that move: what checked and strict guarantee, whatever happens between two requests.

The invariants, with L0 the window at the first count, S the rows that were in it all the time, C what was delivered:
I1 a verdict of exact, covered or seek means that C has all of S. I2 nothing comes twice. I3 what is delivered was in
L0. I4 exact means C = L0. I5 a quiet list is exact at the least cost. I6 the requests are bounded. I7 no more pages
are under way than asked for. I8 a total that rose is never exact or covered. I9 ties in random order are never called
exact unless they are. I10 strict holds I1 and I2 with arrivals at any time and either meaning of the bounds.
"""

from __future__ import annotations

import random
from typing import ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from harness_async import PaginationError
from harness_async.pagination.checked import CheckedStrategy
from harness_async.pagination.seek import SeekStrategy
from harness_async.types import TimeWindow
from tests.support.moving import NOW, Family, Filter, MovingList, Order, Request

ORDERS: list[Order] = ["newest", "oldest", "hash"]
FAMILIES: list[Family] = ["iacm", "v1", "none"]
FILTERS: list[Filter] = ["inclusive", "exclusive"]


def make(kind: str, server: MovingList, *, volatile: bool = False) -> CheckedStrategy | SeekStrategy:
    window = TimeWindow(None, NOW)
    if kind == "checked":
        return CheckedStrategy(server.limit, window, volatile=volatile)
    return SeekStrategy(server.limit, window)


def fill(server: MovingList, count: int, rng: random.Random, spread: int = 900_000) -> None:
    for _ in range(count):
        server.add(NOW - 1 - rng.randrange(spread))


def least_requests(rows: int, limit: int) -> int:
    """Return the requests of a list at rest: only an empty or a short page is its end."""
    return rows // limit + 1


class Reading(RuleBasedStateMachine):
    """A list read by a machine while rows arrive and go away, requests answered in any order."""

    kind: ClassVar[str]
    width: ClassVar[int]
    late: ClassVar[bool]
    """Whether rows may arrive inside the window: what strict allows and checked must notice."""

    @initialize(
        order=st.sampled_from(ORDERS),
        family=st.sampled_from(FAMILIES),
        filtering=st.sampled_from(FILTERS),
        limit=st.sampled_from([2, 3, 5, 12]),
        rows=st.integers(0, 60),
        ties=st.sampled_from([900_000, 40, 3]),
        seed=st.integers(0, 2**32),
    )
    def begin(
        self, order: Order, family: Family, filtering: Filter, limit: int, rows: int, ties: int, seed: int
    ) -> None:
        self.rng = random.Random(seed)
        self.server = MovingList(order=order, family=family, filter=filtering, limit=limit)
        fill(self.server, rows, self.rng, ties)
        self.moments = [row.created for row in self.server.rows]
        self.machine = make(self.kind, self.server)
        self.open: list[Request] = []
        self.delivered: list[int] = []
        self.first: set[int] | None = None
        self.stable: set[int] = set()
        self.quiet = True
        self.given_up = False
        self._ask()

    def _ask(self) -> None:
        while len(self.open) < self.width and (request := self.machine.next_request()) is not None:
            self.open.append(Request(request))

    def _note_count(self) -> None:
        if self.first is None:
            self.first = {row.number for row in self.server.rows}
            self.stable = set(self.first)

    @precondition(lambda self: any(not request.counted for request in self.open))
    @rule(data=st.data())
    def count(self, data: st.DataObject) -> None:
        """The server counts for a request, before it takes the rows."""
        self._note_count()
        self.server.count(data.draw(st.sampled_from([request for request in self.open if not request.counted])))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """The server answers one of the requests under way."""
        self._note_count()
        request = data.draw(st.sampled_from(self.open))
        self.open.remove(request)
        self._take(request)

    def _take(self, request: Request) -> None:
        result = self.server.answer(request)
        try:
            new_rows = self.machine.receive(request.request, result)
        except PaginationError:
            # Arrivals that push a page of one moment back again and again look like a server that ignores the page.
            assert self.crowded()
            self.given_up = True
            self.open.clear()
            return
        self.delivered.extend((result.keys or ())[position] for position in new_rows)
        self._ask()

    @precondition(lambda self: self.server.rows and not self.machine.done)
    @rule(data=st.data())
    def depart(self, data: st.DataObject) -> None:
        """A row goes away."""
        row = data.draw(st.sampled_from(self.server.rows))
        self.server.rows.remove(row)
        self.stable.discard(row.number)
        if self.first is not None and row.number in self.first:
            self.quiet = False

    @rule(ago=st.integers(0, 900_000))
    def arrive(self, ago: int) -> None:
        """A row arrives: younger than the window's end, or, where that is allowed, anywhere."""
        if self.first is None or self.machine.done:
            return
        self.server.now += 5000
        self.moments.append(self.server.add(NOW - ago if self.late else self.server.now).created)
        if self.late:
            self.quiet = False

    @invariant()
    def nothing_twice(self) -> None:
        """I2."""
        if hasattr(self, "delivered"):
            assert len(self.delivered) == len(set(self.delivered))

    @invariant()
    def bounded(self) -> None:
        """I6, generously: no walk goes on for ever."""
        if hasattr(self, "server"):
            assert self.server.requests < 20 * (len(self.server.rows) + 20)

    @invariant()
    def action(self) -> None:
        """I1, I3, I4, I5."""
        if not hasattr(self, "machine") or not self.machine.done or self.open:
            return
        assert self.first is not None
        got = set(self.delivered)
        if self.machine.guarantee == "best_effort":
            # More rows of one moment than a page; too few to see an order, and no total; a total that moved meanwhile.
            assert self.crowded() or self.server.family == "none" or not self.quiet
            return
        assert self.machine.guarantee in {"exact", "covered", "seek"}
        if self.crowded() and self.late:
            return  # pages of one moment are counted after all: an arrival can hide a departure there
        if self.late and self.kind == "checked" and len(self.first) == self.server.limit:
            return  # one full page: a late row between its count and its rows pushes one out, and no other page tells
        assert self.stable <= got, f"lost {self.stable - got} with {self.machine.guarantee}"
        if not self.late:
            assert got <= self.first, "delivered what was not in the window"
        if self.machine.guarantee == "exact":
            assert got == self.first
        if self.quiet and self.kind == "checked" and self.server.family != "none":
            assert self.machine.guarantee == "exact"
            assert self.server.requests == least_requests(len(self.first), self.server.limit)

    def crowded(self) -> bool:
        """Whether some moment had more rows than a page holds."""
        moments = sorted(self.moments)
        size = self.server.limit
        return any(late - early <= 3 for early, late in zip(moments, moments[size - 1 :], strict=False))

    def teardown(self) -> None:
        """Let the reading come to its end, and judge that."""
        while hasattr(self, "open") and self.open:
            self._note_count()
            self._take(self.open.pop(0))
            self.bounded()
        if hasattr(self, "machine") and not self.given_up:
            assert self.machine.done
            self.action()
            self.nothing_twice()


class Checked(Reading):
    """Checked, rows under way together, arrivals younger than the end."""

    kind, width, late = "checked", 4, False


class CheckedLate(Reading):
    """Checked, with rows that appear late inside the window: a total that rose is never called exact or covered.

    Rows that go away at the same time could hide the rise; only strict sees through that.
    """

    kind, width, late = "checked", 3, True

    @precondition(lambda _: False)
    @rule()
    def depart(self) -> None:
        """Nothing goes away."""


class Strict(Reading):
    """Strict, with arrivals at any time: I10."""

    kind, width, late = "strict", 1, True


TestChecked = Checked.TestCase
TestCheckedLate = CheckedLate.TestCase
TestStrict = Strict.TestCase
for _case, _examples in ((TestChecked, 80), (TestCheckedLate, 50), (TestStrict, 80)):
    _case.settings = settings(max_examples=_examples, stateful_step_count=40, deadline=None)
del _case
