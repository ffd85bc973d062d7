"""Seeking, step by step: how an order is told, where a window is cut, what is kept, when it ends."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_async import PaginationError
from harness_async.pagination.seek import (
    MAX_REPEATS,
    MIN_DISTINCT_TIMES,
    BoundaryKeys,
    OutsideWindowError,
    SeekStrategy,
    _bisect,
    _clip,
    detect_order,
    is_outside,
)
from harness_async.pagination.source import PageTotals
from harness_async.pagination.strategy import PageRequest, PageResult, SeenKeys
from harness_async.types import TimeWindow
from tests.support.moving import NOW, Filter, MovingList, Order, read

NEWEST = tuple(range(100, 90, -1))
"""Times of a full page of ten, sorted newest first: as many as it takes to believe in an order."""


def page(
    times: Sequence[int],
    *,
    total: int | None = None,
    size: int | None = None,
    keys: Sequence[int] | None = None,
) -> PageResult:
    """Make a reply of rows with these times, which are their keys too unless others are given."""
    keys = times if keys is None else keys
    return PageResult(rows=keys, keys=keys, totals=PageTotals(items=total, size=size), times=times)


def receive(machine: SeekStrategy, result: PageResult) -> list[int]:
    """Answer what a machine asks for next, and give the keys that were new."""
    request = machine.next_request()
    assert request is not None
    return [(result.keys or ())[position] for position in machine.receive(request, result)]


# -- telling an order ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "order"),
    [
        ([], None),
        ([5], None),
        ([5, 5, 5], None),
        ([3, 2], "newest"),
        ([3, 3, 2, 2], "newest"),
        ([2, 3], "oldest"),
        ([2, 2, 3, 3], "oldest"),
        ([2, 3, 2], "none"),
        ([3, 2, 3], "none"),
        ([-1, 0, 2**60], "oldest"),
    ],
)
def test_order_of(times: list[int], order: str | None) -> None:
    """Times that never rise are newest first, that never fall oldest first; all the same tells nothing."""
    assert detect_order(times) == order


@pytest.mark.parametrize(
    ("times", "bounds", "expected"),
    [
        ([], (10, 20), False),
        ([10, 20], (10, 20), False),
        ([9], (10, 20), True),
        ([21], (10, 20), True),
        ([15, 15, 21], (10, 20), True),
        ([9], (None, 20), False),
        ([21], (10, None), False),
        ([9, 21], (None, None), False),
    ],
)
def test_outside(times: list[int], bounds: tuple[int | None, int | None], expected: bool) -> None:
    """A row outside the window is seen, a row at either bound is not outside, an open side lets all pass."""
    assert is_outside(page(times), TimeWindow(*bounds)) is expected


def test_rows_without_a_time_are_never_outside() -> None:
    """What has no time cannot contradict a window."""
    assert not is_outside(PageResult(["a"], [1], PageTotals()), TimeWindow(10, 20))


@pytest.mark.parametrize("distinct", [MIN_DISTINCT_TIMES - 1, MIN_DISTINCT_TIMES])
def test_an_order_is_believed_from_enough_different_times_on(distinct: int) -> None:
    """A page with fewer different times than the evidence asked for is cut, one with as many is followed."""
    times = list(range(100, 100 - distinct, -1))
    machine = SeekStrategy(distinct, TimeWindow(0, 1000))
    receive(machine, page(times))
    request = machine.next_request()
    assert request is not None
    if distinct < MIN_DISTINCT_TIMES:
        assert len(machine._windows) == 2
    else:
        assert request == PageRequest(0, TimeWindow(0, times[-1] + 1))


@pytest.mark.parametrize(
    ("times", "bounds"),
    [(NEWEST, (0, 92)), (tuple(reversed(NEWEST)), (99, 1000))],
    ids=["newest", "oldest"],
)
def test_the_bound_moves_to_the_last_row_and_a_millisecond_beyond(times: tuple[int, ...], bounds: TimeWindow) -> None:
    """Newest first moves the end, oldest first the start, and either meaning of a bound keeps the last row in."""
    machine = SeekStrategy(10, TimeWindow(0, 1000))
    receive(machine, page(times))
    assert machine.next_request() == PageRequest(0, bounds)


def test_a_page_out_of_order_ends_the_belief_in_an_order() -> None:
    """A list that was sorted and is not any more is cut from there on."""
    machine = SeekStrategy(10, TimeWindow(0, 1000))
    receive(machine, page(NEWEST))
    receive(machine, page([91, 30, 50, 20, 70, 10, 80, 40, 60, 25]))
    assert len(machine._windows) == 2
    assert all(window[1] is not None and window[1] <= 92 for window in machine._windows)


# -- cutting and clipping ------------------------------------------------------------------------------------------

BOUND = st.none() | st.integers(-50, 50)


def rows_within(bounds: tuple[int | None, int | None]) -> set[int]:
    """List all times of a window, its bounds among them."""
    start, end = bounds
    return {time for time in range(-60, 61) if (start is None or time >= start) and (end is None or time <= end)}


@given(window=st.tuples(BOUND, BOUND), start=BOUND, end=BOUND)
def test_clip_never_widens(window: TimeWindow, start: int | None, end: int | None) -> None:
    """A clipped window holds what both hold, and nothing else."""
    assert rows_within(_clip(window, start, end)) == rows_within(window) & rows_within((start, end))


@given(window=st.tuples(BOUND, BOUND), data=st.data())
def test_cut_never_widens_and_loses_nothing(window: TimeWindow, data: st.DataObject) -> None:
    """Both parts of a cut are smaller than the window, and together they are the window, whatever its bounds mean."""
    inside = sorted(rows_within(window))
    if not inside:
        return
    times = data.draw(st.lists(st.sampled_from(inside), min_size=1, max_size=8))
    halves = _bisect(window, times)
    assert window not in halves
    for start, end in halves:
        assert rows_within((start, end)) <= rows_within(window)
    if halves:
        strictly = set[int]()
        for start, end in halves:
            # Bounds that exclude: what the caller's window excludes by itself may be missing.
            strictly |= rows_within(
                (
                    start if start is None or start == window[0] else start + 1,
                    end if end is None or end == window[1] else end - 1,
                )
            )
        assert strictly == rows_within(window)


@pytest.mark.parametrize(
    ("window", "times"),
    [((5, 5), [5, 5]), ((5, 6), [5, 6]), ((5, 6), [6, 6]), ((4, 6), [5, 5, 5])],
)
def test_a_window_too_small_to_cut(window: TimeWindow, times: list[int]) -> None:
    """A window of which an overlap of a millisecond on each side is the whole cannot be cut."""
    assert _bisect(window, times) == []


def test_a_cut_is_made_at_the_middle_time() -> None:
    """The halves meet at the median and overlap by a millisecond; the half that is read first is the later one."""
    assert _bisect(TimeWindow(0, 100), [90, 10, 20]) == [(0, 21), (20, 100)]


# -- what is kept --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [
        ((None, None), {1, 2, 3, 4}),
        ((None, 2), {1, 2}),
        ((2, None), {2, 3, 4}),
        ((2, 3), {2, 3}),
        ((9, None), set()),
    ],
)
def test_edge_forgets_what_a_window_cannot_bring(bounds: TimeWindow, kept: set[int]) -> None:
    """Rows within the next window are still known, the others come as new if they come at all."""
    edge = BoundaryKeys()
    assert list(edge.add_new(page([4, 3, 2, 1]))) == [0, 1, 2, 3]
    edge.move(bounds)
    new_rows = edge.add_new(page([4, 3, 2, 1]))
    assert {4 - position for position in new_rows} == {1, 2, 3, 4} - kept


def test_edge_knows_rows_by_key_and_not_by_time() -> None:
    """Rows of one moment are told apart."""
    edge = BoundaryKeys()
    assert list(edge.add_new(page([5, 5], keys=[1, 2]))) == [0, 1]
    edge.move(TimeWindow(5, 5))
    assert list(edge.add_new(page([5, 5, 5], keys=[2, 3, 1]))) == [1]


def test_a_row_twice_on_one_page_comes_once() -> None:
    """A page that repeats a row within itself doubles nothing."""
    assert list(BoundaryKeys().add_new(page([5, 5], keys=[1, 1]))) == [0]


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_a_sorted_list_costs_the_memory_of_a_page(order: Order) -> None:
    """However long a sorted list is, the keys held between two requests are those at the bound, at the end a page's."""
    server = MovingList(order=order, limit=100)
    for number in range(3000):
        server.add(NOW - 1 - 10 * number)
    machine = SeekStrategy(100, TimeWindow(None, NOW))
    held = []

    def note() -> None:
        assert isinstance(machine.seen, BoundaryKeys)
        held.append(len(machine.seen._times))

    assert len(read(server, machine, note)) == 3000
    assert max(held[:-1]) == 1
    assert held[-1] <= 100


# -- the end of a window -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "done"),
    [
        (page([]), True),
        (page([], total=7), True),
        (page([3, 2], total=2), True),
        (page([3, 2], total=1), True),
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
        "empty", "empty against the total", "short and told", "short and more than told", "short of the total",
        "short without total", "full as the server clips", "full as told", "short of the clip", "short of a told clip",
        "full and told", "full and more than told", "full without total",
    ],
)  # fmt: skip
def test_a_first_page_that_ends_the_list(result: PageResult, done: bool) -> None:
    """Only a page that is not full ends a window, and only if neither a total nor a clipped size speaks against it."""
    machine = SeekStrategy(10, TimeWindow(0, 1000))
    receive(machine, result)
    assert machine.done is done
    assert (machine.next_request() is None) is done


def test_one_request_at_a_time() -> None:
    """Seeking waits for each reply: the next window depends on it."""
    machine = SeekStrategy(10, TimeWindow(0, 1000))
    assert machine.next_request() == PageRequest(0, TimeWindow(0, 1000))
    assert machine.next_request() is None


def test_the_first_page_refused_is_an_error() -> None:
    """A window whose first page is refused is no empty window."""
    machine = SeekStrategy(10, TimeWindow(0, 1000))
    assert not machine.handle_missing_page(machine.next_request() or PageRequest(9))


def test_a_further_page_refused_ends_its_window() -> None:
    """A server that refuses pages behind the last one says where a window ends."""
    machine = SeekStrategy(3, TimeWindow(0, 1000))
    receive(machine, page([5, 5, 5], keys=[1, 2, 3]))
    request = PageRequest(1, TimeWindow(0, 1000))
    assert machine.next_request() == request
    assert machine.handle_missing_page(request)
    assert machine.done


def test_rows_outside_the_window_are_refused() -> None:
    """Seeking ends where the filter is not on the time of creation."""
    machine = SeekStrategy(10, TimeWindow(0, 50))
    with pytest.raises(OutsideWindowError):
        receive(machine, page(NEWEST))


# -- many rows of one moment ---------------------------------------------------------------------------------------


def test_more_rows_of_one_moment_than_a_page_are_read_by_pages() -> None:
    """While the bound cannot move, the pages of the window follow; a total that stays vouches for them."""
    machine = SeekStrategy(3, TimeWindow(0, 1000))
    got = receive(machine, page([5, 5, 5], keys=[1, 2, 3], total=7))
    request = PageRequest(1, TimeWindow(0, 1000))
    assert machine.next_request() == request
    assert list(machine.receive(request, page([5, 5, 5], keys=[4, 5, 6], total=7))) == [0, 1, 2]
    got += receive(machine, page([5], keys=[7], total=7))
    assert machine.done
    assert got == [1, 2, 3, 7]
    assert machine.guarantee == "seek"


@pytest.mark.parametrize(("first", "second"), [(7, 6), (7, 8), (None, None), (7, None)])
def test_pages_of_one_moment_are_not_vouched_for_by_other_totals(first: int | None, second: int | None) -> None:
    """A total that changed between the pages of one moment, or is not told, is best effort."""
    machine = SeekStrategy(3, TimeWindow(0, 1000))
    receive(machine, page([5, 5, 5], keys=[1, 2, 3], total=first))
    receive(machine, page([5, 5, 5], keys=[4, 5, 6], total=second))
    assert machine.guarantee == "best_effort"


def test_a_short_page_with_nothing_behind_it_is_vouched_for() -> None:
    """Where no total is told, a page that was not full and an empty one behind it are proof enough."""
    machine = SeekStrategy(10, TimeWindow(0, 1000))
    receive(machine, page([5, 5], keys=[1, 2]))
    receive(machine, page([]))
    assert machine.done
    assert machine.guarantee == "seek"


def test_a_page_of_one_moment_that_comes_again_and_again_is_an_error() -> None:
    """A server that ignores the page number does not make seeking endless."""
    machine = SeekStrategy(3, TimeWindow(0, 1000))
    same = page([5, 5, 5], keys=[1, 2, 3])
    for _ in range(MAX_REPEATS):
        receive(machine, same)
    with pytest.raises(PaginationError, match="page number"):
        receive(machine, same)


def test_a_page_of_one_moment_that_arrivals_push_back_is_no_error() -> None:
    """As many arrivals as a page has rows bring it again; the total that rose by as many says why."""
    machine = SeekStrategy(3, TimeWindow(0, 1000))
    for arrived in range(0, 3 * (MAX_REPEATS + 2), 3):
        receive(machine, page([5, 5, 5], keys=[1, 2, 3], total=6 + arrived))
    assert machine.guarantee == "best_effort"


def test_rows_short_of_a_total_that_stays_are_best_effort() -> None:
    """A row that goes away between count and rows of a further page hides another: fewer came than were counted."""
    machine = SeekStrategy(3, TimeWindow(0, 1000))
    receive(machine, page([5, 5, 5], keys=[1, 2, 3], total=4))
    receive(machine, page([], total=4))
    assert machine.done
    assert machine.guarantee == "best_effort"


@pytest.mark.parametrize("size", [2, None])
def test_a_clipped_page_with_nothing_behind_it_proves_nothing(size: int | None) -> None:
    """A page as full as the server ever gives it may have hidden a row when another went away."""
    machine = SeekStrategy(3, TimeWindow(0, 1000))
    receive(machine, page([5, 5], keys=[1, 2], total=None if size is None else 5, size=size))
    receive(machine, page([5, 5], keys=[3, 4], total=None if size is None else 5, size=size))
    machine.guarantee = "seek"  # what is said of the page before is another matter
    receive(machine, page([], total=None if size is None else 4, size=size))
    assert (machine.done, str(machine.guarantee)) == (True, "best_effort")


# -- whole lists ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["newest", "oldest", "hash", "random ties"])
@pytest.mark.parametrize("filtering", ["inclusive", "exclusive"])
@pytest.mark.parametrize("limit", [4, 12, 100])
@pytest.mark.parametrize("spread", [100_000, 400])
def test_a_quiet_list_is_read_whole(order: Order, filtering: Filter, limit: int, spread: int) -> None:
    """Sorted or not, with ties or without, each row of a list at rest comes once."""
    rng = random.Random(f"{order} {limit} {spread}")
    server = MovingList(order=order, filter=filtering, limit=limit)
    for _ in range(300):
        server.add(NOW - 1 - rng.randrange(spread))
    got = read(server, machine := SeekStrategy(limit, TimeWindow(None, NOW)), most=600)
    assert sorted(got) == list(range(1, 301))
    assert machine.guarantee in {"seek", "best_effort"}


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_a_sorted_list_costs_a_row_read_twice_on_each_page(order: Order) -> None:
    """Where the order is seen, the price of seeking is one row in a hundred."""
    server = MovingList(order=order, limit=100)
    for number in range(5000):
        server.add(NOW - 1 - 10 * number)
    assert len(read(server, SeekStrategy(100, TimeWindow(None, NOW)))) == 5000
    assert server.requests == -(-5000 // 99)


def test_what_an_earlier_reading_delivered_does_not_come_again() -> None:
    """A memory that was handed over counts."""
    server = MovingList(limit=10)
    for number in range(25):
        server.add(NOW - 1 - 10 * number)
    seen = SeenKeys()
    seen.add_new(PageResult([1, 2, 3], [1, 2, 3], PageTotals()))
    assert sorted(read(server, SeekStrategy(10, TimeWindow(None, NOW), seen))) == list(range(4, 26))
