"""Lists as users meet them: iteration, pages, walks, prefetch, wrong servers, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import attrs
import pytest

from harness_async import HarnessClient, Pager, PaginationError, RetryPolicy, ServerError
from harness_async.http.transport import RawResponse, ServerClock
from harness_async.pagination.pager import ListPager
from harness_async.pagination.source import FetchedPage, ListSpec, hash_by
from harness_async.pagination.source import PageTotals as TotalsOfPage
from harness_async.testing import ChangeJson, ClipPages, FakeHarness, Fault, PageTotals, SamePage, Status, Totals
from harness_async.types import Consistency


@attrs.define
class Shelf:
    """A source of pages that records its requests."""

    rows: int
    first_page: int = 1
    clock: ServerClock = attrs.field(factory=ServerClock)
    requested: list[int] = attrs.field(factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def identity(self) -> object:
        return self.rows

    async def fetch(self, number: int, limit: int, window: object = None, /) -> FetchedPage[int]:
        self.requested.append(number)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)
        finally:
            self.in_flight -= 1
        rows = range(self.rows)[(number - self.first_page) * limit :][:limit]
        return FetchedPage(items=list(rows), totals=TotalsOfPage(self.rows, None, limit))

    def decode(self, response: RawResponse) -> FetchedPage[int]:
        raise AssertionError(response)

    def pager(self, *, prefetch: int = 0) -> Pager[int]:
        return ListPager(ListSpec(source=self, hash_keys=hash_by(lambda row: row), limit=10, prefetch=prefetch))


@pytest.fixture
async def fake() -> AsyncIterator[FakeHarness]:
    async with FakeHarness() as server:
        server.add_project("default", "web")
        yield server


@pytest.fixture
async def client(fake: FakeHarness) -> AsyncIterator[HarnessClient]:
    retry = RetryPolicy(initial_backoff=0.001, max_backoff=0.002)
    async with HarnessClient(fake.api_key, base_url=fake.url, rate_limit=None, retry=retry) as made:
        yield made


def other_tasks() -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def test_each_iteration_is_a_walk_of_its_own() -> None:
    """A pager can be iterated any number of times, each time from the beginning."""
    pager = Shelf(25).pager()
    assert [row async for row in pager] == [row async for row in pager] == list(range(25))


@pytest.mark.parametrize(("rows", "sizes"), [(25, [10, 10, 5]), (20, [10, 10]), (0, [0])])
async def test_pages(rows: int, sizes: list[int]) -> None:
    """A page has its rows, its number as the API counts, its size and the totals; an empty list has one empty page."""
    pages = [page async for page in Shelf(rows).pager().pages()]
    assert [len(page.items) for page in pages] == sizes
    assert [page.number for page in pages] == list(range(1, len(sizes) + 1))
    assert {(page.size, page.total_items) for page in pages} == {(10, rows)}


@pytest.mark.parametrize(("most", "requests"), [(None, 3), (0, 0), (1, 1), (10, 1), (11, 2), (99, 3)])
async def test_collect(most: int | None, requests: int) -> None:
    """`collect` returns a list of at most so many items, and stops when it has them."""
    shelf = Shelf(25)
    assert await shelf.pager().collect(most) == list(range(25))[:most]
    assert len(shelf.requested) == requests


async def test_first_and_count_take_one_request_each(client: HarnessClient, fake: FakeHarness) -> None:
    """The first item and the total cost one request of one row, also of an empty list; without totals count is None."""
    pager = client.executions.list("default", "web")
    assert (await pager.first(), await pager.count()) == (None, 0)
    fake.add_executions("default", "web", 250)
    first = await pager.first()
    assert first is not None
    assert first.pipeline_execution_id == fake.executions("default", "web")[0]["pipeline_execution_id"]
    assert await pager.count() == 250
    assert [request.query["limit"] for request in fake.requests] == [["1"]] * 4
    fake.totals = "none"
    assert await pager.count() is None


async def test_a_walk_reports_its_cost() -> None:
    """The report counts requests, pages and rows so far, and a second loop continues where the first one stopped."""
    async with Shelf(25).pager().walk() as walk:
        assert walk.report.requests == 0
        async for row in walk:
            if row == 12:
                break
        assert (walk.report.requests, walk.report.pages, walk.report.rows) == (2, 2, 20)
        assert [row async for row in walk] == list(range(13, 25))
    report = walk.report
    assert (report.guarantee, report.requests, report.pages, report.rows, report.duplicates) == ("live", 3, 3, 25, 0)


@pytest.mark.parametrize("value", [-1, 1.5, "3", True])
async def test_numbers_of_items_that_are_refused(value: Any) -> None:
    """A bad `max_items` fails before a request."""
    shelf = Shelf(25)
    with pytest.raises(ValueError, match="max_items"):
        await shelf.pager().collect(value)
    assert shelf.requested == []


@pytest.mark.parametrize("prefetch", [0, 5])
async def test_a_failure_comes_after_the_rows_before_it(
    client: HarnessClient, fake: FakeHarness, prefetch: int
) -> None:
    """Rows that were received are delivered before the error of the page behind them."""
    fake.add_executions("default", "web", 250)
    fake.faults.add(Status(501), when=lambda request: request.query.get("page") == ["3"])
    pager = client.executions.list("default", "web", prefetch=prefetch)
    got = itertools.count()
    with pytest.raises(ServerError):
        async for _ in pager:
            next(got)
    assert next(got) == 200


PROJECTS: dict[str, Callable[[HarnessClient], Pager[Any]]] = {
    "list": lambda client: client.projects.list("default"),
    "list_all": lambda client: client.projects.list_all(),
    "paginate v1": lambda client: client.paginate("/v1/orgs/default/projects"),
    "paginate ng": lambda client: client.paginate("/ng/api/projects", org="default"),
}


@pytest.mark.parametrize("open_list", PROJECTS.values(), ids=list(PROJECTS))
@pytest.mark.parametrize(
    "fault",
    [None, PageTotals(), Totals(items=100, pages=1), Totals(items=0), Totals(items=999), ClipPages(30)],
    ids=["true", "of the page", "one page", "zero", "too high", "clipped"],
)
async def test_lists_of_projects_are_whole(
    client: HarnessClient, fake: FakeHarness, open_list: Callable[[HarnessClient], Pager[Any]], fault: Fault | None
) -> None:
    """Every project comes once from the first page on, whatever totals and maximum size the server has."""
    for number in range(232):
        fake.add_project("default", f"p{number}")
    fake.v1_max_limit, fake.v1_over_limit = 100, "clip"
    if fault is not None:
        fake.faults.add(fault, path="*/projects")
    rows = await open_list(client).collect()
    assert len(rows) == 233
    assert len({json.dumps(row if isinstance(row, dict) else row.identifier) for row in rows}) == 233
    assert len(fake.requests) <= 40


async def test_wrong_first_page(client: HarnessClient, fake: FakeHarness) -> None:
    """A wrong number of the first page leaves rows out, which the totals show."""
    for number in range(232):
        fake.add_project("default", f"p{number}")
    async with client.paginate("/v1/orgs/default/projects", first_page=1).walk() as walk:
        assert len([row async for row in walk]) == 133
    assert walk.report.guarantee == "best_effort"


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("open_list", PROJECTS.values(), ids=list(PROJECTS))
async def test_projects_with_ignored_page_numbers(
    client: HarnessClient, fake: FakeHarness, open_list: Callable[[HarnessClient], Pager[Any]], shuffled: bool
) -> None:
    """The same hundred rows again and again, in any order, are an error after a bounded number of requests."""
    for number in range(250):
        fake.add_project("default", f"p{number}")
    fake.v1_max_limit, fake.v1_over_limit = 100, "clip"
    fake.faults.add(SamePage(shuffled), path="*/projects")
    with pytest.raises(PaginationError, match="ignore the page number"):
        await open_list(client).collect()
    assert len(fake.requests) <= 20


@pytest.mark.parametrize("consistency", ["live", "checked", "strict"])
async def test_executions_with_ignored_page_numbers(client: HarnessClient, fake: FakeHarness, consistency: Any) -> None:
    """Time windows read such a list, alone and in bulk; live fails."""
    fake.add_executions("default", "web", 250, apart=1000)
    fake.faults.add(SamePage(shuffled=True), path="*/executions")
    pager = client.executions.list("default", "web", consistency=consistency)
    if consistency == "live":
        with pytest.raises(PaginationError, match="ignore the page number"):
            await pager.collect()
    else:
        assert len({row.key for row in await pager.collect()}) == 250
    run = client.executions.bulk(["default/web"], consistency=consistency)
    async with run:
        rows = [row.key async for row in run]
    assert len(rows) == len(set(rows)) == (100 if consistency == "live" else 250)
    assert {outcome.status for outcome in run.report.outcomes.values()} == {
        "failed" if consistency == "live" else "complete"
    }
    assert len(fake.requests) <= 120


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("member", ["seen", "state"])
async def test_unpaged_list_with_a_changing_member(
    client: HarnessClient, fake: FakeHarness, rows: int, member: str
) -> None:
    """A list that ignores paging, and whose rows change at each request, ends after a bounded number of them."""
    turn = itertools.count()
    fake.faults.add(
        ChangeJson(lambda _: [{"id": n, "title": f"t{n}", member: t} for t in [next(turn)] for n in range(rows)])
    )
    try:
        delivered = len(await client.paginate("/v1/orgs").collect())
    except PaginationError:
        delivered = 0
    assert delivered in {0, rows}
    assert len(fake.requests) <= 12


@pytest.mark.parametrize(
    ("foreign", "spelling", "requests", "guarantee"),
    [(0, "WEB", 2, "live"), (1, "web", 3, "live"), (2, "web", 3, "best_effort")],
    ids=["another spelling", "once", "twice"],
)
async def test_a_page_of_another_project(
    client: HarnessClient, fake: FakeHarness, foreign: int, spelling: str, requests: int, guarantee: str
) -> None:
    """It is requested once more on a new connection. If it comes again, it is delivered and the report says so."""
    fake.add_executions("default", "web", 150)

    ports: list[int] = []

    class Ports(Fault):
        replaces = True

        async def respond(self, exchange: Any) -> Any:
            ports.append(exchange._request.transport.get_extra_info("peername")[1])
            return await exchange.send(exchange.response())

    def rename(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "project": "other"} for row in rows]

    fake.faults.add(ChangeJson(rename), times=foreign, when=lambda request: request.query["page"] == ["2"])
    fake.faults.add(Ports())
    async with client.executions.list("default", spelling).walk() as walk:
        rows = [row async for row in walk]
    assert (len(rows), walk.report.requests, walk.report.guarantee) == (150, requests, guarantee)
    assert {row.project for row in rows} == ({"web", "other"} if foreign == 2 else {"web"})
    assert ports[0] == ports[1]
    assert not foreign or ports[2] != ports[1]


@pytest.mark.parametrize("prefetch", [0, 1, 8])
async def test_a_slow_consumer_holds_the_requests_back(prefetch: int) -> None:
    """No more than `prefetch` pages are requested ahead of the consumer, and by `live` one at a time."""
    shelf = Shelf(495)
    ahead = []
    async for page in shelf.pager(prefetch=prefetch).pages():
        for _ in range(50):
            await asyncio.sleep(0)
        ahead.append(len(shelf.requested) - page.number)
    assert max(ahead) == prefetch
    assert shelf.most_in_flight == 1
    assert shelf.requested == list(range(1, 51))


async def test_aclose_ends_a_walk_at_once() -> None:
    """After `aclose`, or an error in the loop, nothing of the walk is in flight; a second `aclose` does nothing."""
    shelf = Shelf(500)
    async with aclosing(shelf.pager(prefetch=8).pages()) as pages:
        await anext(pages)
    assert not other_tasks()
    walk = shelf.pager(prefetch=8).walk()
    await walk.read_page()
    await walk.aclose()
    await walk.aclose()
    assert not other_tasks()
    assert await walk.read_page() is None
    with pytest.raises(ZeroDivisionError):
        async with shelf.pager(prefetch=8).walk() as walk:
            async for row in walk:
                _ = 1 // (row - 12)
    assert not other_tasks()


@pytest.mark.parametrize("prefetch", [0, 4])
async def test_other_tasks(client: HarnessClient, fake: FakeHarness, prefetch: int) -> None:
    """A second task that reads a walk is refused, and one that closes it ends the loop of the first."""
    for _ in range(5):
        fake.add_execution("default", "payments")
    walk = client.executions.list("default", "payments", limit=1, prefetch=prefetch).walk()

    async def count() -> int:
        return len([row async for row in walk])

    first = asyncio.create_task(count())
    while not walk.report.pages:
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="Another task reads this walk"):
        await walk.next_page()
    await walk.aclose()
    assert await first == walk.report.rows < 5


@pytest.mark.parametrize("prefetch", [0, 1, 8])
@pytest.mark.parametrize("consistency", ["checked", "strict"])
async def test_a_walk_that_is_left_early_proves_nothing(
    client: HarnessClient, fake: FakeHarness, consistency: Consistency, prefetch: int
) -> None:
    """Only a walk that was read to its end has the guarantee of its consistency."""
    for number in range(20):
        fake.add_execution("default", "payments", created=fake.now() - 100_000 - 1000 * number)
    pager = client.executions.list("default", "payments", limit=10, prefetch=prefetch, consistency=consistency)
    async with pager.walk() as walk:
        await walk.read_page()
    assert walk.report.guarantee == "best_effort"
    async with pager.walk() as walk:
        assert len([row async for row in walk]) >= 20
    assert walk.report.guarantee in {"exact", "seek"}
    async with client.projects.list_all().walk() as chain:
        await chain.read_page()
    assert chain.report.guarantee == "best_effort"


async def test_a_chain_of_lists(client: HarnessClient, fake: FakeHarness) -> None:
    """A list of lists has a first item and a count, and leaving it early ends all its walks."""
    for number in range(40):
        fake.add_project(f"org{number % 7}", f"p{number}")
    pager = client.projects.list_all()
    projects = await pager.collect()
    assert (await pager.first(), await pager.count()) == (projects[0], 41)
    async with pager.walk() as walk:
        async for _ in walk:
            break
    assert not [task for task in other_tasks() if "PageWalk" in repr(task)]
    assert walk.report.requests >= 2
