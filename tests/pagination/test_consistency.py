"""`checked` and `strict` over HTTP: what they deliver, what it costs, and what the report says."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, TypeAlias

import pytest
from yarl import URL

from harness_async import BadRequestError, Execution, HarnessClient, NotFoundError, PaginationError, WalkReport
from harness_async.testing import (
    ChangeJson,
    Churn,
    Delay,
    FakeHarness,
    Headers,
    RecordedRequest,
    Status,
)
from harness_async.testing.responses import Json
from harness_async.types import Consistency
from tests.support.http import client_of

BOTH = pytest.mark.parametrize("consistency", ["checked", "strict"])
ALL = pytest.mark.parametrize("consistency", ["live", "checked", "strict"])
ORDERS = pytest.mark.parametrize("order", ["newest", "oldest", "hash"])
Read: TypeAlias = Callable[..., Coroutine[Any, Any, tuple[list[str], WalkReport]]]
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


@pytest.fixture
def read(client: HarnessClient) -> Read:
    """A function that walks the list to its end, and returns the rows and the report."""

    async def read(consistency: Consistency, **options: Any) -> tuple[list[str], WalkReport]:
        async with client.executions.list("default", "web", consistency=consistency, **options).walk() as walk:
            got = [identity(row) async for row in walk]
        assert walk.report.rows == len(got) == len(set(got))
        return got, walk.report

    return read


def fill(fake: FakeHarness, rows: int, *, apart: int = 1000, ago: float = 60.0) -> list[Json]:
    """Add rows, so many milliseconds apart, the youngest so many seconds old."""
    newest = round(1000 * (fake.clock() - ago))
    return [fake.add_execution("default", "web", created=newest - apart * number) for number in range(rows)]


def refill(fake: FakeHarness, rows: int, **options: Any) -> set[str]:
    """Replace all rows."""
    fake.remove_project("default", "web")
    fake.add_project("default", "web")
    return {identity(row) for row in fill(fake, rows, **options)}


def identity(row: Execution | Json) -> str:
    return row["pipeline_execution_id"] if isinstance(row, dict) else row.pipeline_execution_id


def tasks_of_walks() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if "PageWalk" in repr(task)]


@pytest.mark.parametrize("totals", ["iacm", "v1", "none"])
@pytest.mark.parametrize("prefetch", [0, 8])
@ORDERS
@ALL
async def test_quiet_lists(
    read: Read, fake: FakeHarness, consistency: Consistency, order: Any, prefetch: int, totals: Any
) -> None:
    """Every row comes once and is proved; reading by pages costs the requests up to the first that is not full."""
    fake.order, fake.totals = order, totals
    for rows in (0, 1, 9, 10, 11, 20, 95):
        refill(fake, rows)
        fake.requests.clear()
        got, report = await read(consistency, limit=10, prefetch=prefetch)
        listed = [identity(row) for row in fake.executions("default", "web")]
        assert sorted(got) == sorted(listed)
        assert report.requests == len(fake.requests) <= 5 * (rows // 10 + 1)
        if consistency == "live" or (consistency == "checked" and totals != "none"):
            assert got == listed
            # Without a total, a short first page may be one that was cut short.
            assert report.requests == rows // 10 + 1 + (totals == "none" and 0 < rows < 10)
            assert (report.guarantee, report.duplicates) == ("exact" if consistency == "checked" else "live", 0)
        else:
            assert report.guarantee == "seek"


@pytest.mark.parametrize(("end_time", "as_datetime"), [("inclusive", False), ("exclusive", True)])
@ORDERS
@BOTH
async def test_the_callers_window_is_read(
    read: Read, fake: FakeHarness, consistency: Consistency, order: Any, as_datetime: bool, end_time: Any
) -> None:
    """The caller's own times are the window, to the millisecond, whether the server includes its end or not."""
    fake.order, fake.end_time = order, end_time
    created = [row["created"] for row in fill(fake, 50)]
    start, end = created[40], created[3]
    got, report = await read(
        consistency,
        limit=10,
        start_time=datetime.fromtimestamp(start / 1000, UTC) if as_datetime else start,
        end_time=datetime.fromtimestamp(end / 1000, UTC) if as_datetime else end,
    )
    last = end - (end_time == "exclusive")
    assert set(got) == {identity(row) for row in fake.executions("default", "web") if start <= row["created"] <= last}
    assert report.window == (start, end)


@pytest.mark.parametrize("ahead", [None, HOUR, 10**9])
@ALL
async def test_open_windows(read: Read, fake: FakeHarness, consistency: Consistency, ahead: float | None) -> None:
    """Without an end, or with one in the future, the window is frozen during the walk; `live` has none."""
    fill(fake, 30)
    before = int(1000 * time.time())
    options = {} if ahead is None else {"end_time": before + int(1000 * ahead)}
    _, report = await read(consistency, limit=10, start_time=5, **options)
    if consistency == "live":
        assert (report.window, report.guarantee) == (None, "live")
        return
    assert report.window is not None
    start, end = report.window
    assert start == 5
    assert end is not None
    assert before <= end <= 1000 * time.time()
    assert fake.requests[0].query["end_time"] == [str(end)]


@BOTH
async def test_departure_with_a_future_end(read: Read, fake: FakeHarness, consistency: Consistency) -> None:
    """One row arrives and one departs behind the reader: every other row comes, whatever the caller's end."""
    rows = fill(fake, 50)

    def move(_: RecordedRequest) -> None:
        if len(fake.requests) == 3:
            fake.remove_execution(rows[0])
            fake.add_execution("default", "web", created=fake.now())

    fake.before_request = move
    got, report = await read(consistency, limit=10, end_time=int(1000 * (time.time() + HOUR)))
    assert set(got) >= {identity(row) for row in rows[1:]}
    assert report.guarantee != "exact"


CLOCKS: dict[str, tuple[float, Mapping[str, str | None]]] = {
    "2 minutes behind": (-120, {}),
    "2 minutes ahead": (120, {}),
    "an hour behind": (-HOUR, {}),
    "an hour ahead": (HOUR, {}),
    "of a cache": (0, {"Date": formatdate(time.time() - HOUR, usegmt=True), "Age": "3600"}),
    "of a cache that hides its age": (0, {"Date": formatdate(time.time() - HOUR, usegmt=True)}),
    "1970": (0, {"Date": "Thu, 01 Jan 1970 00:00:00 GMT"}),
    "2100": (0, {"Date": "Fri, 01 Jan 2100 00:00:00 GMT"}),
    "none": (0, {"Date": "never"}),
}
"""Seconds by which the server's clock differs, and the headers that it sends."""


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("order", ["newest", "hash"])
@BOTH
async def test_wrong_clocks_lose_nothing(
    read: Read, fake: FakeHarness, consistency: Consistency, order: Any, clock: str
) -> None:
    """Every row that is two seconds old comes, in the first walk of a client and in the next."""
    seconds, headers = CLOCKS[clock]
    fake.order, fake.clock = order, lambda: time.time() + seconds
    fake.faults.add(Headers({"Date": formatdate(fake.clock(), usegmt=True), **headers}))
    expected = {identity(row) for row in fill(fake, 120, apart=60_000, ago=2.0)}
    fake.before_request = Churn(fake, "default", "web", arrivals=0.5, departures=0.0)
    for is_first in (True, False):
        fake.requests.clear()
        got, report = await read(consistency, limit=20)
        assert set(got) >= expected
        assert report.window is not None
        end = report.window[1]
        if end is None:
            assert clock in {"none", "of a cache"}
            assert report.guarantee != "exact"
        else:
            assert end <= fake.now()
        if abs(seconds) == 120:
            assert end is not None
            assert end >= fake.now() - 5000
            # A new client takes one request to learn the time.
            assert (fake.requests[0].query["end_time"] == [str(end)]) is not is_first


@pytest.mark.parametrize(("prefetch", "own_end"), [(0, False), (0, True), (4, True)])
@ORDERS
async def test_checked_without_a_time_filter(
    read: Read, fake: FakeHarness, order: Any, prefetch: int, own_end: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows outside the window, of the caller or of the walk, show it: all come, best effort, with one warning."""
    fake.order, fake.end_time = order, "ignored"
    rows = fill(fake, 95)
    fake.before_request = Churn(fake, "default", "web", arrivals=1.0, departures=0.0, seed=3)
    options = {"end_time": rows[50]["created"]} if own_end else {}
    with caplog.at_level(logging.WARNING, logger="harness_async"):
        got, report = await read("checked", limit=10, prefetch=prefetch, **options)
    assert set(got) >= {identity(row) for row in rows}
    assert (report.guarantee, report.window) == ("best_effort", None)
    assert [record.name for record in caplog.records] == ["harness_async"]
    assert "best effort" in caplog.text
    assert fake.api_key not in caplog.text


@pytest.mark.parametrize("consistency", ["checked", "strict"])
@pytest.mark.parametrize("first", [0, 7])
@ORDERS
async def test_rows_without_a_time(
    read: Read, fake: FakeHarness, order: Any, first: int, consistency: Consistency
) -> None:
    """A row without a time says nothing about the filter: it is delivered, and the guarantee stays."""
    fake.order = order
    rows = fill(fake, 95)
    start = rows[-1]["created"]
    missing = {row["pipeline_execution_id"] for row in rows[first::10]}

    def remove(body: Any) -> Any:
        return [{**row, "created": None} if row["pipeline_execution_id"] in missing else row for row in body]

    fake.faults.add(ChangeJson(remove))
    got, report = await read(consistency, limit=30, start_time=start, status=["success", "failure", "none"])
    assert sorted(got) == sorted(identity(row) for row in rows)
    assert report.guarantee == "seek"


@ORDERS
async def test_strict_without_a_time_filter(read: Read, fake: FakeHarness, order: Any) -> None:
    """`strict` cannot continue without the filter, and the error names what can."""
    fake.order, fake.end_time = order, "ignored"
    fill(fake, 95)
    fake.before_request = Churn(fake, "default", "web", arrivals=1.0, departures=0.0, seed=3)
    with pytest.raises(PaginationError, match="`checked` continues") as caught:
        await read("strict", limit=10)
    assert fake.api_key not in str(caught.value)


@pytest.mark.parametrize("prefetch", [0, 3])
async def test_a_status_filter_is_sought(read: Read, fake: FakeHarness, prefetch: int) -> None:
    """With a status filter, rows enter and leave the list: more than one page is sought, one short page is exact."""
    rows = fill(fake, 60)
    for row in rows[1::2]:
        fake.set_status(row, "failure")

    def change(_: RecordedRequest) -> None:
        number = len(fake.requests)
        fake.set_status(rows[(7 * number) % 60 | 1], ("success", "failure")[number % 2])

    fake.before_request = change
    got, report = await read("checked", limit=10, status="success", prefetch=prefetch)
    assert report.guarantee == "seek"
    assert set(got) >= {identity(row) for row in rows[::2]}
    _, report = await read("checked", limit=100, status="success")
    assert (report.guarantee, report.requests) == ("exact", 1)


@pytest.mark.parametrize("prefetch", [0, 4])
@ALL
async def test_a_list_that_does_not_exist_is_an_error(
    client: HarnessClient, read: Read, fake: FakeHarness, consistency: Consistency, prefetch: int
) -> None:
    """A missing project, one deleted during the walk, and a refused filter raise an error, not an empty list."""
    with pytest.raises(NotFoundError):
        await client.executions.list("default", "nowhere", consistency=consistency, prefetch=prefetch).collect()
    fill(fake, 95)
    fake.faults.add(Status(404), when=lambda _: len(fake.requests) > 4)
    with pytest.raises(NotFoundError):
        await read(consistency, limit=10, prefetch=prefetch)
    assert not tasks_of_walks()
    fake.faults.clear()
    fake.faults.add(Status(400))
    with pytest.raises(BadRequestError):
        await read(consistency)


async def settle(fake: FakeHarness, requests: int) -> None:
    """Run the loop until so many requests came in, and then a while longer."""
    async with asyncio.timeout(10):
        while len(fake.requests) < requests:
            await asyncio.sleep(0)
    for _ in range(200):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("consistency", "prefetch", "most"), [("checked", 8, 8), ("strict", 8, 1), ("live", 8, 1)])
@pytest.mark.parametrize("end", ["break", "cancel"])
async def test_requests_in_flight(
    client: HarnessClient, fake: FakeHarness, consistency: Consistency, prefetch: int, most: int, end: str
) -> None:
    """After the first page `checked` has `prefetch` requests in flight, the others one; none outlives the walk."""
    fake.faults.add(Delay(60.0), when=lambda _: len(fake.requests) > 1)
    fill(fake, 300)
    pager = client.executions.list("default", "web", limit=10, prefetch=prefetch, consistency=consistency)

    async def consume() -> None:
        async for row in pager:
            if end == "break" and row.created:
                await settle(fake, 1 + most)
                break

    task = asyncio.create_task(consume())
    await settle(fake, 1 + most)
    if end == "cancel":
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() is (end == "cancel")
    await settle(fake, 1 + most)
    assert len(fake.requests) == 1 + most
    assert not tasks_of_walks()


async def test_a_slow_consumer_holds_checked_back(client: HarnessClient, fake: FakeHarness) -> None:
    """No more than `prefetch` pages are requested ahead of the consumer, and pages come in the server's order."""
    fill(fake, 295)
    listed = [identity(row) for row in fake.executions("default", "web")]
    fake.faults.add(Delay(0.003), every=3)  # responses overtake one another
    got: list[str] = []
    ahead, pages = [], 0
    async for page in client.executions.list("default", "web", limit=10, prefetch=8, consistency="checked").pages():
        pages += 1
        await settle(fake, min(30, pages + 1))
        ahead.append(len(fake.requests) - pages)
        got += [identity(row) for row in page.items]
    assert max(ahead) == 8
    assert got == listed
    assert len(fake.requests) == 30


def sorted_by_change(request: bytes) -> bytes:
    """Respond with a page of 1,000 rows, newest first; the oldest one was changed last, and ends the first page."""
    query = URL(request.split()[1].decode()).query
    start, end = int(query.get("start_time", 0)), int(query.get("end_time", 10**15))
    newest_first = [*range(999, 0, -1)]
    order = [1_600_000_000_000 + 1000 * each for each in (*newest_first[:99], 0, *newest_first[99:])]
    rows = [
        {"org": "default", "project": "web", "pipeline_execution_id": f"e{created}", "pipeline_stage_id": "s"}
        | {"created": created, "status": "success"}
        for created in order
        if start <= created <= end
    ]
    first = (int(query["page"]) - 1) * int(query["limit"])
    body = json.dumps(rows[first : first + int(query["limit"])])
    fields = {
        "Date": formatdate(usegmt=True),
        "x-total-items": len(rows),
        "Content-Type": "application/json",
        "Content-Length": len(body),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 200 OK\r\n{head}\r\n{body}".encode()


@pytest.mark.parametrize(
    "options", [{"consistency": "strict"}, {"consistency": "checked", "status": "success"}], ids=str
)
async def test_list_sorted_by_change(serve: Callable[..., Awaitable[str]], options: dict[str, Any]) -> None:
    """A first page in the order of creation, but for its last row, does not hide the rows behind it."""
    async with client_of(await serve(sorted_by_change)) as client:
        async with client.executions.list("default", "web", **options).walk() as walk:
            rows = {row.created async for row in walk}
        assert len(rows) == walk.report.rows
        assert len(rows) == 1000
        assert walk.report.requests < 60
