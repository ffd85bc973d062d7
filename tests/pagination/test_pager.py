"""Lists as users meet them: iteration, pages, walks, prefetch, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import pytest
from attrs import define, field

from harness_async import HarnessClient, NotFoundError, Pager, RetryPolicy, ServerError
from harness_async.http.transport import RawResponse, ServerClock
from harness_async.pagination.pager import ListPager
from harness_async.pagination.source import FetchedPage, ListSpec, PageTotals, hash_by
from harness_async.testing import ClipPages, FakeHarness, Status
from harness_async.testing import Totals as TotalsFault


@define
class Shelf:
    """A source of pages that answers when it is told to, and remembers what it was asked."""

    rows: int
    gate: Callable[[int], Awaitable[None]] | None = None
    first_page: int = 1
    clock: ServerClock = field(factory=ServerClock)
    asked: list[int] = field(factory=list)
    under_way: int = 0
    most_under_way: int = 0

    @property
    def identity(self) -> object:
        return self.rows

    async def fetch(self, number: int, limit: int, bounds: object = None) -> FetchedPage[int]:
        self.asked.append(number)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate(number)
        finally:
            self.under_way -= 1
        begin = (number - self.first_page) * limit
        rows = list(range(begin, min(begin + limit, self.rows)))
        return FetchedPage(items=rows, totals=PageTotals(items=self.rows, pages=None, size=limit))

    def decode(self, response: RawResponse) -> FetchedPage[int]:
        raise AssertionError(response)

    def pager(self, *, limit: int = 10, prefetch: int = 0) -> Pager[int]:
        return ListPager(ListSpec(source=self, hash_keys=hash_by(lambda row: row), limit=limit, prefetch=prefetch))


@pytest.fixture
async def fake() -> AsyncIterator[FakeHarness]:
    async with FakeHarness() as server:
        server.add_project("default", "web")
        server.add_executions("default", "web", 250)
        yield server


@pytest.fixture
async def client(fake: FakeHarness) -> AsyncIterator[HarnessClient]:
    retry = RetryPolicy(initial_backoff=0.001, max_backoff=0.002)
    async with HarnessClient(fake.api_key, base_url=fake.url, rate_limit=None, retry=retry) as made:
        yield made


def others() -> set[asyncio.Task[object]]:
    """Tasks besides the one that asks."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


# -- what a pager offers -------------------------------------------------------------------------------------------


async def test_each_iteration_is_a_walk_of_its_own() -> None:
    """A pager can be iterated as often as one likes, each time from the beginning."""
    pager = Shelf(25).pager()
    assert [row async for row in pager] == list(range(25))
    assert [row async for row in pager] == list(range(25))


async def test_pages_tell_what_the_server_told() -> None:
    """A page has its rows, its number as the API counts, its size and the totals."""
    pages = [page async for page in Shelf(25).pager().pages()]
    assert [(page.number, list(page.items), page.size, page.total_items) for page in pages] == [
        (1, list(range(10)), 10, 25),
        (2, list(range(10, 20)), 10, 25),
        (3, list(range(20, 25)), 10, 25),
    ]


async def test_an_empty_list_has_one_empty_page() -> None:
    """Where there is nothing, the page that says so is delivered once."""
    pages = [page async for page in Shelf(0).pager().pages()]
    assert [list(page.items) for page in pages] == [[]]


@pytest.mark.parametrize(("most", "asked"), [(None, 3), (0, 0), (1, 1), (10, 1), (11, 2), (99, 3)])
async def test_collect_asks_for_no_page_it_does_not_need(most: int | None, asked: int) -> None:
    """`collect` gives a list, at most so many items, and stops asking when it has them."""
    shelf = Shelf(25)
    assert await shelf.pager().collect(most) == list(range(25))[:most]
    assert len(shelf.asked) == asked


@pytest.mark.parametrize("most", [-1, 1.5, "3", True])
async def test_collect_refuses_what_is_no_number(most: int) -> None:
    """A bad `max_items` fails before anything is sent."""
    shelf = Shelf(25)
    with pytest.raises(ValueError, match="max_items"):
        await shelf.pager().collect(most)
    assert shelf.asked == []


async def test_first_and_count_take_one_request_each(client: HarnessClient, fake: FakeHarness) -> None:
    """The first item and the total cost one request of one row."""
    pager = client.executions.list("default", "web")
    first = await pager.first()
    assert first is not None
    assert first.pipeline_execution_id == fake.executions("default", "web")[0]["pipeline_execution_id"]
    assert await pager.count() == 250
    assert [request.query["limit"] for request in fake.requests] == [["1"], ["1"]]


async def test_first_and_count_of_nothing(client: HarnessClient, fake: FakeHarness) -> None:
    """An empty list has no first item and a total of 0; a server without totals leaves the total open."""
    fake.add_project("default", "empty")
    assert await client.executions.list("default", "empty").first() is None
    assert await client.executions.list("default", "empty").count() == 0
    fake.totals = "none"
    assert await client.executions.list("default", "empty").count() is None


async def test_a_walk_reports_what_it_cost() -> None:
    """The report counts requests, pages, rows, and grows while the walk goes on."""
    async with Shelf(25).pager().walk() as walk:
        assert walk.report.requests == 0
        async for row in walk:
            if row == 12:
                break
        assert (walk.report.requests, walk.report.pages, walk.report.rows) == (2, 2, 20)
        rest = [row async for row in walk]
    assert rest == list(range(13, 25)), "a second loop goes on where the first was left"
    report = walk.report
    assert (report.guarantee, report.requests, report.pages, report.rows, report.duplicates) == ("live", 3, 3, 25, 0)


@pytest.mark.parametrize("limit", [0, 1001, -1, 1.5, "10", True])
def test_a_page_size_the_api_does_not_take_is_refused(limit: int) -> None:
    """`limit` is 1 to 100, or to 1000 for some lists, or a `ValueError` before anything is sent."""
    client = HarnessClient("pat.acc.id.secret")
    with pytest.raises(ValueError, match="limit"):
        client.executions.list("default", "web", limit=limit)
    with pytest.raises(ValueError, match="limit"):
        client.organizations.list(limit=limit)
    with pytest.raises(ValueError, match="limit"):
        client.paginate("/v1/orgs", limit=limit)


@pytest.mark.parametrize("prefetch", [-1, 1.5, "1", None, True])
def test_a_prefetch_that_is_no_number_is_refused(prefetch: int) -> None:
    """`prefetch` is a number of pages from 0 on."""
    with pytest.raises(ValueError, match="prefetch"):
        HarnessClient("pat.acc.id.secret").executions.list("default", "web", prefetch=prefetch)


def test_a_consistency_that_does_not_exist_is_refused() -> None:
    """A word that means nothing is refused with the words that do."""
    with pytest.raises(ValueError, match="live"):
        HarnessClient("pat.acc.id.secret").executions.list("default", "web", consistency="eventual")  # type: ignore[arg-type]


# -- over HTTP -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("totals", ["iacm", "v1", "both", "none"])
@pytest.mark.parametrize("rows", [0, 1, 99, 100, 101, 200, 5000])
@pytest.mark.parametrize("prefetch", [0, 2])
async def test_every_row_once_at_the_least_cost(
    client: HarnessClient, fake: FakeHarness, totals: str, rows: int, prefetch: int
) -> None:
    """With either family of headers the requests are those the rows need; without totals at most one more."""
    fake.totals = totals  # type: ignore[assignment]
    fake.add_project("default", "sized")
    fake.add_executions("default", "sized", rows)
    async with client.executions.list("default", "sized", prefetch=prefetch).walk() as walk:
        keys = [row.pipeline_execution_id async for row in walk]
    assert keys == [row["pipeline_execution_id"] for row in fake.executions("default", "sized")]
    assert walk.report.requests == len(fake.requests) <= rows // 100 + 1 + (totals == "none")


@pytest.mark.parametrize("totals", ["iacm", "v1", "none"])
async def test_a_server_that_clips_pages_loses_nothing(client: HarnessClient, fake: FakeHarness, totals: str) -> None:
    """Pages of 30 where 100 were asked for, told or not: every row comes, once."""
    fake.totals = totals  # type: ignore[assignment]
    fake.faults.add(ClipPages(30))
    rows = await client.executions.list("default", "web").collect()
    assert len({row.key for row in rows}) == len(rows) == 250


@pytest.mark.parametrize("items", ["-3", "many", "", "7", "99999", "1e3", "9" * 5000])
async def test_totals_that_are_wrong_or_no_number_lose_nothing(
    client: HarnessClient, fake: FakeHarness, items: str
) -> None:
    """Whatever the headers say, the rows are what counts."""
    fake.faults.add(TotalsFault(items=items, pages=items))
    rows = await client.executions.list("default", "web").collect()
    assert len({row.key for row in rows}) == len(rows) == 250


@pytest.mark.parametrize("past_end", [400, 404])
async def test_an_error_past_the_end_is_the_end(client: HarnessClient, fake: FakeHarness, past_end: int) -> None:
    """A server that refuses the page behind the last one has no more rows."""
    fake.totals, fake.past_end = "none", past_end  # type: ignore[assignment]
    fake.add_project("default", "even")
    fake.add_executions("default", "even", 200)
    assert len(await client.executions.list("default", "even").collect()) == 200


async def test_a_list_that_does_not_exist_is_an_error(client: HarnessClient) -> None:
    """A project that is not there is no empty list."""
    with pytest.raises(NotFoundError):
        await client.executions.list("default", "nowhere").collect()


async def test_a_failure_in_the_middle_comes_after_the_rows_before_it(client: HarnessClient, fake: FakeHarness) -> None:
    """Rows that were received are delivered before the error of the page behind them, with prefetch too."""
    fake.faults.add(Status(501), when=lambda request: request.query.get("page") == ["3"])
    for prefetch in (0, 5):
        got = []
        with pytest.raises(ServerError):
            async for row in client.executions.list("default", "web", prefetch=prefetch):
                got.append(row)  # noqa: PERF401 - what came before the error counts
        assert len(got) == 200


# -- prefetch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [1, 2, 8])
async def test_a_slow_consumer_holds_the_server_back(prefetch: int) -> None:
    """No more than `prefetch` pages are asked for ahead of the page in hand, and live asks one at a time."""
    shelf = Shelf(495)
    gaps = []
    async for page in shelf.pager(prefetch=prefetch).pages():
        for _ in range(50):
            await asyncio.sleep(0)
        gaps.append(len(shelf.asked) - page.number)
    assert max(gaps) == prefetch
    assert shelf.most_under_way == 1
    assert shelf.asked == list(range(1, 51))


async def test_without_prefetch_nothing_is_asked_ahead() -> None:
    """By default a page is asked for when the consumer wants it."""
    shelf = Shelf(50)
    async for page in shelf.pager().pages():
        await asyncio.sleep(0)
        assert len(shelf.asked) == page.number


# -- leaving early -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [0, 8])
async def test_break_leaves_nothing_behind(prefetch: int) -> None:
    """A loop left early ends the walk: no task goes on, nothing more is asked for."""
    shelf = Shelf(500)
    async for row in shelf.pager(prefetch=prefetch):
        if row == 25:
            break
    for _ in range(5):
        await asyncio.sleep(0)
    asked = len(shelf.asked)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not others()
    assert len(shelf.asked) == asked <= 3 + prefetch
    assert shelf.under_way == 0


async def test_aclose_ends_a_walk_at_once_and_twice() -> None:
    """Behind `aclose` nothing of the walk is under way; a second one does nothing."""
    shelf = Shelf(500)
    async with aclosing(shelf.pager(prefetch=8).pages()) as pages:
        await anext(pages)
    assert not others()
    walk = shelf.pager(prefetch=8).walk()
    await walk.read_page()
    await walk.aclose()
    await walk.aclose()
    assert not others()
    assert await walk.read_page() is None


async def test_an_error_in_the_loop_ends_the_walk() -> None:
    """A consumer that raises leaves no task behind."""
    with pytest.raises(ZeroDivisionError):
        async with Shelf(500).pager(prefetch=8).walk() as walk:
            async for row in walk:
                _ = 1 // (row - 12)
    assert not others()


@pytest.mark.parametrize("prefetch", [0, 4])
async def test_a_cancelled_consumer_leaves_nothing_behind(prefetch: int) -> None:
    """Cancelling the task that iterates cancels what it asked for."""
    never = asyncio.Event()

    async def stall(number: int) -> None:
        if number == 3:
            await never.wait()

    shelf = Shelf(500, stall)

    async def consume() -> None:
        async with shelf.pager(prefetch=prefetch).walk() as walk:
            async for _ in walk:
                pass

    task = asyncio.create_task(consume())
    while 3 not in shelf.asked:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not others()
    assert shelf.under_way == 0


# -- lists of lists ------------------------------------------------------------------------------------------------


async def test_all_projects_come_in_the_order_of_their_organizations() -> None:
    """`list_all` walks every organization and gives every project once."""
    async with (
        FakeHarness.seeded(projects=120, executions=0) as fake,
        HarnessClient(fake.api_key, base_url=fake.url, rate_limit=None) as client,
    ):
        pager = client.projects.list_all()
        refs = [str(project.ref) async for project in pager]
        assert sorted(refs) == sorted(f"{org}/{project}" for org, project in fake.projects)
        orgs = [ref.split("/")[0] for ref in refs]
        assert orgs == sorted(orgs, key=list(dict.fromkeys(orgs)).index), "not mixed"
        assert await pager.count() == 120
        first = await pager.first()
        assert first is not None
        assert str(first.ref) == refs[0]
        chosen = await client.projects.list_all(orgs=orgs[:1]).collect()
        assert {project.org for project in chosen} == {orgs[0]}


async def test_a_chain_left_early_leaves_nothing_behind() -> None:
    """Breaking out of `list_all` ends all the lists under way."""
    async with (
        FakeHarness.seeded(projects=120, executions=0) as fake,
        HarnessClient(fake.api_key, base_url=fake.url, rate_limit=None) as client,
    ):
        async with client.projects.list_all().walk() as walk:
            async for _ in walk:
                break
        assert not [task for task in others() if "PageWalk" in repr(task)]
        assert walk.report.requests >= 2


async def test_an_organization_that_fails_ends_list_all_but_one_that_vanished_does_not(
    client: HarnessClient, fake: FakeHarness
) -> None:
    """A denied organization is an error, for rows would be missing; one that is gone has none."""
    fake.add_project("other", "app")
    fake.faults.add(Status(404, envelope="v1"), path="*/orgs/other/projects", times=1)
    assert [project.identifier async for project in client.projects.list_all()] == ["web"]
    fake.faults.add(Status(404, envelope="v1"), path="*/orgs/other/projects", times=1)
    with pytest.raises(NotFoundError):
        await client.projects.list_all(orgs=["other"]).collect()
    fake.faults.add(Status(501, envelope="v1"), path="*/orgs/other/projects", times=1)
    with pytest.raises(ServerError):
        await client.projects.list_all().collect()
