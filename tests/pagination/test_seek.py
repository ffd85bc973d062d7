"""The seek strategy, step by step: how an order is detected and verified, where a window is divided and ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness_async import PaginationError
from harness_async.pagination.seek import MAX_REPEATS, MIN_DISTINCT_TIMES, BoundaryKeys, SeekStrategy
from harness_async.pagination.source import PageTotals
from harness_async.pagination.strategy import PageRequest, PageResult
from harness_async.types import Guarantee, TimeWindow
from tests.support.moving import NOW, MovingList, Order, Totals, read

WINDOW = TimeWindow(0, 1000)

MOMENT = TimeWindow(4, 6)
"""A window that is too small to be divided."""

NEWEST = tuple(range(110, 90, -2))
"""Times of a full page of ten, newest first: as many as it takes to believe in an order."""

SAME = (5, 5, 5)


def page(
    times: Sequence[int], *, total: int | None = None, size: int | None = None, keys: Sequence[int] | None = None
) -> PageResult:
    """Make a page of rows with these times, which are their keys too unless others are given."""
    keys = times if keys is None else keys
    return PageResult((), keys, PageTotals(items=total, size=size), times)


def receive(strategy: SeekStrategy, *results: PageResult) -> list[int]:
    """Respond to the next requests, and return the keys that were new."""
    got: list[int] = []
    for result in results:
        request = strategy.next_request()
        assert request is not None
        got += [(result.keys or ())[position] for position in strategy.receive(request, result)]
    return got


def next_window(strategy: SeekStrategy) -> TimeWindow | None:
    request = strategy.next_request()
    assert request is not None
    return request.window if request.index == 0 else None


@pytest.mark.parametrize("distinct", [MIN_DISTINCT_TIMES - 1, MIN_DISTINCT_TIMES])
def test_an_order_needs_evidence(distinct: int) -> None:
    """A window is divided at its median unless its first page has enough different times in one order."""
    times = list(range(100, 100 - 2 * distinct, -2))
    strategy = SeekStrategy(distinct, WINDOW)
    receive(strategy, page(times, total=50))
    median = sorted(times)[(distinct - 1) // 2]
    assert next_window(strategy) == ((median, 1000) if distinct < MIN_DISTINCT_TIMES else (0, times[-1] + 1))


@pytest.mark.parametrize(
    ("times", "total", "expected"),
    [
        (NEWEST, 50, (0, 93)),
        ((*NEWEST[:8], 93, 92), 50, (0, 94)),
        (NEWEST, None, (0, 94)),
        (NEWEST[::-1], 50, (109, 1000)),
        (NEWEST[::-1], None, (108, 1000)),
        (range(110, 100, -1), 50, (105, 1000)),
    ],
    ids=["newest", "with a row beside the last", "without totals", "oldest", "oldest without totals", "too dense"],
)
def test_the_bound_moves_to_the_last_row(times: Sequence[int], total: int | None, expected: TimeWindow) -> None:
    """The next window includes the last row, whether bounds are inclusive or not, and has no row at its bound."""
    strategy = SeekStrategy(10, WINDOW)
    receive(strategy, page(times, total=total))
    assert next_window(strategy) == expected


OLDER = tuple(range(92, 72, -2))


@pytest.mark.parametrize(("total", "is_verified"), [(41, True), (40, False), (42, False), (None, False)])
def test_gaps_are_verified(total: int | None, is_verified: bool) -> None:
    """A total that is not that of the window before, less the rows between, shows that rows may have been skipped."""
    strategy = SeekStrategy(10, WINDOW)
    receive(strategy, page(NEWEST, total=50), page(OLDER, total=total))
    window = next_window(strategy)
    assert window == ((0, 75) if is_verified else (92, 1000))


def test_a_page_out_of_order() -> None:
    """A list that was sorted and is not any more is bisected from there on."""
    strategy = SeekStrategy(10, WINDOW)
    receive(strategy, page(NEWEST, total=50), page([92, 30, 50, 20, 70, 10, 80, 40, 60, 25], total=41))
    assert next_window(strategy) == (40, 93)


@pytest.mark.parametrize("totals", ["true", "items", "none", "of the page"])
@pytest.mark.parametrize("rows", [150, 1000])
def test_an_old_row_at_the_end_of_a_page(rows: int, totals: Totals) -> None:
    """A quiet list that is sorted by last change is read as a whole, although its first page looks sorted by age."""
    server = MovingList(order="updated", totals=totals, limit=100)
    server.fill(rows)
    server.rows[-1].updated = server.rows[98].updated - 1
    strategy = SeekStrategy(100, TimeWindow(None, NOW))
    assert len(read(server, strategy)) == rows
    assert strategy.guarantee == "seek"
    assert server.requests <= 5 * (rows // 100 + 1)


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_cost_of_a_sorted_list(order: Order) -> None:
    """Where the order is seen, one row in a hundred is read twice, and only the keys at the bound are kept."""
    server = MovingList(order=order, limit=100)
    server.fill(5000, apart=10)
    strategy = SeekStrategy(100, TimeWindow(None, NOW))
    held = []

    def note() -> None:
        assert isinstance(strategy.seen, BoundaryKeys)
        held.append(len(strategy.seen._times))

    assert len(read(server, strategy, note)) == 5000
    assert server.requests == -(-5000 // 99)
    assert max(held) <= 200


@pytest.mark.parametrize(
    ("result", "done"),
    [
        (page([]), True),
        (page([], total=7), True),
        (page([3, 2], total=2), True),
        (page([3, 2], total=1), False),
        (page([3, 2], total=5), False),
        (page([3, 2]), False),
        (page([3, 2], size=2), False),
        (page([3, 2], total=2, size=2), False),
        (page([3], total=1, size=2), True),
        (page([3], size=2), True),
        (page(NEWEST, total=10), False),
        (page(NEWEST, total=3), False),
        (page(NEWEST), False),
    ],
    ids=[
        "empty", "empty against the total", "short as counted", "short and more than counted", "short of the total",
        "short without total", "full as the server clips", "full as counted", "short of the clip", "clip alone",
        "full as counted once", "full and more than counted", "full without total",
    ],
)  # fmt: skip
def test_first_pages_that_end_a_list(result: PageResult, done: bool) -> None:
    """Only a page that is not full ends a window, and only if neither a total nor a clipped size contradicts it."""
    strategy = SeekStrategy(10, WINDOW)
    receive(strategy, result)
    assert strategy.done is done
    assert (strategy.next_request() is None) is done


def test_missing_pages() -> None:
    """A page that does not exist shows where a window ends; where it is the first, the list does not exist."""
    strategy = SeekStrategy(3, MOMENT)
    assert strategy.next_request() == (first := PageRequest(0, MOMENT))
    assert not strategy.handle_missing_page(first)
    receive(strategy, page(SAME, keys=[1, 2, 3], total=3))
    assert strategy.next_request() == (second := PageRequest(1, MOMENT))
    assert strategy.handle_missing_page(second)
    assert strategy.done


@pytest.mark.parametrize(
    ("results", "guarantee"),
    [
        ([page(SAME, keys=[1, 2, 3], total=5), page([5, 5], keys=[4, 5], total=5)], "seek"),
        ([page(SAME, keys=[1, 2, 3], total=5), page([5, 5], keys=[4, 5], total=4)], "best_effort"),
        ([page(SAME, keys=[1, 2, 3], total=5), page([5, 5], keys=[4, 5], total=6)], "best_effort"),
        ([page(SAME, keys=[1, 2, 3], total=5), page([5, 5], keys=[4, 5])], "best_effort"),
        ([page(SAME, keys=[1, 2, 3]), page([5, 5], keys=[4, 5])], "best_effort"),
        ([page(SAME, keys=[1, 2, 3], total=4), page([], total=4)], "best_effort"),
        ([page([5, 5], keys=[1, 2]), page([])], "seek"),
        ([page([5, 5], keys=[1, 2], total=3, size=2), page([], total=2, size=2)], "best_effort"),
    ],
    ids=[
        "equal totals", "a total that fell", "a total that rose", "a missing total", "no totals", "a row too few",
        "a short page and an empty one", "a clipped page and an empty one",
    ],
)  # fmt: skip
def test_pages_of_one_millisecond(results: list[PageResult], guarantee: Guarantee) -> None:
    """A window that cannot be divided is read by pages, which equal totals prove."""
    strategy = SeekStrategy(3, MOMENT)
    got = receive(strategy, *results)
    assert sorted(got) == sorted(set(got))
    assert strategy.done
    assert strategy.guarantee == guarantee


def test_a_page_that_repeats_is_an_error() -> None:
    """A server that ignores the page number does not make seeking endless."""
    strategy = SeekStrategy(3, MOMENT)
    same = page(SAME, keys=[1, 2, 3])
    receive(strategy, *[same] * MAX_REPEATS)
    with pytest.raises(PaginationError, match="page number"):
        receive(strategy, same)


def test_a_page_that_arrivals_push_back() -> None:
    """As many arrivals as a page has rows bring it again; the total that rose by as many explains it."""
    strategy = SeekStrategy(3, MOMENT)
    totals = range(6, 6 + 3 * (MAX_REPEATS + 2), 3)
    assert receive(strategy, *[page(SAME, keys=[1, 2, 3], total=total) for total in totals]) == [1, 2, 3]
    assert not strategy.done


def test_a_server_that_makes_up_times_is_an_error() -> None:
    """Windows that never become empty do not make seeking endless."""
    strategy = SeekStrategy(10, TimeWindow(0, 10**12))
    with pytest.raises(PaginationError, match="time filter"):
        for _ in range(200):
            request = strategy.next_request()
            assert request is not None
            start, end = request.window or (None, None)
            assert start is not None
            assert end is not None
            times = [start + (end - start) * (7 * number % 10) // 9 for number in range(10)]
            strategy.receive(request, page([]) if request.index else page(times, keys=range(10)))
