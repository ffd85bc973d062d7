"""Laws of all strategies, on lists that move while they are read and on servers that are wrong about them.

1. No row comes twice. `exact`, `covered` and `seek` mean that every row that stayed in the list was delivered.
2. A list at rest is read as a whole, and a correct server is believed.
3. The requests are bounded by the pages.
4. `live` loses nothing to departures alone or to arrivals alone, where totals are true.
"""

from __future__ import annotations

import random
from typing import Literal, TypeAlias

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async import PaginationError
from harness_async.pagination.checked import CheckedStrategy
from harness_async.pagination.seek import OutsideWindowError, SeekStrategy
from harness_async.pagination.strategy import LiveStrategy, WalkStrategy
from harness_async.types import Guarantee
from tests.support.moving import NOW, WINDOW, Filter, MovingList, Order, Pages, PastEnd, Totals, read

Kind: TypeAlias = Literal["live", "checked", "filtered", "unfrozen", "stable", "strict"]

TRUE: set[Totals] = {"true", "items", "pages", "limit pages", "none"}

BELIEVED: dict[Kind, set[Guarantee]] = {
    "live": {"live"},
    "checked": {"exact"},
    "filtered": {"exact", "seek"},
    "unfrozen": {"exact", "seek"},
    "stable": {"exact", "covered", "best_effort"},
    "strict": {"seek"},
}


@frozen
class World:
    """A server, the events of each step, and the strategy that reads it."""

    kind: Kind
    order: Order
    totals: Totals
    filter: Filter
    pages: Pages
    past_end: PastEnd
    limit: int
    clip: int
    rows: int
    spread: int
    """Milliseconds over which the rows are spread."""

    touched: float
    """The share of rows that changed after they were created."""

    width: int
    split: bool
    depart: float
    arrive: float
    late: float
    """Rows that appear inside the window."""

    change: float
    """Rows that change: they move where rows are sorted by change, and a status filter hides or shows them."""

    seed: int

    @property
    def is_quiet(self) -> bool:
        return not (self.depart or self.arrive or self.late or self.change)

    @property
    def is_paged(self) -> bool:
        return self.pages == "numbered" and self.filter != "ignored"

    @property
    def is_sorted(self) -> bool:
        return self.order != "random ties" and not (self.order == "updated" and self.change)

    @property
    def is_crowded(self) -> bool:
        """Whether a millisecond may have more rows than a page."""
        return self.spread < self.limit or (self.spread < 900_000 and min(self.limit, self.clip) == 2)

    @property
    def is_knowable(self) -> bool:
        """Whether a client can notice what is wrong."""
        if self.kind == "checked" and self.late and (self.depart or self.change or self.split):
            return False  # a late row hides a departure, or takes the place of a row that was counted
        if self.is_crowded and (self.late or self.change) and (self.depart or self.change):
            return False  # the same, among the rows of a millisecond, which are read by pages
        if self.order == "updated" and (self.late or self.change) and self.kind not in {"live", "stable"}:
            return False  # a late row takes the place of a skipped one in a list that looks sorted by age
        if self.totals == "random" and self.pages == "shuffled":
            return False  # anything happens by chance
        if self.clip < self.limit and not (self.totals == "true" or (self.totals in TRUE and self.is_quiet)):
            return False  # pages that are cut short in silence look like the end
        return self.totals in TRUE or self.is_quiet

    def read(self) -> tuple[MovingList, WalkStrategy, list[int] | None]:
        """Read the list; None where the walk fails."""
        rng = random.Random(self.seed)
        server = MovingList(self.order, self.totals, self.filter, self.pages, self.past_end, self.limit, self.clip, rng)
        for _ in range(self.rows):
            row = server.add(NOW - 1 - rng.randrange(self.spread))
            if rng.random() < self.touched:
                row.updated = NOW - rng.randrange(900_000)
        steps = 40  # then it is quiet, or no walk would end

        def happen() -> None:
            nonlocal steps
            steps -= 1
            for name in ("depart", "arrive", "late", "change") if steps > 0 else ():
                rate = getattr(self, name)
                for _ in range(int(rate) + (rng.random() < rate % 1)):
                    self._move(server, name, rng)

        strategy = self._create()
        try:
            return server, strategy, read(server, strategy, happen, width=self.width, split=self.split)
        except (PaginationError, OutsideWindowError):
            return server, strategy, None

    def _move(self, server: MovingList, name: str, rng: random.Random) -> None:
        if name == "arrive":
            server.now += 5000
            server.add(server.now)
        elif name == "late":
            server.add(NOW - 1 - rng.randrange(self.spread))
        elif server.rows and name == "depart":
            server.remove(rng.choice(server.rows))
        elif server.rows:
            row = rng.choice(server.rows)
            server.change(row, accepted=self.kind not in {"filtered", "strict"} or not row.accepted)

    def _create(self) -> WalkStrategy:
        match self.kind:
            case "live":
                return LiveStrategy(self.limit)
            case "strict":
                return SeekStrategy(self.limit, WINDOW)
            case "stable":
                return CheckedStrategy(self.limit, None)
        return CheckedStrategy(self.limit, WINDOW, volatile=self.kind == "filtered", frozen=self.kind != "unfrozen")


def rates(*values: float) -> st.SearchStrategy[float]:
    return st.sampled_from([0.0, 0.0, *values])


def worlds(kind: Kind) -> st.SearchStrategy[World]:
    return st.builds(
        World,
        kind=st.just(kind),
        order=st.sampled_from(["newest", "oldest", "updated", "hash", "random ties"]),
        totals=st.sampled_from(
            [*sorted(TRUE), "of the page", "zero", "one more", "half", "triple", "absurd", "random"]
        ),
        filter=st.sampled_from(["inclusive", "inclusive", "exclusive", "ignored"]),
        pages=st.sampled_from(["numbered", "numbered", "numbered", "numbered", "same", "shuffled"]),
        past_end=st.sampled_from(["empty", "missing"]),
        limit=st.sampled_from([2, 3, 5, 12]),
        clip=st.sampled_from([1000, 1000, 1000, 2, 7]),
        rows=st.integers(0, 60),
        spread=st.sampled_from([900_000, 40, 3]),
        touched=st.sampled_from([0.03, 1.0]),
        width=st.sampled_from([1, 4]),
        split=st.booleans(),
        depart=rates(0.05, 0.5, 2.0),
        arrive=rates(0.5),
        late=st.just(0.0) if kind == "stable" else rates(0.5),
        change=rates(0.05, 0.5),
        seed=st.integers(0, 2**32),
    ).filter(lambda world: world.is_knowable)


def check(world: World) -> None:
    server, strategy, got = world.read()
    pages = server.added // min(world.limit, world.clip) + 1
    assert server.requests <= (10 * pages if world.is_paged else 20 * pages + 150)
    if got is None:
        assert not (world.is_paged and world.is_quiet)
        return
    assert len(got) == len(set(got))
    lost = server.steady - set(got)
    if strategy.guarantee in {"exact", "covered", "seek"}:
        assert not lost, f"lost {lost}, said {strategy.guarantee}"
    if not (world.is_paged and world.is_sorted):
        return
    has_total = world.totals in {"true", "items", "limit pages"}
    if world.is_quiet:
        assert not lost
        if world.totals == "true" and world.spread > 40:  # else a millisecond has more rows than a page
            assert strategy.guarantee in BELIEVED[world.kind]
        if has_total and world.kind in {"live", "checked"}:
            assert server.requests <= pages
    elif world.kind == "live" and has_total and not (world.split or world.change):
        assert not lost or (world.depart and (world.arrive or world.late))


@pytest.mark.parametrize("kind", BELIEVED)
@given(data=st.data())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_laws(kind: Kind, data: st.DataObject) -> None:
    """The four laws hold for every strategy."""
    check(data.draw(worlds(kind)))
