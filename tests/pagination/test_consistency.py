"""Checked and strict over HTTP: what they deliver, what it costs, and what the report says."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

import attrs
import pytest

from harness_async import BadRequestError, Execution, HarnessClient, NotFoundError, PaginationError, WalkReport
from harness_async.testing import Churn, ClipPages, Delay, FakeHarness, Fault, RecordedRequest, Status, Totals
from harness_async.testing.responses import FakeResponse, Json
from harness_async.types import Consistency

BOTH = pytest.mark.parametrize("consistency", ["checked", "strict"])
ORDERS = pytest.mark.parametrize("order", ["newest", "oldest", "hash"])
HOUR = 3600.0


@pytest.fixture
async def fake() -> AsyncIterator[FakeHarness]:
    """A server with one project, whose rows arrive a little after the moment at which a window is frozen."""
    server = FakeHarness(clock=lambda: time.time() + 0.01)
    server.add_project("default", "web")
    async with server:
        yield server


@pytest.fixture
async def client(fake: FakeHarness, connect: Callable[..., HarnessClient]) -> HarnessClient:
    """A client of the server that is not paced."""
    return connect(rate_limit=None, pacer=None)


def fill(fake: FakeHarness, rows: int, *, apart: int = 1000, ago: float = 60.0) -> list[Json]:
    """Add rows, so many milliseconds apart, the youngest so many seconds old."""
    newest = round(1000 * (fake.clock() - ago))
    return [fake.add_execution("default", "web", created=newest - apart * number) for number in range(rows)]


def identity(row: Execution | Json) -> str:
    return row["pipeline_execution_id"] if isinstance(row, dict) else row.pipeline_execution_id


async def read(
    client: HarnessClient, consistency: Consistency, **options: Any
) -> tuple[list[str], WalkReport]:  # fmt: skip
    """Walk the list to its end; give what came and the report."""
    async with client.executions.list("default", "web", consistency=consistency, **options).walk() as walk:
        got = [identity(row) async for row in walk]
    assert walk.report.rows == len(got)
    return got, walk.report


def others() -> list[asyncio.Task[object]]:
    """Tasks of walks."""
    return [task for task in asyncio.all_tasks() if "PageWalk" in repr(task)]


# -- lists at rest -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("totals", ["iacm", "v1"])
@pytest.mark.parametrize("rows", [0, 1, 99, 100, 101, 200, 5000])
@pytest.mark.parametrize("prefetch", [0, 8])
async def test_a_quiet_list_is_exact_at_the_least_cost(
    client: HarnessClient, fake: FakeHarness, totals: Any, rows: int, prefetch: int
) -> None:
    """Checked costs the requests that the pages need, not one more, and proves that it has everything, in order."""
    fake.totals = totals
    fill(fake, rows)
    got, report = await read(client, "checked", prefetch=prefetch)
    assert got == [identity(row) for row in fake.executions("default", "web")]
    assert report.requests == len(fake.requests) == max(1, -(-rows // 100))
    assert report.guarantee == "exact"
    assert report.duplicates == 0


@pytest.mark.parametrize("rows", [0, 1, 99, 100, 101, 200, 5000])
@pytest.mark.parametrize("prefetch", [0, 8])
@BOTH
async def test_without_totals_at_most_one_request_more(
    client: HarnessClient, fake: FakeHarness, consistency: Consistency, rows: int, prefetch: int
) -> None:
    """Where the server tells no totals the window is sought, for one request more at most in lists of this size."""
    fake.totals = "none"
    fill(fake, rows)
    got, report = await read(client, consistency, prefetch=prefetch)
    assert got == [identity(row) for row in fake.executions("default", "web")]
    assert report.requests == len(fake.requests) <= max(1, -(-rows // 100)) + 1
    assert report.guarantee == "seek"


@ORDERS
@pytest.mark.parametrize("rows", [0, 1, 9, 10, 11, 95])
async def test_strict_says_seek(client: HarnessClient, fake: FakeHarness, order: Any, rows: int) -> None:
    """Strict reads every row once, whatever the order, and its report says how."""
    fake.order = order
    expected = fill(fake, rows)
    got, report = await read(client, "strict", limit=10)
    assert sorted(got) == sorted(map(identity, expected))
    assert report.guarantee == "seek"


@BOTH
async def test_rows_of_one_moment_in_an_order_that_changes(
    client: HarnessClient, fake: FakeHarness, consistency: Consistency
) -> None:
    """Ties that swap places between two requests lose nothing, unless the report says best effort."""
    fake.order = "random_ties"
    for _ in range(8):
        expected = [identity(row) for row in fill(fake, 60, apart=10)]
        got, report = await read(client, consistency, limit=12)
        assert len(got) == len(set(got))
        assert sorted(got) == sorted(expected)
        assert report.guarantee in {"exact", "seek"}
        fake.remove_project("default", "web")
        fake.add_project("default", "web")


# -- the window ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end_time", ["inclusive", "exclusive"])
@pytest.mark.parametrize("as_datetime", [False, True])
@ORDERS
@BOTH
async def test_the_callers_window_is_the_window(
    client: HarnessClient, fake: FakeHarness, consistency: Consistency, order: Any, as_datetime: bool, end_time: Any
) -> None:
    """The caller's own times are the freeze, to the millisecond, whatever the server takes its end for."""
    fake.order, fake.end_time = order, end_time
    created = [row["created"] for row in fill(fake, 50)]
    start, end = created[40], created[3]
    got, report = await read(
        client,
        consistency,
        limit=10,
        start_time=datetime.fromtimestamp(start / 1000, UTC) if as_datetime else start,
        end_time=datetime.fromtimestamp(end / 1000, UTC) if as_datetime else end,
    )
    expected = {
        identity(row)
        for row in fake.executions("default", "web")
        if start <= row["created"] <= end - (end_time == "exclusive")
    }
    assert len(got) == len(expected)
    assert set(got) == expected
    assert report.window == (start, end)


@BOTH
async def test_an_open_window_ends_at_the_servers_now(
    client: HarnessClient, fake: FakeHarness, consistency: Consistency
) -> None:
    """The window has the caller's start and an end between the beginning and the end of the walk."""
    fill(fake, 30)
    before = int(1000 * time.time())
    _, report = await read(client, consistency, limit=10, start_time=5)
    assert report.window is not None
    assert report.window[0] == 5
    assert report.window[1] is not None
    assert before <= report.window[1] <= 1000 * time.time()
    assert {request.query["end_time"][0] for request in fake.requests[:1]} == {str(report.window[1])}


async def test_live_has_no_window(client: HarnessClient, fake: FakeHarness) -> None:
    """Live freezes nothing and says so, even where the caller gave times."""
    fill(fake, 30)
    for options in ({}, {"end_time": 10**15}):
        got, report = await read(client, "live", limit=10, **options)
        assert len(got) == 30
        assert report.window is None
        assert report.guarantee == "live"


@attrs.frozen
class WrongDate(Fault):
    """Send a `Date` that is off by so many seconds."""

    seconds: float

    def apply(self, response: FakeResponse) -> FakeResponse:
        """Put the date in."""
        date = formatdate(time.time() + self.seconds, usegmt=True)
        return attrs.evolve(response, headers={**response.headers, "Date": date})


@pytest.mark.parametrize("seconds", [-HOUR, HOUR], ids=["behind", "ahead"])
@ORDERS
@BOTH
async def test_the_window_follows_the_servers_clock(
    client: HarnessClient, fake: FakeHarness, consistency: Consistency, order: Any, seconds: float
) -> None:
    """With clocks an hour apart the window ends within a second of the server's now, and nothing older is lost."""
    fake.order = order
    fake.clock = lambda: time.time() + seconds
    fake.faults.add(WrongDate(seconds))
    fill(fake, 150, apart=60_000, ago=2.0)
    fake.before_request = Churn(fake, "default", "web", arrivals=0.5, departures=0.0)
    for first in (True, False):
        fake.requests.clear()
        now = fake.now()
        listed = fake.executions("default", "web")
        got, report = await read(client, consistency, limit=20)
        assert len(got) == len(set(got))
        assert set(got) >= {identity(row) for row in listed if row["created"] <= now - 1500}
        assert report.window is not None
        assert report.window[1] is not None
        assert now - 1500 <= report.window[1] <= now + 1500
        ends = [int(request.query["end_time"][0]) for request in fake.requests]
        # One request is the price of the first walk, none of the next.
        assert ends[first] == report.window[1]
        assert (ends[0] == report.window[1]) is not first


async def test_an_empty_list_has_its_empty_page_with_a_wrong_clock_too(
    client: HarnessClient, fake: FakeHarness
) -> None:  # fmt: skip
    """A walk that begins anew because of the clock delivers the page that says that there is nothing."""
    fake.faults.add(WrongDate(HOUR))
    pages = [page async for page in client.executions.list("default", "web", consistency="checked").pages()]
    assert [list(page.items) for page in pages] == [[]]


# -- a filter that does nothing ------------------------------------------------------------------------------------


@ORDERS
async def test_checked_goes_on_without_a_filter_that_does_nothing(
    client: HarnessClient, fake: FakeHarness, order: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows outside the window show that the filter is not what we assume: all come, best effort, with one warning."""
    fake.order, fake.end_time = order, "ignored"
    expected = {identity(row) for row in fill(fake, 95)}
    churn = fake.before_request = Churn(fake, "default", "web", arrivals=1.0, departures=0.0, seed=3)
    with caplog.at_level(logging.WARNING, logger="harness_async"):
        got, report = await read(client, "checked", limit=10)
    assert churn.arrived
    assert len(got) == len(set(got))
    assert set(got) >= expected
    assert report.guarantee == "best_effort"
    assert report.window is None
    assert [record.name for record in caplog.records] == ["harness_async"]
    assert "best effort" in caplog.text
    assert fake.api_key not in caplog.text


@pytest.mark.parametrize("prefetch", [0, 4])
async def test_a_window_of_the_callers_that_does_nothing_is_told_on_the_first_page(
    client: HarnessClient, fake: FakeHarness, caplog: pytest.LogCaptureFixture, prefetch: int
) -> None:
    """What the caller's own filters do not keep out is delivered, and said to be best effort."""
    fake.end_time = "ignored"
    rows = fill(fake, 95)
    got, report = await read(client, "checked", limit=10, prefetch=prefetch, end_time=rows[50]["created"])
    assert sorted(got) == sorted(map(identity, rows))
    assert report.guarantee == "best_effort"
    assert [record.name for record in caplog.records] == ["harness_async"]


@ORDERS
async def test_strict_refuses_a_filter_that_does_nothing(client: HarnessClient, fake: FakeHarness, order: Any) -> None:
    """Strict cannot go on without the filter, and the error says what can."""
    fake.order, fake.end_time = order, "ignored"
    fill(fake, 95)
    fake.before_request = Churn(fake, "default", "web", arrivals=1.0, departures=0.0, seed=3)
    with pytest.raises(PaginationError, match="`checked` continues") as caught:
        await read(client, "strict", limit=10)
    assert fake.api_key not in str(caught.value)


# -- lists that move -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [0, 3])
async def test_a_status_filter_is_sought(client: HarnessClient, fake: FakeHarness, prefetch: int) -> None:
    """With a status set, rows enter and leave the list while they exist: more than one page is sought."""
    rows = fill(fake, 60)
    stable = {identity(row) for row in rows[::2]}
    for row in rows[1::2]:
        fake.set_status(row, "failure")
    churn = Churn(fake, "default", "web", arrivals=0.3, departures=0.0, status_changes=0.0)

    def change(request: RecordedRequest) -> None:
        churn(request)
        number = len(fake.requests)
        fake.set_status(rows[(7 * number) % 60 | 1], ("success", "failure")[number % 2])

    fake.before_request = change
    got, report = await read(client, "checked", limit=10, status="success", prefetch=prefetch)
    assert report.guarantee == "seek"
    assert len(got) == len(set(got))
    assert set(got) >= stable


async def test_a_status_filter_with_part_of_a_page_is_exact(client: HarnessClient, fake: FakeHarness) -> None:
    """A list that does not fill its first page is one atomic read, with a status too."""
    fill(fake, 9)
    _, report = await read(client, "checked", limit=10, status="success")
    assert (report.guarantee, report.requests) == ("exact", 1)


@pytest.mark.parametrize("prefetch", [0, 3])
@ORDERS
async def test_departures_between_pages_are_covered(
    client: HarnessClient, fake: FakeHarness, order: Any, prefetch: int
) -> None:
    """Rows that go away behind us pull others past us; a second pass, backwards, brings them."""
    fake.order = order
    fill(fake, 60)
    listed = fake.executions("default", "web")
    gone = [listed[0], listed[3], listed[14]]

    def leave(_: RecordedRequest) -> None:
        if len(fake.requests) == 4:
            for row in gone:
                fake.remove_execution(row)

    fake.before_request = leave
    got, report = await read(client, "checked", limit=10, prefetch=prefetch)
    assert report.guarantee == "covered"
    assert report.requests <= 12
    assert len(got) == len(set(got))
    assert set(got) >= {identity(row) for row in listed} - {identity(row) for row in gone}


@pytest.mark.parametrize("prefetch", [0, 4])
@pytest.mark.parametrize("late", [False, True], ids=["together", "apart"])
@ORDERS
@BOTH
async def test_every_stable_row_comes_once(
    client: HarnessClient, fake: FakeHarness, consistency: Consistency, order: Any, late: bool, prefetch: int
) -> None:
    """Rows arrive and go away all the time, before a request or between its count and its rows: what stays comes."""
    fake.order = order
    verdicts = set()
    for seed in range(12):
        fake.remove_project("default", "web")
        fake.add_project("default", "web")
        limit = 5 + (3 * seed) % 16
        before = {identity(row) for row in fill(fake, 10 + 7 * seed)}
        churn = Churn(fake, "default", "web", seed=seed, arrivals=0.4, departures=0.3)
        if late:
            fake.before_request, fake.between_count_and_rows = None, churn
        else:
            fake.before_request, fake.between_count_and_rows = churn, None
        got, report = await read(client, consistency, limit=limit, prefetch=prefetch)
        stable = before - {identity(row) for row in churn.departed}
        assert len(got) == len(set(got)), "a row came twice"
        assert set(got) >= stable, f"seed {seed} lost rows, said {report.guarantee}"
        assert set(got) <= before, "delivered what was not in the window"
        verdicts.add(report.guarantee)
    assert verdicts <= {"exact", "covered", "seek"}
    assert ("covered" in verdicts) is (consistency == "checked")


@ORDERS
@pytest.mark.parametrize("end_time", ["inclusive", "exclusive"])
async def test_strict_lives_with_rows_that_appear_late(
    client: HarnessClient, fake: FakeHarness, order: Any, end_time: Any
) -> None:
    """Rows that appear inside the window while it is read make strict neither lose nor double any other."""
    fake.order, fake.end_time = order, end_time
    for seed in range(8):
        fake.remove_project("default", "web")
        fake.add_project("default", "web")
        before = {identity(row) for row in fill(fake, 100)}
        churn = Churn(fake, "default", "web", seed=seed, arrivals=0.2, departures=0.3, late=0.5, late_by=160.0)
        fake.before_request = churn
        got, report = await read(client, "strict", limit=12)
        assert len(got) == len(set(got))
        assert set(got) >= before - {identity(row) for row in churn.departed}
        assert report.guarantee == "seek"


# -- servers that lie, clip and refuse -----------------------------------------------------------------------------

LIES: dict[str, Fault] = {
    "too high": Totals(items=9999, pages=100),
    "a little too high": Totals(items=252, pages=3),
    "too low": Totals(items=130, pages=2),
    "much too low": Totals(items=1, pages=1),
    "nothing": Totals(items=0, pages=0),
    "negative": Totals(items=-3, pages=-1),
    "words": Totals(items="many", pages="some"),
    "too long": Totals(items="9" * 5000, pages="9" * 5000),
    "left out": Totals(items=None, pages=None, size=None),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("clip", [None, 30])
@pytest.mark.parametrize("past_end", ["empty", 404, 400])
@BOTH
async def test_totals_that_lie_lose_nothing(
    client: HarnessClient, fake: FakeHarness, consistency: Consistency, lie: str, clip: int | None, past_end: Any
) -> None:
    """Whatever the totals say, clipped pages or not, every row comes once and the walk ends."""
    fake.past_end = past_end
    fake.faults.add(LIES[lie])
    if clip:
        fake.faults.add(ClipPages(clip))
    expected = [identity(row) for row in fill(fake, 250)]
    got, report = await read(client, consistency)
    assert sorted(got) == sorted(expected)
    assert report.requests < 130 + (9999 // 30 if lie == "too high" else 0)
    assert report.guarantee in {"exact", "seek", "best_effort"}


@pytest.mark.parametrize("totals", ["iacm", "v1", "none"])
@pytest.mark.parametrize("clip", [1, 7, 30, 99])
@pytest.mark.parametrize("past_end", ["empty", 404, 400])
@BOTH
async def test_clipped_pages_lose_nothing(
    client: HarnessClient, fake: FakeHarness, consistency: Consistency, totals: Any, clip: int, past_end: Any
) -> None:
    """Pages smaller than asked for, told or not: every row comes, once."""
    fake.totals, fake.past_end = totals, past_end
    fake.faults.add(ClipPages(clip))
    expected = [identity(row) for row in fill(fake, 100)]
    got, report = await read(client, consistency)
    assert sorted(got) == sorted(expected)
    if consistency == "checked" and totals != "none":
        assert report.requests == -(-100 // clip)
        assert report.guarantee == "exact"


@BOTH
async def test_a_list_that_does_not_exist_is_an_error(client: HarnessClient, consistency: Consistency) -> None:
    """A project that is not there is no empty list."""
    with pytest.raises(NotFoundError):
        await client.executions.list("default", "nowhere", consistency=consistency).collect()


@pytest.mark.parametrize("prefetch", [0, 4])
@BOTH
async def test_a_list_that_goes_away_is_an_error(
    client: HarnessClient, fake: FakeHarness, consistency: Consistency, prefetch: int
) -> None:
    """A project deleted while its list is read is no end of the list."""
    fill(fake, 95)
    fake.faults.add(Status(404), when=lambda _: len(fake.requests) > 3)
    with pytest.raises(NotFoundError):
        await read(client, consistency, limit=10, prefetch=prefetch)
    assert not others()


@BOTH
async def test_a_refused_filter_is_an_error(
    client: HarnessClient, fake: FakeHarness, consistency: Consistency
) -> None:  # fmt: skip
    """A 400 for the first page is told, not taken for an empty list."""
    fake.faults.add(Status(400))
    with pytest.raises(BadRequestError):
        await read(client, consistency)


@pytest.mark.parametrize("consistency", ["live", "checked", "strict"])
async def test_an_empty_list_has_one_empty_page(
    client: HarnessClient, fake: FakeHarness, consistency: Consistency
) -> None:
    """Where there is nothing, the page that says so is delivered once."""
    pages = [page async for page in client.executions.list("default", "web", consistency=consistency).pages()]
    assert [(list(page.items), page.total_items) for page in pages] == [([], 0)]


# -- several at a time ---------------------------------------------------------------------------------------------


async def settle(fake: FakeHarness, requests: int) -> None:
    """Turn the loop until so many requests came in, and then a while longer."""
    async with asyncio.timeout(10):
        while len(fake.requests) < requests:
            await asyncio.sleep(0)
    for _ in range(200):
        await asyncio.sleep(0)


@pytest.mark.parametrize("prefetch", [2, 8])
async def test_checked_asks_for_several_pages_at_once(client: HarnessClient, fake: FakeHarness, prefetch: int) -> None:
    """Behind the first page as many are under way as asked for, none of them answered, and no more."""
    fake.faults.add(Delay(60.0), when=lambda request: request.query["page"] != ["1"])
    fill(fake, 300)
    async with client.executions.list("default", "web", limit=10, prefetch=prefetch, consistency="checked").walk() as w:
        page = await w.read_page()
        assert page is not None
        await settle(fake, 1 + prefetch)
        assert [int(request.query["page"][0]) for request in fake.requests[1:]] == list(range(2, 2 + prefetch))
    assert not others()


async def test_strict_asks_for_one_page_at_a_time(client: HarnessClient, fake: FakeHarness) -> None:
    """Each window of strict follows from the reply before, whatever is prefetched."""
    fake.faults.add(Delay(60.0), when=lambda _: len(fake.requests) > 1)
    fill(fake, 300)
    async with client.executions.list("default", "web", limit=10, prefetch=8, consistency="strict").walk() as walk:
        assert await walk.read_page() is not None
        await settle(fake, 2)
        assert len(fake.requests) == 2
    assert not others()


async def test_a_slow_consumer_holds_checked_back(client: HarnessClient, fake: FakeHarness) -> None:
    """No more than `prefetch` pages are asked for ahead of the page in hand, and pages come in the server's order."""
    fill(fake, 300)
    listed = [identity(row) for row in fake.executions("default", "web")]
    fake.faults.add(Delay(0.003), every=3)  # replies overtake one another
    got, prefetch, pages = [], [], 0
    async for page in client.executions.list("default", "web", limit=10, prefetch=8, consistency="checked").pages():
        pages += 1
        await settle(fake, min(30, pages + 1))
        prefetch.append(len(fake.requests) - pages)
        got += [identity(row) for row in page.items]
    assert max(prefetch) == 8
    assert got == listed
    assert len(fake.requests) == 30


# -- leaving early -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [0, 8])
@BOTH
async def test_a_loop_left_early_leaves_nothing_behind(
    client: HarnessClient, fake: FakeHarness, consistency: Consistency, prefetch: int
) -> None:
    """`break` ends the walk: no task goes on, nothing more is asked for."""
    fill(fake, 300)
    async with client.executions.list(
        "default", "web", limit=10, prefetch=prefetch, consistency=consistency
    ).walk() as walk:
        count = 0
        async for _ in walk:
            count += 1
            if count == 25:
                break
    assert not others()
    asked = len(fake.requests)
    await settle(fake, asked)
    assert len(fake.requests) == asked <= 3 + prefetch
    await walk.aclose()
    assert await walk.read_page() is None


@pytest.mark.parametrize("prefetch", [0, 8])
@BOTH
async def test_a_cancelled_consumer_leaves_nothing_behind(
    client: HarnessClient, fake: FakeHarness, consistency: Consistency, prefetch: int
) -> None:
    """Cancelling the task that reads cancels what it asked for."""
    fill(fake, 300)
    fake.faults.add(Delay(60.0), when=lambda _: len(fake.requests) > 3)
    task = asyncio.create_task(read(client, consistency, limit=10, prefetch=prefetch))
    await settle(fake, 4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not others()
