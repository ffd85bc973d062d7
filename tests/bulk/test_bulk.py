"""Many projects at once: every row once, one outcome each, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

from harness_async import (
    AuthenticationError,
    BulkError,
    Execution,
    HarnessClient,
    NotFoundError,
    PermissionDeniedError,
    Progress,
    ProjectRef,
    RatePacer,
    RequestSent,
    ResponseReceived,
    RetryPolicy,
    ServerError,
)
from harness_async.bulk.run import BulkRun
from harness_async.http.rate_limit import RateLimiter
from harness_async.testing import Body, CutBody, FakeHarness, Reset, SignInPage, Status, TooManyRequests


def connect(fake: FakeHarness, **options: object) -> HarnessClient:
    """Make a client that waits for nothing."""
    limiter = RateLimiter(None, cooldowns=(0.01,), outage_pauses=(0.01,))
    retry = RetryPolicy(initial_backoff=0.001, max_backoff=0.002)
    return HarnessClient(
        fake.api_key,
        base_url=fake.url,
        pacer=RatePacer(limiter=limiter),
        retry=retry,
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture
async def fake() -> AsyncIterator[FakeHarness]:
    async with FakeHarness.seeded(projects=40, executions=2000, seed=5) as server:
        yield server


@pytest.fixture
async def client(fake: FakeHarness) -> AsyncIterator[HarnessClient]:
    async with connect(fake) as made:
        yield made


def served(fake: FakeHarness) -> Counter[tuple[str, str, str, str]]:
    """What the server has, by key."""
    return Counter(
        (row["org"], row["project"], row["pipeline_execution_id"], row["pipeline_stage_id"])
        for row in fake.all_executions()
    )


async def take(run: BulkRun[Execution]) -> Counter[tuple[str, str, str, str]]:
    """Take every row of a run, by key."""
    async with run:
        return Counter([row.key async for row in run])


def pool() -> list[asyncio.Task[object]]:
    """Tasks of bulk runs that are still there."""
    return [task for task in asyncio.all_tasks() if "BulkRun" in repr(task) or "PageWalk" in repr(task)]


# -- every row once ------------------------------------------------------------------------------------------------


async def test_every_row_of_every_project_once(client: HarnessClient, fake: FakeHarness) -> None:
    """All that the key can see is found and fetched, each row once, one complete outcome for each project."""
    run = client.executions.bulk()
    assert await take(run) == served(fake)
    report = run.report
    assert {(ref.org, ref.project) for ref in report.outcomes} == set(fake.projects)
    assert {outcome.status for outcome in report.outcomes.values()} == {"complete"}
    assert report.rows == 2000 == sum(outcome.rows for outcome in report.outcomes.values())
    assert report.failed == 0
    report.raise_for_failures()
    rows = Counter((row["org"], row["project"]) for row in fake.all_executions())
    assert {(ref.org, ref.project): outcome.rows for ref, outcome in report.outcomes.items()} == {
        project: rows[project] for project in fake.projects
    }


async def test_the_requests_are_those_that_the_pages_need(client: HarnessClient, fake: FakeHarness) -> None:
    """Quiet lists cost one request a page, empty projects one, and listing the projects is counted too."""
    run = client.executions.bulk()
    await take(run)
    rows = Counter((row["org"], row["project"]) for row in fake.all_executions())
    pages = sum(max(1, -(-rows[project] // 100)) for project in fake.projects)
    listing = 1 + len({org for org, _ in fake.projects})
    assert run.report.requests == pages + listing == len(fake.requests)
    assert sum(outcome.requests for outcome in run.report.outcomes.values()) == pages


@pytest.mark.parametrize("form", ["refs", "pairs", "texts", "lazy", "lazy async", "pager", "mixed, repeated"])
async def test_projects_come_in_any_form(client: HarnessClient, fake: FakeHarness, form: str) -> None:
    """Any iterable or async iterable of any way to name a project will do; one named twice is read once."""
    some = fake.projects[:7]

    async def trickle() -> AsyncIterator[str]:
        for org, project in some:
            await asyncio.sleep(0)
            yield f"{org}/{project}"

    forms: dict[str, object] = {
        "refs": {ProjectRef(*pair) for pair in some},
        "pairs": some,
        "texts": ["/".join(pair) for pair in some],
        "lazy": (ProjectRef(*pair) for pair in some),
        "lazy async": trickle(),
        "pager": client.projects.list("default"),
        "mixed, repeated": [*some, ProjectRef(*some[0]), "/".join(some[1])],
    }
    if form == "pager":
        some = [pair for pair in fake.projects if pair[0] == "default"]
    got = await take(client.executions.bulk(forms[form]))  # type: ignore[arg-type]
    assert got == Counter({key: 1 for key in served(fake) if key[:2] in set(some)})


async def test_filters_reach_every_project(client: HarnessClient, fake: FakeHarness) -> None:
    """The filters of `list` hold for each list of the run."""
    async with client.executions.bulk(status="failure") as run:
        rows = [row async for row in run]
    assert {row.status for row in rows} == {"failure"}
    assert len(rows) == sum(row["status"] == "failure" for row in fake.all_executions())


@pytest.mark.parametrize("concurrency", [1, 3, 100])
async def test_any_number_of_workers_brings_the_same_rows(
    client: HarnessClient, fake: FakeHarness, concurrency: int
) -> None:
    """Concurrency changes the order of rows, nothing else."""
    assert await take(client.executions.bulk(concurrency=concurrency)) == served(fake)


async def test_rows_flow_before_the_last_project_is_known(client: HarnessClient, fake: FakeHarness) -> None:
    """Fetching begins with the first project of a list that has no end yet."""
    more = asyncio.Event()
    busy = next(row for row in fake.all_executions())

    async def endless() -> AsyncIterator[tuple[str, str]]:
        yield busy["org"], busy["project"]
        await more.wait()
        yield fake.projects[-1]

    async with client.executions.bulk(endless()) as run:
        first = await anext(run)
        assert (first.org, first.project) == (busy["org"], busy["project"])
        assert run.progress.projects_total is None
        more.set()
        assert len([row async for row in run]) > 0
    assert run.progress.projects_total == 2


async def test_one_request_in_five_failing_loses_nothing(fake: FakeHarness) -> None:
    """Resets, cut bodies, garbage, server errors and refusals by rate: every row arrives exactly once."""
    rng = random.Random(11)
    statuses = [Status(503), Status(500), Status(502, envelope="html"), Status(408)]
    losses = [Reset("before"), Reset("head"), Reset("after_head"), CutBody(), Body(b'[{"account"')]
    kinds = [*statuses, *losses, TooManyRequests("0.01"), TooManyRequests()]
    for kind in kinds:
        fake.faults.add(kind, when=lambda _: rng.random() < 0.2 / len(kinds))
    async with connect(fake) as client:
        run = client.executions.bulk()
        assert await take(run) == served(fake)
        assert run.report.failed == 0
        assert client.stats.requests > len(fake.projects)


# -- failures ------------------------------------------------------------------------------------------------------


async def test_a_failure_is_the_outcome_of_its_own_project(client: HarnessClient, fake: FakeHarness) -> None:
    """A denied, a missing and a broken project have their outcomes; all the others are complete."""
    denied, gone, broken = fake.projects[0], fake.projects[1], fake.projects[2]
    fake.deny(*denied)
    fake.faults.add(Status(404), path="*/orgs/{}/projects/{}/executions".format(*gone))
    fake.faults.add(SignInPage(), path="*/orgs/{}/projects/{}/executions".format(*broken))
    run = client.executions.bulk(fake.projects)
    got = await take(run)
    statuses = {(ref.org, ref.project): outcome.status for ref, outcome in run.report.outcomes.items()}
    assert statuses == dict.fromkeys(fake.projects, "complete") | {
        denied: "denied",
        gone: "not_found",
        broken: "failed",
    }
    assert got == Counter({key: 1 for key in served(fake) if key[:2] not in {denied, gone, broken}})
    assert run.report.failed == 3
    error = run.report.outcomes[ProjectRef(*denied)].error
    assert isinstance(error, PermissionDeniedError)
    with pytest.raises(BulkError) as caught:
        run.report.raise_for_failures()
    assert caught.value.report is not None
    assert len(caught.value.exceptions) == 3
    table = str(run.report)
    assert "1 denied" in table
    assert "/".join(gone) in table


async def test_rows_before_a_failure_are_delivered(client: HarnessClient, fake: FakeHarness) -> None:
    """A project that fails on its second page still gives the rows of its first."""
    org, project = Counter((row["org"], row["project"]) for row in fake.all_executions()).most_common(1)[0][0]
    fake.faults.add(Status(501), path=f"*/{org}/projects/{project}/*", when=lambda got: got.query["page"] == ["2"])
    run = client.executions.bulk([(org, project)])
    got = await take(run)
    outcome = run.report.outcomes[ProjectRef(org, project)]
    assert len(got) == outcome.rows == 100
    assert outcome.status == "failed"
    assert outcome.requests == 2


async def test_a_refused_key_ends_the_run_with_the_report(fake: FakeHarness) -> None:
    """A 401 concerns every project: it is raised, the report attached, and no request follows."""
    async with connect(fake, max_in_flight=4) as client:
        fake.faults.add(Status(401), when=lambda _: len(fake.requests) > 30)
        run = client.executions.bulk(concurrency=4)
        with pytest.raises(AuthenticationError) as caught:
            await take(run)
        asked = len(fake.requests)
        assert asked <= 31 + 2 * 4, "each worker confirms a refusal once"
        await asyncio.sleep(0.01)
        assert len(fake.requests) == asked
    assert caught.value.report is not None
    assert caught.value.report.outcomes.keys() == run.report.outcomes.keys()
    statuses = Counter(outcome.status for outcome in caught.value.report.outcomes.values())
    assert statuses["complete"] > 0
    assert statuses["pending"] > 0
    assert not pool()


async def test_a_wrong_key_fails_at_the_first_request(fake: FakeHarness) -> None:
    """With a key that the server does not know the run ends while listing the projects."""
    async with HarnessClient("pat.acc.wrong.key", fake.account_id, base_url=fake.url, rate_limit=None) as client:
        with pytest.raises(AuthenticationError) as caught:
            await take(client.executions.bulk())
    assert caught.value.report is not None
    assert len(fake.requests) == 1


async def test_on_error_raise_ends_the_run_at_the_first_failure(client: HarnessClient, fake: FakeHarness) -> None:
    """Whoever wants all or nothing gets the first failure itself, with the report on it."""
    fake.deny(*fake.projects[3])
    run = client.executions.bulk(on_error="raise")
    with pytest.raises(PermissionDeniedError) as caught:
        await take(run)
    assert caught.value.report is not None
    assert not pool()


async def test_an_organization_that_cannot_be_listed_is_told_and_ends_nothing(
    client: HarnessClient, fake: FakeHarness
) -> None:
    """Projects that could not be found are no silent gap: the report names their organization and why."""
    denied = fake.projects[-1][0]
    assert denied != "default"
    fake.deny(denied)
    run = client.executions.bulk()
    got = await take(run)
    assert got == Counter({key: 1 for key in served(fake) if key[0] != denied})
    assert isinstance(run.report.unlisted[denied], PermissionDeniedError)
    assert denied in str(run.report)
    with pytest.raises(BulkError):
        run.report.raise_for_failures()


async def test_organizations_that_cannot_be_listed_at_all_end_the_run(client: HarnessClient, fake: FakeHarness) -> None:
    """Without the list of organizations there is nothing to fetch, and the error says so."""
    fake.faults.add(Status(501, envelope="v1"), path="*/v1/orgs")
    with pytest.raises(ServerError) as caught:
        await take(client.executions.bulk())
    assert caught.value.report is not None


async def test_an_iterable_that_raises_ends_the_run(client: HarnessClient, fake: FakeHarness) -> None:
    """The caller's own error comes through as it is, behind the rows that were fetched."""

    def broken() -> Iterator[tuple[str, str]]:
        yield fake.projects[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await take(client.executions.bulk(broken()))
    with pytest.raises(TypeError, match="a project is"):
        await take(client.executions.bulk(iter([42])))  # type: ignore[arg-type]
    assert not pool()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"projects": "default/web"}, "list"),
        ({"projects": ProjectRef("default", "web")}, "list"),
        ({"projects": 7}, "iterable"),
        ({"projects": ["default"]}, "org/project"),
        ({"projects": ["default/web/x"]}, "org/project"),
        ({"projects": [("default", "..")]}, "project"),
        ({"projects": [("default", 3)]}, "project"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": "many"}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"on_error": "ignore"}, "on_error"),
        ({"consistency": "eventual"}, "consistency"),
        ({"status": []}, "status"),
        ({"status": "a,b"}, "comma"),
        ({"start_time": 2, "end_time": 1}, "start_time"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(arguments: dict[str, object], what: str) -> None:
    """A slip of the caller is an error at once, with a message that names it."""
    client = HarnessClient("pat.acc.id.secret")
    with pytest.raises((ValueError, TypeError), match=what):
        client.executions.bulk(**arguments)  # type: ignore[arg-type]


async def test_twenty_projects_refused_alike_end_the_run(client: HarnessClient, fake: FakeHarness) -> None:
    """When all that was tried is refused with the same words, the other projects are not asked for."""
    for project in fake.projects:
        fake.deny(*project)
    run = client.executions.bulk(fake.projects, concurrency=4)
    with pytest.raises(PermissionDeniedError) as caught:
        await take(run)
    assert caught.value.report is not None
    assert 20 <= len(fake.requests) <= 20 + 4
    assert not pool()


@pytest.mark.parametrize("good", [0, 10, 19])
async def test_one_project_that_can_be_read_is_reason_enough_to_go_on(
    client: HarnessClient, fake: FakeHarness, good: int
) -> None:
    """A key that may read something is a good key: thirty-nine refusals are the outcomes of their projects."""
    for project in fake.projects:
        fake.deny(*project)
    fake.allow(*fake.projects[good])
    run = client.executions.bulk(fake.projects, concurrency=1)
    await take(run)
    assert run.report.failed == 39


async def test_refusals_of_different_kinds_go_on(client: HarnessClient, fake: FakeHarness) -> None:
    """Some denied and some gone are no sign of a wrong key."""
    gone = [(org, f"{project}_gone") for org, project in fake.projects[:15]]
    for project in fake.projects[:15]:
        fake.deny(*project)
    run = client.executions.bulk([*gone, *fake.projects[:15]])
    await take(run)
    assert run.report.failed == 30


async def test_a_huge_project_gets_more_pages_ahead_when_it_is_left_alone(fake: FakeHarness) -> None:
    """With many projects at hand each asks for a page at a time; the last one asks for up to eight."""
    fake.add_project("default", "huge")
    fake.add_executions("default", "huge", 5000)
    under_way, most = 0, Counter[str]()

    def sent(event: object) -> None:
        nonlocal under_way
        if isinstance(event, RequestSent) and "/huge/" in event.url:
            under_way += 1
            most["huge"] = max(most["huge"], under_way)
        elif isinstance(event, ResponseReceived) and "/huge/" in event.url:
            under_way -= 1

    async with connect(fake, on_event=sent) as client:
        run = client.executions.bulk([("default", "huge"), *fake.projects])
        assert await take(run) == served(fake)
    assert 1 < most["huge"] <= 8


# -- leaving, and being slow ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["break", "raise", "cancel", "never iterated"])
async def test_leaving_early_leaves_nothing_behind(client: HarnessClient, fake: FakeHarness, how: str) -> None:
    """However the block is left, no task goes on and nothing more is asked for."""

    async def consume() -> None:
        async with client.executions.bulk() as run:
            if how == "never iterated":
                await asyncio.sleep(0.01)
                return
            async for _ in run:
                if how == "break":
                    break
                if how == "raise":
                    raise ZeroDivisionError
                await asyncio.Event().wait()

    task = asyncio.create_task(consume())
    if how == "cancel":
        while len(fake.requests) < 20:
            await asyncio.sleep(0)
        task.cancel()
    result = (await asyncio.gather(task, return_exceptions=True))[0]
    assert type(result) is {"raise": ZeroDivisionError, "cancel": asyncio.CancelledError}.get(how, type(None))
    assert not pool()
    asked = len(fake.requests)
    await asyncio.sleep(0.01)
    assert len(fake.requests) == asked


async def test_a_slow_consumer_holds_the_crew_back(client: HarnessClient, fake: FakeHarness) -> None:
    """While the consumer rests, no more pages are fetched than workers and queue can hold."""
    fake.faults.clear()
    async with client.executions.bulk(fake.projects * 1, concurrency=2) as run:
        await anext(run)
        await asyncio.sleep(0.05)
        pages = client.stats.pages
        await asyncio.sleep(0.05)
        assert client.stats.pages == pages <= 1 + 2 + 2 + 1 + 10  # in hand, queued, one for each worker; empty ones
        assert run.progress.limited_by == "consumer"


async def test_a_run_runs_once_and_only_in_its_block(client: HarnessClient) -> None:
    """Using a run without `async with`, or twice, is an error that says so."""
    run = client.executions.bulk()
    with pytest.raises(RuntimeError, match="async with"):
        await anext(run)
    await take(run)
    with pytest.raises(RuntimeError, match="once"):
        await take(run)


async def test_the_report_of_an_unfinished_run_says_so(client: HarnessClient) -> None:
    """Projects that the run did not come to are pending, and nothing fails for being left."""
    async with client.executions.bulk() as run:
        async for _ in run:
            break
        assert run.report.elapsed >= 0
    report = run.report
    assert Counter(outcome.status for outcome in report.outcomes.values())["pending"] > 0
    assert report.failed == 0
    assert report.elapsed == run.report.elapsed, "the clock stops with the run"


# -- progress ------------------------------------------------------------------------------------------------------


async def test_progress_ends_at_the_whole(client: HarnessClient, fake: FakeHarness) -> None:
    """The last call tells all projects done, and what is told never goes back."""
    reported: list[Progress] = []
    run = client.executions.bulk(on_progress=reported.append)
    await take(run)
    last = reported[-1]
    assert (last.projects_done, last.projects_total, last.rows) == (40, 40, 2000)
    assert last.requests == len(fake.requests)
    assert last.eta == 0.0
    assert [step.rows for step in reported] == sorted(step.rows for step in reported)
    assert run.progress == last


async def test_an_observer_that_raises_breaks_nothing(
    client: HarnessClient, fake: FakeHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """What `on_progress` raises is logged, and the run goes on."""

    def broken(_: Progress) -> None:
        raise ZeroDivisionError

    assert await take(client.executions.bulk(on_progress=broken)) == served(fake)
    assert "on_progress raised" in caplog.text


async def test_a_project_that_vanishes_while_it_is_read_is_not_found(client: HarnessClient, fake: FakeHarness) -> None:
    """A project deleted between two of its pages is told as not found, not as complete."""
    (org, project), _ = Counter((row["org"], row["project"]) for row in fake.all_executions()).most_common(1)[0]

    def delete(request: object) -> None:
        if len(fake.requests) == 2:
            fake.remove_project(org, project)

    fake.before_request = delete
    run = client.executions.bulk([(org, project)])
    assert len(await take(run)) == 100
    outcome = run.report.outcomes[ProjectRef(org, project)]
    assert outcome.status == "not_found"
    assert isinstance(outcome.error, NotFoundError)
