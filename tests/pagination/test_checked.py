"""The checked strategy, step by step: what leads to each verdict, and what it costs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest

from harness_async.pagination.checked import CheckedStrategy
from harness_async.pagination.source import PageTotals, hash_by
from harness_async.pagination.strategy import PageRequest, PageResult
from harness_async.types import Guarantee, TimeWindow
from tests.support.moving import NOW, MovingList, Order, read

WINDOW = TimeWindow(0, 3000)

Step = tuple[int, PageResult | None]
"""The position of a page, and its result. None is a page that does not exist."""


def page(
    keys: Sequence[int],
    total: int | None = None,
    *,
    pages: int | None = None,
    size: int | None = None,
    times: Sequence[int] | None = None,
) -> PageResult:
    """Make a page of rows with these keys, which are their times too unless others are given."""
    return PageResult(keys, keys, PageTotals(total, pages, size), keys if times is None else times)


def next_requests(strategy: CheckedStrategy, most: int = 100) -> list[PageRequest]:
    """Take all requests that a strategy has now."""
    taken: list[PageRequest] = []
    while len(taken) < most and (request := strategy.next_request()) is not None:
        taken.append(request)
    return taken


def play(strategy: CheckedStrategy, *script: Step) -> list[int]:
    """Respond to the requests in this order; return the keys that were new. No other page may be requested."""
    flights: list[PageRequest] = []
    got: list[int] = []
    for index, result in script:
        flights += next_requests(strategy)
        request = next(request for request in flights if request.index == index)
        flights.remove(request)
        if result is None:
            assert strategy.handle_missing_page(request)
        else:
            keys = result.keys or ()
            got += [keys[position] for position in strategy.receive(request, result)]
    assert not flights
    return got


@pytest.mark.parametrize(
    ("script", "guarantee"),
    [
        ([(0, page([], 0))], "exact"),
        ([(0, page([1], 1))], "exact"),
        ([(0, page([1, 2], 2, pages=1, size=3))], "exact"),
        ([(0, page([1, 2, 3], 3)), (1, page([], 3))], "exact"),
        ([(0, page([1, 2, 3], 3)), (1, None)], "exact"),
        ([(0, page([1, 2], 2, size=2)), (1, page([], 2, size=2))], "exact"),
        ([(0, page([]))], "seek"),
        ([(0, page([], 4))], "best_effort"),
    ],
    ids=[
        "empty", "one", "short", "full, then empty", "full, then missing", "as full as the server clips",
        "empty without total", "empty against the total",
    ],
)  # fmt: skip
def test_lists_of_one_page(script: list[Step], guarantee: Guarantee) -> None:
    """A short page is one atomic read; behind a full one there may be another, whatever the total says."""
    strategy = CheckedStrategy(3, WINDOW)
    play(strategy, *script)
    assert strategy.done
    assert strategy.next_request() is None
    assert (strategy.guarantee, strategy.frozen_window) == (guarantee, WINDOW)


def test_pages_in_any_order_are_exact() -> None:
    """All pages behind the first are requested at once, and equal totals and as many rows prove them."""
    strategy = CheckedStrategy(2, WINDOW)
    assert next_requests(strategy) == [PageRequest(0, WINDOW)]
    strategy.receive(PageRequest(0, WINDOW), page([9, 8], 7))
    flights = [PageRequest(index, WINDOW) for index in (1, 2, 3)]
    assert next_requests(strategy) == flights
    for index, keys in ((3, [3]), (1, [7, 6]), (2, [5, 4])):
        assert not strategy.done
        strategy.receive(flights[index - 1], page(keys, 7))
    assert strategy.done
    assert strategy.guarantee == "exact"


FELL: list[Step] = [(0, page([9, 8], 6)), (1, page([6, 5], 5)), (2, page([4], 5)), (3, page([], 5))]
"""9 departs after the first page: 8 7 | 6 5 | 4, and 7 is never read."""


def test_totals_that_fell_lead_to_a_reverse_pass() -> None:
    """The pages are read once more, from the last to the first, one at a time."""
    strategy = CheckedStrategy(2, WINDOW)
    got = play(strategy, *FELL)
    assert next_requests(strategy) == [PageRequest(2, WINDOW)]
    strategy.receive(PageRequest(2, WINDOW), page([4], 5))
    got += play(strategy, (1, page([6, 5], 5)), (0, page([8, 7], 5)))
    assert got == [9, 8, 6, 5, 4, 7]
    assert strategy.done
    assert (strategy.guarantee, strategy.frozen_window) == ("covered", WINDOW)


@pytest.mark.parametrize(
    "script",
    [
        [(0, page([9, 8], 6)), (1, page([], 2)), (2, page([], 2)), (3, page([], 2)), (0, page([5, 4], 2))],
        [(0, page([9, 8], 3)), (1, page([], 2)), (0, page([9, 8], 2))],
        [(0, page([9, 8], 4)), (1, page([6], 3)), (2, None), (1, page([6], 3)), (0, page([8, 7], 3))],
    ],
    ids=["from the lowest total", "a row departed between count and rows", "a page that does not exist any more"],
)
def test_reverse_passes(script: list[Step]) -> None:
    """A reverse pass that was sorted and brought as many rows as counted is covered."""
    strategy = CheckedStrategy(3 if len(script) == 3 else 2, WINDOW)
    play(strategy, *script)
    assert strategy.done
    assert strategy.guarantee == "covered"


@pytest.mark.parametrize(
    "times",
    [{8: 9, 7: 9, 6: 9, 5: 9}, {8: 5, 7: 9}, {5: 8, 6: 8, 7: 1}],
    ids=["ties", "a later page that is newer", "another order"],
)
def test_a_reverse_pass_needs_a_stable_order(times: dict[int, int]) -> None:
    """Rows of one time may change places, so that a pass over pages proves nothing: the window is sought."""

    def timed(keys: list[int]) -> PageResult:
        return page(keys, 5, times=[times.get(key, key) for key in keys])

    strategy = CheckedStrategy(2, WINDOW)
    play(strategy, *FELL, (2, timed([4])), (1, timed([6, 5])), (0, timed([8, 7])))
    assert strategy.guarantee == "seek"
    assert next_requests(strategy) == [PageRequest(0, WINDOW)]


@pytest.mark.parametrize(("order", "guarantee"), [("oldest", "covered"), ("newest", "best_effort")])
def test_lists_without_a_window(order: Order, guarantee: Guarantee) -> None:
    """Rows that arrive first shift others past the reader of a reverse pass, in a server that ignores the sorting."""
    server = MovingList(order=order, limit=3)
    server.fill(10)
    strategy = CheckedStrategy(3, None)

    def arrive() -> None:
        if server.added < 15:
            server.add(NOW + server.added)

    got = read(server, strategy, arrive)
    assert strategy.guarantee == guarantee
    assert guarantee == "best_effort" or server.steady <= set(got)


FIVE: list[Step] = [(0, page([9, 8], 5)), (1, page([7, 6], 5))]
BACK: list[Step] = [(0, page([9, 8], 5)), (1, page([7, 6], 4)), (2, page([], 4))]


@pytest.mark.parametrize(
    "script",
    [
        [*FIVE, (2, page([5], 6))],
        [*BACK, (1, page([7, 6], 5))],
        [(0, page([9, 8]))],
        [*FIVE, (2, page([5]))],
        [*BACK, (1, page([7, 6])), (0, page([9, 8], 4))],
        [*FIVE, (2, page([6], 5))],
        [*FIVE, (2, page([], 5))],
        [(0, page([9, 8], 1))],
        [*FIVE, (2, None)],
        [*BACK, (1, None), (0, page([9, 8], 4))],
        [*BACK, (1, page([7], 4)), (0, page([9, 8], 4))],
    ],
    ids=[
        "the total rose", "it rose on the way back", "no total", "a total is missing",
        "a total is missing on the way back", "a row twice, so one is missing", "a row too few", "too many rows",
        "a page is missing", "a page is missing on the way back", "a row too few on the way back",
    ],
)  # fmt: skip
def test_what_cannot_be_proved_is_sought(script: list[Step]) -> None:
    """Where totals or rows contradict a frozen list, the window is read once more without counting."""
    strategy = CheckedStrategy(2, WINDOW)
    play(strategy, *script)
    assert (strategy.guarantee, strategy.frozen_window) == ("seek", WINDOW)
    (request,) = next_requests(strategy)
    assert request.window is not None


def test_a_total_that_rose() -> None:
    """No further page of a pass that can prove nothing is requested; seeking waits for those in flight."""
    strategy = CheckedStrategy(2, WINDOW)
    strategy.receive(strategy.next_request() or PageRequest(9), page([9, 8], 20))
    one, two = next_requests(strategy, 2)
    strategy.receive(one, page([7, 6], 21))
    assert strategy.next_request() is None
    strategy.receive(two, page([5, 4], 21))
    assert strategy.next_request() == PageRequest(0, WINDOW)


@pytest.mark.parametrize(
    ("first", "guarantee"),
    [(page([1, 2], 2), "exact"), (page([1, 2, 3], 3), "seek"), (page([1, 2], 3), "seek"), (page([1, 2, 3], 9), "seek")],
    ids=["part of a page", "a full page", "a row missing", "several pages"],
)
@pytest.mark.parametrize("volatile", [True, False], ids=["filtered", "unfrozen"])
def test_windows_that_rows_may_enter_are_sought(first: PageResult, guarantee: Guarantee, volatile: bool) -> None:
    """With a status filter, or an end in the future, only a short page proves itself; the first is not read again."""
    strategy = CheckedStrategy(3, WINDOW, volatile=volatile, frozen=volatile)
    play(strategy, (0, first))
    assert strategy.done is (guarantee == "exact")
    assert strategy.guarantee == guarantee
    assert strategy.next_request() != PageRequest(0, WINDOW)


OUTSIDE = page([9, 4000], 5)


@pytest.mark.parametrize(
    "script",
    [
        [(0, OUTSIDE)],
        [(0, page([9, 8], 5)), (2, OUTSIDE), (1, page([7, 6], 5))],
        [(0, page([9, 8], 5)), (2, OUTSIDE), (1, None)],
        [*BACK, (1, OUTSIDE)],
        [(0, page([9, 8])), (0, OUTSIDE)],
    ],
    ids=["at first", "in the pass", "in the pass, and a page is missing", "on the way back", "while seeking"],
)
def test_rows_outside_the_window_end_the_freeze(script: list[Step]) -> None:
    """Such rows are delivered whenever they come, and the list is read as by `live`, without the window."""
    strategy = CheckedStrategy(2, WINDOW)
    got = play(strategy, *script)
    assert 4000 in got
    got += play(strategy, (0, page([9, 8], 5)), (1, page([4000, 6], 5)), (2, page([5], 5)))
    assert sorted(got) == sorted(set(got))
    assert {9, 8, 6, 5, 4000} <= set(got)
    assert strategy.done
    assert (strategy.guarantee, strategy.frozen_window) == ("best_effort", None)


@pytest.mark.parametrize("script", [[], [(0, page([9, 8], 5)), (1, None), (2, None)]], ids=["at first", "later"])
def test_a_missing_first_page_is_an_error(script: list[Step]) -> None:
    """A list whose first page is missing does not exist, or not any more."""
    strategy = CheckedStrategy(2, WINDOW)
    play(strategy, *script)
    assert next_requests(strategy) == [PageRequest(0, WINDOW)]
    assert not strategy.handle_missing_page(PageRequest(0, WINDOW))


def test_a_walk_remembers_a_row_in_120_bytes() -> None:
    """The keys of a hundred thousand rows, as the API has them, cost at most 120 bytes each."""
    count, limit = 100_000, 100
    strategy = CheckedStrategy(limit, TimeWindow(None, NOW))
    hash_each = hash_by(lambda key: key)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        while (request := strategy.next_request()) is not None:
            numbers = range(count)[request.index * limit : (request.index + 1) * limit]
            hashes = hash_each([(f"execution-{number:012}", f"stage-{number:016}") for number in numbers])
            strategy.receive(request, PageResult((), hashes, PageTotals(count), [NOW - number for number in numbers]))
            del hashes
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert strategy.guarantee == "exact"
    assert len(strategy.seen) == count
    assert used <= 120 * count
