"""Checked, step by step: what leads to each verdict, and what each costs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest

from harness_async.pagination.checked import CheckedStrategy
from harness_async.pagination.seek import SeekStrategy
from harness_async.pagination.source import PageTotals, hash_by
from harness_async.pagination.strategy import LiveStrategy, PageRequest, PageResult
from harness_async.types import Guarantee, TimeWindow
from tests.support.moving import NOW, MovingList, Order, Request, read

WINDOW = TimeWindow(0, 1000)


def page(
    keys: Sequence[int],
    total: int | None = None,
    *,
    pages: int | None = None,
    size: int | None = None,
    times: Sequence[int] | None = None,
) -> PageResult:
    """Make a reply of rows with these keys, which are their times too unless others are given."""
    return PageResult(keys, keys, PageTotals(total, pages, size), keys if times is None else times)


def asks(machine: CheckedStrategy, most: int = 100) -> list[PageRequest]:
    """Take all that a machine asks for now."""
    taken: list[PageRequest] = []
    while len(taken) < most and (request := machine.next_request()) is not None:
        taken.append(request)
    return taken


def play(machine: CheckedStrategy, script: Sequence[tuple[int, PageResult | None]]) -> list[int]:
    """Answer pages in this order, None for a refusal, each asked for by then; give the keys that were new."""
    open_: list[PageRequest] = []
    got: list[int] = []
    for index, result in script:
        open_ += asks(machine)
        request = next(request for request in open_ if request.index == index)
        open_.remove(request)
        if result is None:
            assert machine.handle_missing_page(request)
        else:
            keys = result.keys or ()
            got += [keys[position] for position in machine.receive(request, result)]
    assert not open_
    return got


# -- exact ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [page([], 0), page([1], 1), page([1, 2, 3], 3), page([1, 2, 3], 3, pages=1, size=3), page([1, 2], 2, size=2)],
    ids=["empty", "one", "full", "full with all headers", "clipped"],
)
def test_one_page_is_one_atomic_read(first: PageResult) -> None:
    """A list that fits its first page, by its total, is exact with one request."""
    machine = CheckedStrategy(3, WINDOW)
    play(machine, [(0, first)])
    assert machine.done
    assert machine.next_request() is None
    assert machine.guarantee == "exact"
    assert machine.frozen_window == WINDOW


def test_equal_totals_and_as_many_rows_are_exact_in_any_order_of_replies() -> None:
    """All pages behind the first are asked for at once, answered in any order, and prove themselves."""
    machine = CheckedStrategy(2, WINDOW)
    assert asks(machine) == [PageRequest(0, WINDOW)], "the first page goes alone"
    machine.receive(PageRequest(0, WINDOW), page([9, 8], 7))
    open_ = asks(machine)
    assert open_ == [PageRequest(1, WINDOW), PageRequest(2, WINDOW), PageRequest(3, WINDOW)]
    assert not machine.done
    machine.receive(open_[2], page([3], 7))
    machine.receive(open_[0], page([7, 6], 7))
    assert not machine.done
    machine.receive(open_[1], page([5, 4], 7))
    assert machine.done
    assert machine.guarantee == "exact"
    assert machine.next_request() is None


@pytest.mark.parametrize("rows", [0, 1, 99, 100, 101, 200, 1000])
@pytest.mark.parametrize("order", ["newest", "oldest", "hash"])
def test_a_quiet_list_costs_no_request_too_many(rows: int, order: Order) -> None:
    """A list at rest is exact, with the requests that its pages need."""
    server = MovingList(order=order, limit=100)
    for number in range(rows):
        server.add(NOW - 1 - number)
    machine = CheckedStrategy(100, TimeWindow(None, NOW))
    assert len(read(server, machine)) == rows
    assert server.requests == max(1, -(-rows // 100))
    assert machine.guarantee == "exact"


@pytest.mark.parametrize("clip", [1, 30, 99])
def test_the_stride_is_what_the_server_gives(clip: int) -> None:
    """Pages that the server clips are counted as it gives them."""
    server = MovingList(limit=100, clip=clip)
    for number in range(250):
        server.add(NOW - 1 - number)
    machine = CheckedStrategy(100, TimeWindow(None, NOW))
    assert len(read(server, machine)) == 250
    assert server.requests == -(-250 // clip)
    assert machine.guarantee == "exact"


# -- covered -------------------------------------------------------------------------------------------------------


def test_totals_that_fell_lead_to_a_pass_backwards() -> None:
    """A row that went away pulled another past us; the pages come once more, the last one first, one at a time."""
    machine = CheckedStrategy(2, WINDOW)
    # 9 8 | 7 6 | 5 4; 9 goes away after the first page: 8 7 | 6 5 | 4, and nobody reads 7.
    got = play(machine, [(0, page([9, 8], 6)), (1, page([6, 5], 5)), (2, page([4], 5))])
    assert not machine.done
    assert asks(machine) == [PageRequest(2, WINDOW)], "backwards, one request at a time"
    machine.receive(PageRequest(2, WINDOW), page([4], 5))
    got += play(machine, [(1, page([6, 5], 5)), (0, page([8, 7], 5))])
    assert got == [9, 8, 6, 5, 4, 7]
    assert machine.done
    assert machine.guarantee == "covered"
    assert machine.frozen_window == WINDOW


def test_the_pass_backwards_begins_at_the_lowest_total() -> None:
    """Pages that have gone away altogether are not asked for again."""
    machine = CheckedStrategy(2, WINDOW)
    play(machine, [(0, page([9, 8], 6)), (1, page([], 2)), (2, page([], 2))])
    assert asks(machine) == [PageRequest(0, WINDOW)]
    machine.receive(PageRequest(0, WINDOW), page([5, 4], 2))
    assert machine.guarantee == "covered"


def test_a_row_that_goes_away_between_count_and_rows_is_no_proof() -> None:
    """Fewer rows on the first page than its total says: the list is looked at again."""
    machine = CheckedStrategy(3, WINDOW)
    got = play(machine, [(0, page([9, 8], 3)), (1, page([], 2)), (0, page([9, 8], 2))])
    assert got == [9, 8]
    assert machine.done
    assert machine.guarantee == "covered"


@pytest.mark.parametrize("size", [2, 3])
def test_a_short_first_page_of_a_server_that_clips_is_looked_into(size: int) -> None:
    """A first page short of its total, and no other page to ask for, is no end and no standstill."""
    machine = CheckedStrategy(5, WINDOW)
    assert play(machine, [(0, page([9], 2, size=size))]) == [9]
    assert machine.done or machine.next_request() is not None


# -- seek ----------------------------------------------------------------------------------------------------------

SIX: list[tuple[int, PageResult | None]] = [(0, page([9, 8], 6)), (1, page([7, 6], 6))]


@pytest.mark.parametrize(
    "script",
    [
        [*SIX, (2, page([5, 4], 7))],
        [(0, page([9, 8], 6)), (1, page([7, 6], 5)), (2, page([5], 5)), (2, page([5], 6))],
        [(0, page([9, 8]))],
        [*SIX, (2, page([5, 4]))],
        [(0, page([9, 8], 6)), (1, page([7, 6], 5)), (2, page([5], 5)), (2, page([5])), (1, page([7, 6], 5)),
         (0, page([9, 8], 5))],
        [*SIX, (2, page([6, 5], 6))],
        [*SIX, (2, page([5], 6))],
        [(0, page([9, 8], 1))],
        [(0, page([], 4))],
        [*SIX, (2, None)],
        [(0, page([9, 8], 6)), (1, page([7, 6], 5)), (2, page([5], 5)), (2, None), (1, page([7, 6], 5)),
         (0, page([9, 8], 5))],
    ],
    ids=[
        "the total rose", "it rose on the way back", "no total", "a total is missing",
        "a total is missing on the way back", "a row twice, so one is missing", "a row too few", "more rows than told",
        "none of those told", "a page refused", "a page refused on the way back",
    ],
)  # fmt: skip
def test_what_cannot_be_proved_is_sought(script: list[tuple[int, PageResult | None]]) -> None:
    """Where totals or rows contradict a frozen list, the window is read once more without counting."""
    machine = CheckedStrategy(2, WINDOW)
    play(machine, script)
    assert isinstance(machine._delegate, SeekStrategy)
    assert machine.guarantee == "seek"
    assert machine.frozen_window == WINDOW


def test_a_total_that_rose_calls_off_the_pages_not_yet_asked_for() -> None:
    """No further page of a pass that can prove nothing is paid for; seeking waits for those under way."""
    machine = CheckedStrategy(2, WINDOW)
    machine.receive(machine.next_request() or PageRequest(9), page([9, 8], 20))
    one, two = asks(machine, 2)
    machine.receive(one, page([7, 6], 21))
    assert machine.next_request() is None
    machine.receive(two, page([5, 4], 21))
    assert machine.next_request() == PageRequest(0, WINDOW)


def test_a_total_beyond_all_bounds_costs_no_memory() -> None:
    """A server that tells an absurd total makes checked neither run out of memory nor ask for pages without end."""
    machine = CheckedStrategy(2, WINDOW)
    machine.receive(machine.next_request() or PageRequest(9), page([9, 8], 10**18 - 1))
    asked = 1
    while machine._delegate is None and (request := machine.next_request()) is not None:
        asked += 1
        machine.receive(request, page([], 10**18 - 1))
        assert asked < 10
    assert machine.guarantee == "seek"


@pytest.mark.parametrize("past_end", ["refused", "empty, and the total falls"])
def test_an_absurd_total_makes_no_walk_endless(past_end: str) -> None:
    """Behind the end no page is asked for, forwards or backwards, however many the totals promise."""
    machine = CheckedStrategy(2, WINDOW)
    rows = {0: [9, 8], 1: [7]}
    asked = 0
    while (request := machine.next_request()) is not None:
        asked += 1
        assert asked < 20
        total = 10**15 - (asked if past_end != "refused" else 0)
        if request.index in rows or past_end != "refused":
            machine.receive(request, page(rows.get(request.index, []), total))
        else:
            assert machine.handle_missing_page(request)
    assert machine.done
    assert machine.guarantee in {"seek", "best_effort"}


def test_seeking_delivers_only_what_did_not_come_before() -> None:
    """Rows that the passes delivered stay delivered."""
    machine = CheckedStrategy(12, WINDOW)
    rows = list(range(40, 0, -1))
    got = play(machine, [(0, page(rows[:12], 24)), (1, page(rows[12:24], 25))])
    got += play(machine, [(0, page(rows[:12], 25)), (0, page(rows[11:23], 14)), (0, page(rows[22:25], 3))])
    assert got == rows[:25]
    assert machine.done
    assert machine.guarantee == "seek"


@pytest.mark.parametrize(
    ("first", "guarantee"),
    [
        (page([1, 2], 2), "exact"),
        (page([1, 2, 3], 3), "seek"),
        (page([1, 2], 3), "seek"),
        (page([1, 2, 3], 9), "seek"),
    ],
    ids=["part of a page", "a full page", "a row missing", "several pages"],
)
def test_a_filter_that_lets_rows_come_and_go_is_sought(first: PageResult, guarantee: Guarantee) -> None:
    """With a status filter only a page that is not full proves itself; seeking goes on from the same page."""
    machine = CheckedStrategy(3, WINDOW, volatile=True)
    play(machine, [(0, first)])
    assert machine.done is (guarantee == "exact")
    assert machine.guarantee == guarantee
    assert (machine._delegate is not None) is (guarantee == "seek")
    request = machine.next_request()
    assert request is None or request != PageRequest(0, WINDOW), "the first page is not asked for again"


def test_an_empty_list_without_total_takes_one_request() -> None:
    """Nothing on the first page is the end, total or not."""
    machine = CheckedStrategy(3, WINDOW)
    play(machine, [(0, page([]))])
    assert machine.done
    assert machine.guarantee == "seek"


# -- best effort ---------------------------------------------------------------------------------------------------

OUTSIDE = page([9, 2000], 6)


def test_rows_outside_the_window_on_the_first_page_end_the_freeze() -> None:
    """The list is read as live does, without a window of ours, and the verdict is best effort."""
    machine = CheckedStrategy(2, WINDOW)
    got = play(machine, [(0, OUTSIDE), (0, OUTSIDE), (1, page([7, 6], 6)), (2, page([5, 4], 6))])
    assert got == [9, 2000, 7, 6, 5, 4]
    assert machine.done
    assert machine.guarantee == "best_effort"
    assert machine.frozen_window is None


def test_without_the_freeze_the_callers_own_window_is_asked_for() -> None:
    """The pages are those of the caller's filters."""
    machine = CheckedStrategy(2, WINDOW)
    play(machine, [(0, OUTSIDE)])
    assert machine.next_request() == PageRequest(0, None)


@pytest.mark.parametrize(
    "script",
    [
        [(0, page([9, 8], 6)), (2, OUTSIDE), (1, page([7, 6], 6))],
        [(0, page([9, 8], 6)), (1, page([7, 6], 5)), (2, page([5], 5)), (2, OUTSIDE)],
        [(0, page([9, 8])), (0, OUTSIDE)],
    ],
    ids=["in the pass", "on the way back", "while seeking"],
)
def test_rows_outside_the_window_end_the_freeze_at_any_time(script: list[tuple[int, PageResult | None]]) -> None:
    """Whenever such a row comes it is delivered, and the reading begins anew without the window."""
    machine = CheckedStrategy(2, WINDOW)
    assert 2000 in play(machine, script)
    assert isinstance(machine._delegate, LiveStrategy)
    assert machine.guarantee == "best_effort"
    assert asks(machine) == [PageRequest(0, None)]


@pytest.mark.parametrize(
    "refused",
    [False, True],
)
def test_what_was_under_way_when_the_freeze_ended_changes_nothing(refused: bool) -> None:
    """Pages of the frozen pass that come in later, or are refused, do not bring the freeze back."""
    machine = CheckedStrategy(2, WINDOW)
    got = play(machine, [(0, page([9, 8], 6)), (1, OUTSIDE), (2, None if refused else page([5, 4], 6))])
    assert got == ([9, 8, 2000] if refused else [9, 8, 2000, 5, 4])
    assert machine.guarantee == "best_effort"
    assert machine.frozen_window is None
    assert asks(machine) == [PageRequest(0, None)]


# -- refused pages -------------------------------------------------------------------------------------------------


def test_the_first_page_refused_is_an_error() -> None:
    """A list whose first page is refused does not exist."""
    machine = CheckedStrategy(3, WINDOW)
    assert not machine.handle_missing_page(machine.next_request() or PageRequest(9))


def test_a_page_refused_because_the_list_went_away_is_an_error() -> None:
    """After a refused page the first one is asked for; refused too, it is the list that is gone."""
    machine = CheckedStrategy(2, WINDOW)
    play(machine, [(0, page([9, 8], 4)), (1, None)])
    request = PageRequest(0, WINDOW)
    assert machine.next_request() == request
    assert not machine.handle_missing_page(request)


def test_a_page_refused_while_others_went_away_is_looked_into() -> None:
    """A page beyond the end, for the list has shrunk, leads to the pass backwards and no further."""
    machine = CheckedStrategy(2, WINDOW)
    play(machine, [(0, page([9, 8], 6)), (1, page([6, 5], 4)), (2, None), (1, page([6, 5], 4)), (0, page([8, 7], 4))])
    assert machine.done
    assert machine.guarantee == "covered"


# -- memory --------------------------------------------------------------------------------------------------------


def test_a_walk_remembers_a_row_in_120_bytes() -> None:
    """The keys of a hundred thousand rows, as the API has them, cost at most 120 bytes each."""
    count, limit = 100_000, 100
    machine = CheckedStrategy(limit, TimeWindow(None, NOW))
    hash_each = hash_by(lambda key: key)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        while (request := machine.next_request()) is not None:
            numbers = range(request.index * limit, (request.index + 1) * limit)
            keys = [(f"execution-{number:012}", f"stage-{number:016}") for number in numbers]
            hashes = hash_each(keys)
            machine.receive(
                request, PageResult((), hashes, PageTotals(count, None, limit), [NOW - number for number in numbers])
            )
            del keys, hashes
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert machine.guarantee == "exact"
    assert len(machine.seen) == count
    assert used <= 120 * count


# -- the proof needs its guards ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["newest", "oldest", "hash"])
def test_each_departure_at_each_moment_loses_nothing(order: Order) -> None:
    """Whichever row goes away, and whenever it does, every other one comes, and exact means all of them."""
    for gone in range(1, 11):
        for moment in range(8):
            server = MovingList(order=order, limit=3)
            for number in range(10):
                server.add(NOW - 1 - 1000 * number)
            machine, got, step = CheckedStrategy(3, TimeWindow(None, NOW)), list[int](), 0
            open_: list[PageRequest] = []
            while not machine.done:
                open_ += asks(machine, 4 - len(open_))
                request = Request(open_.pop())
                for taken in (server.count, None):
                    if step == moment:
                        server.rows = [row for row in server.rows if row.number != gone]
                    step += 1
                    if taken is not None:
                        taken(request)
                result = server.answer(request)
                got += [(result.keys or ())[position] for position in machine.receive(request.request, result)]
            assert len(got) == len(set(got))
            assert set(got) >= {number for number in range(1, 11) if number != gone}
            if machine.guarantee == "exact":
                assert set(got) in ({*range(1, 11)}, {*range(1, 11)} - {gone})
