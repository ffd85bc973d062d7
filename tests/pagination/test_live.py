"""The walk as a machine: where it asks, what it delivers, when it ends; without I/O."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async import PaginationError
from harness_async.pagination.source import PageTotals
from harness_async.pagination.strategy import LiveStrategy, PageRequest, PageResult, SeenKeys

Headers: TypeAlias = Literal["both", "items", "pages", "size", "none"]


class List:
    """A list on a server, read by pages, that may move between any two replies."""

    def __init__(self, rows: int, *, clip: int = 1000, headers: Headers = "both", past: str = "empty") -> None:
        self.rows = list(range(rows))
        self.clip = clip
        self.headers = headers
        self.past = past
        self.requests = 0
        self.lie: Callable[[int], int | None] = lambda total: total

    def result(self, index: int, limit: int) -> PageResult | None:
        """Answer the request for a page; None is a 404."""
        self.requests += 1
        size = min(limit, self.clip)
        rows = self.rows[index * size : (index + 1) * size]
        if self.past == "404" and not rows and index:
            return None
        total = self.lie(len(self.rows))
        return PageResult(
            rows=rows,
            keys=rows,
            totals=PageTotals(
                items=total if self.headers in {"both", "items"} else None,
                pages=-(-len(self.rows) // size) if self.headers in {"both", "pages"} else None,
                size=size if self.headers in {"both", "size"} else None,
            ),
        )


def walk(
    server: List, limit: int = 100, *, between: Callable[[], None] = lambda: None, most: int = 10_000
) -> list[int]:
    """Read a list to the end, letting something happen before each request but the first."""
    machine = LiveStrategy(limit)
    got: list[int] = []
    while not machine.done:
        request = machine.next_request()
        assert request is not None
        assert machine.next_request() is None, "live asks for one page at a time"
        result = server.result(request.index, limit)
        if result is None:
            assert machine.handle_missing_page(request), "a 404 past the end is the end"
        else:
            rows = result.rows
            got.extend(rows[position] for position in machine.receive(request, result))  # type: ignore[misc]
        assert server.requests <= most, "an endless walk"
        between()
    return got


@pytest.mark.parametrize("rows", [0, 1, 99, 100, 101, 200, 5000])
@pytest.mark.parametrize("headers", ["both", "items"])
def test_a_quiet_list_costs_no_request_too_many(rows: int, headers: Headers) -> None:
    """With a total of items, the requests are exactly those that the pages need."""
    server = List(rows, headers=headers)
    assert walk(server) == list(range(rows))
    assert server.requests == max(1, -(-rows // 100))


@pytest.mark.parametrize("rows", [0, 1, 99, 100, 101, 200, 5000])
@pytest.mark.parametrize("headers", ["pages", "size", "none"])
def test_without_totals_at_most_one_request_more(rows: int, headers: Headers) -> None:
    """Where the server tells no total of items, one request more at most shows the end."""
    server = List(rows, headers=headers)
    assert walk(server) == list(range(rows))
    assert server.requests <= max(1, -(-rows // 100)) + 1


@pytest.mark.parametrize("rows", [29, 30, 31, 60, 250, 300])
@pytest.mark.parametrize("headers", ["both", "items", "pages", "size", "none"])
@pytest.mark.parametrize("past", ["empty", "404"])
def test_a_server_that_clips_pages_loses_nothing(rows: int, headers: Headers, past: str) -> None:
    """Pages of 30 where 100 were asked for: the stride is what the server gives, told or not."""
    server = List(rows, clip=30, headers=headers, past=past)
    assert walk(server) == list(range(rows))
    assert server.requests <= -(-rows // 30) + 1


def test_a_page_count_made_for_larger_pages_than_we_get_ends_nothing() -> None:
    """Total pages computed from the limit asked for, pages clipped to 30: the items decide."""
    server = List(250, clip=30)
    machine, got = LiveStrategy(100), list[object]()
    while (request := machine.next_request()) is not None:
        honest = server.result(request.index, 100)
        assert honest is not None
        result = PageResult(honest.rows, honest.keys, PageTotals(items=250, pages=3, size=None))
        got.extend(honest.rows[position] for position in machine.receive(request, result))
    assert got == list(range(250))


@pytest.mark.parametrize(
    "lie",
    [lambda _: 0, lambda _: 1, lambda n: n // 2, lambda n: n - 1, lambda n: n + 1, lambda n: n * 3, lambda _: None],
    ids=["none", "one", "half", "one less", "one more", "triple", "garbled"],
)
@pytest.mark.parametrize("rows", [1, 99, 100, 250, 300])
@pytest.mark.parametrize("past", ["empty", "404"])
def test_totals_that_lie_lose_nothing(lie: Callable[[int], int | None], rows: int, past: str) -> None:
    """A total that the rows contradict is not believed, and no total makes the walk endless."""
    server = List(rows, headers="items", past=past)
    server.lie = lie
    assert walk(server) == list(range(rows))
    assert server.requests <= -(-rows // 100) + 2


def test_a_page_that_was_promised_and_is_refused_is_an_error() -> None:
    """A 404 in the middle of a list (its project was deleted, say) is no end of it."""
    machine = LiveStrategy(100)
    server = List(300)
    for index in range(2):
        assert machine.next_request() == PageRequest(index)
        result = server.result(index, 100)
        assert result is not None
        machine.receive(PageRequest(index), result)
    assert machine.next_request() == PageRequest(2)
    assert machine.handle_missing_page(PageRequest(2)), (
        "perhaps the total was wrong: look whether the list is still there"
    )
    assert machine.next_request() == PageRequest(1)
    assert not machine.handle_missing_page(PageRequest(1))


def test_the_first_page_refused_is_an_error() -> None:
    """A list whose first page is refused does not exist: that is no empty list."""
    machine = LiveStrategy(100)
    assert machine.next_request() == PageRequest(0)
    assert not machine.handle_missing_page(PageRequest(0))


@pytest.mark.parametrize("keyed", [True, False])
def test_a_page_repeated_word_for_word_is_an_error_and_no_endless_loop(keyed: bool) -> None:
    """A server that ignores the page number is found out at the second page."""
    rows = [{"id": number} for number in range(100)]
    result = PageResult(rows, [row["id"] for row in rows] if keyed else None, PageTotals())
    machine = LiveStrategy(100)
    machine.receive(machine.next_request() or PageRequest(0), result)
    with pytest.raises(PaginationError, match="Page 2"):
        machine.receive(machine.next_request() or PageRequest(0), result)


def test_a_page_pushed_back_by_a_page_of_arrivals_is_no_error() -> None:
    """When as many rows arrived as a page holds, the same page comes again and the total says why."""
    server = List(200)
    arrivals = iter([range(1000, 1100)])

    def between() -> None:
        server.rows[:0] = next(arrivals, [])

    assert set(walk(server, between=between)) >= set(range(200))


def test_rows_without_a_key_are_delivered_as_they_come() -> None:
    """Without an identity nothing is dropped."""
    machine = LiveStrategy(2)
    assert list(
        machine.receive(machine.next_request() or PageRequest(0), PageResult(["a", "a"], None, PageTotals(items=3)))
    ) == [0, 1]
    assert list(
        machine.receive(machine.next_request() or PageRequest(0), PageResult(["a"], None, PageTotals(items=3)))
    ) == [0]
    assert machine.done


@given(
    rows=st.integers(0, 60),
    limit=st.integers(1, 7),
    clip=st.integers(1, 7),
    seed=st.integers(0, 10**6),
    busy=st.integers(1, 6),
    headers=st.sampled_from(["both", "items"]),
)
@settings(max_examples=400, deadline=None)
def test_departures_alone_lose_nothing(
    rows: int, limit: int, clip: int, seed: int, busy: int, headers: Headers
) -> None:
    """Rows that stay are all delivered, once, however many others go away while the list is read."""
    rng = random.Random(seed)
    server = List(rows, clip=clip, headers=headers)

    def leave() -> None:
        for _ in range(rng.randrange(busy)):
            if server.rows:
                server.rows.remove(rng.choice(server.rows))

    got = walk(server, limit, between=leave)
    assert len(got) == len(set(got))
    assert set(got) >= set(server.rows)


@given(
    rows=st.integers(0, 60),
    limit=st.integers(1, 7),
    seed=st.integers(0, 10**6),
    busy=st.integers(1, 4),
    where=st.sampled_from(["front", "back", "anywhere"]),
    headers=st.sampled_from(["both", "items", "pages", "none"]),
)
@settings(max_examples=400, deadline=None)
def test_arrivals_alone_lose_nothing(rows: int, limit: int, seed: int, busy: int, where: str, headers: Headers) -> None:
    """Rows that were there are all delivered, once, however many others arrive while the list is read."""
    rng = random.Random(seed)
    server = List(rows, headers=headers)
    new_rows = iter(range(1000, 10**6))
    left = 200

    def arrive() -> None:
        nonlocal left
        # No more than a page minus one at a time: a whole page of arrivals cannot be told from a repeated page
        # where no total is sent.
        for _ in range(min(rng.randrange(busy), left, limit - 1)):
            left -= 1
            place = {"front": 0, "back": len(server.rows), "anywhere": rng.randint(0, len(server.rows))}[where]
            server.rows.insert(place, next(new_rows))

    got = walk(server, limit, between=arrive)
    assert len(got) == len(set(got))
    assert set(got) >= set(range(rows))


@given(rows=st.integers(0, 80), limit=st.integers(1, 9), seed=st.integers(0, 10**6))
@settings(max_examples=200, deadline=None)
def test_totals_at_random_end_the_walk(rows: int, limit: int, seed: int) -> None:
    """No sequence of totals makes the walk endless or doubles a row."""
    rng = random.Random(seed)
    server = List(rows, headers="items")
    server.lie = lambda total: rng.randint(0, 2 * total + 2)
    got = walk(server, limit, most=10 * (rows + 5))
    assert len(got) == len(set(got))


# -- what was delivered ------------------------------------------------------------------------------------------------


@given(pages=st.lists(st.lists(st.integers(-600, 600), max_size=8), max_size=30))
def test_each_row_is_new_once(pages: list[list[int]]) -> None:
    """A row is new when it comes first, and never again."""
    seen, known = SeenKeys(), set[int]()
    for keys in pages:
        wanted = [position for position, key in enumerate(keys) if key not in {*known, *keys[:position]}]
        assert list(seen.add_new(PageResult((), keys, PageTotals()))) == wanted
        known.update(keys)
        assert len(seen) == len(known)
