"""The live strategy: where it looks for rows, what it delivers, and when it ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness_async import PaginationError
from harness_async.pagination.source import PageTotals
from harness_async.pagination.strategy import (
    MAX_REPEATED_ROWS,
    LiveStrategy,
    PageRequest,
    PageResult,
)
from tests.support.moving import MovingList, PastEnd, Totals, read

PAST_END = pytest.mark.parametrize("past_end", ["empty", "missing"])


def receive(strategy: LiveStrategy, result: PageResult) -> list[int]:
    request = strategy.next_request()
    assert request is not None
    return list(strategy.receive(request, result))


@pytest.mark.parametrize("totals", ["true", "items", "pages", "size", "none", "of the page"])
@pytest.mark.parametrize("clip", [1000, 30])
@PAST_END
def test_quiet_lists(totals: Totals, clip: int, past_end: PastEnd) -> None:
    """Every row comes once and in order, and only an empty or a short page is the end, whatever the total says."""
    for rows in (0, 1, 29, 99, 100, 101, 200, 1000):
        server = MovingList(totals=totals, limit=100, clip=clip, past_end=past_end)
        server.fill(rows)
        if totals == "of the page" and clip < rows:
            continue  # a page that is cut short in silence looks like a whole list
        assert read(server, LiveStrategy(100)) == list(range(1, rows + 1))
        # Without a total, a first page below the limit may be one that was cut short; a total that fell is examined.
        is_uncertain = totals == "of the page" or (totals in {"pages", "size", "none"} and 0 < rows < 100)
        assert server.requests <= rows // min(100, clip) + 1 + is_uncertain


def test_a_list_that_is_gone_is_an_error() -> None:
    """A missing page that was promised leads back to the first one; a missing first page does not end the list."""
    strategy = LiveStrategy(100)
    assert not strategy.handle_missing_page(strategy.next_request() or PageRequest(9))
    for index in range(2):
        receive(strategy, PageResult((), range(100 * index, 100 * index + 100), PageTotals(300)))
    for index in (2, 1):
        assert strategy.next_request() == PageRequest(index)
        assert strategy.handle_missing_page(PageRequest(index))
    assert strategy.next_request() == PageRequest(0)
    assert not strategy.handle_missing_page(PageRequest(0))


def test_a_list_that_shrank() -> None:
    """Rows that moved to pages in between are delivered."""
    strategy = LiveStrategy(2)
    for index in range(4):
        receive(strategy, PageResult((), range(2 * index, 2 * index + 2), PageTotals(12)))
    for index in (4, 3):
        assert strategy.next_request() == PageRequest(index)
        assert strategy.handle_missing_page(PageRequest(index))
    assert receive(strategy, PageResult((), [0, 1], PageTotals(5))) == []
    assert receive(strategy, PageResult((), [11], PageTotals(5))) == [0]
    assert receive(strategy, PageResult((), [8, 9], PageTotals(5))) == [0, 1]
    assert receive(strategy, PageResult((), [0, 1], PageTotals(5))) == []
    assert strategy.done


@pytest.mark.parametrize("count", [3, 10, 100])
@pytest.mark.parametrize("change", ["nothing", "a member", "an inner member", "the order"])
def test_rows_without_keys_that_repeat(count: int, change: str) -> None:
    """Rows without keys repeat where most of them are the same, with one changed member or in another order."""
    strategy = LiveStrategy(count)
    delivered = 0
    with pytest.raises(PaginationError):
        for turn in range(MAX_REPEATED_ROWS + 2):
            rows: list[dict[str, object]] = [
                {
                    "id": number,
                    "seen": turn * (change == "a member"),
                    "more": {"kind": "x", "seen": turn * (change == "an inner member")},
                }
                for number in range(count)
            ]
            start = turn if change == "the order" else 0
            delivered += len(receive(strategy, PageResult(rows[start:] + rows[:start], None, PageTotals())))
    assert delivered <= count + MAX_REPEATED_ROWS + 2


@pytest.mark.parametrize(
    "create",
    [
        lambda number: {"email": f"{number}@example.com", "role": "member"},
        lambda number: {"time": number, "count": 0},
        lambda number: {"service": {"identifier": number, "title": number}, "deleted": False},
        lambda number: {"service": {"label": number}},
        lambda number: {"identifier": number, "deleted": False},
        lambda number: number,
    ],
    ids=["one member", "a time", "an inner object", "an object alone", "an identifier", "plain values"],
)
def test_rows_without_keys_that_look_alike(create: Callable[[int], object]) -> None:
    """Rows that differ in one member from those of the page before are other rows."""
    strategy = LiveStrategy(100)
    got = 0
    for index in range(3):
        rows = [create(number) for number in range(250)[100 * index : 100 * index + 100]]
        got += len(receive(strategy, PageResult(rows, None, PageTotals())))
    assert got == 250
    assert strategy.done


def test_a_page_that_arrivals_push_back() -> None:
    """Where as many rows arrived as a page holds, the same page comes again, and the total explains it."""
    server = MovingList(limit=100)
    server.fill(200)

    def arrive() -> None:
        for _ in range(100 if server.requests == 1 else 0):
            server.add(2_000_000 + server.added)

    assert set(read(server, LiveStrategy(100), arrive)) >= server.steady
