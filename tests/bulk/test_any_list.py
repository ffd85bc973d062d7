"""Any list of many projects: the `bulk` of each resource, and that of the client for any list."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from harness_async import BulkRun, CheckpointError, HarnessClient, Pager, PipelineExecution, ProjectRef
from harness_async.testing import Churn, FakeHarness, SlidingWindow, Status
from harness_async.testing.data.collection import CollectionName
from tests.support.virtual import run_jumping

RESOURCES: dict[CollectionName, str] = {
    "workspaces": "identifier",
    "activities": "id",
    "approvals": "id",
    "pipelines": "identifier",
    "pipeline_executions": "plan_execution_id",
    "services": "identifier",
    "environments": "identifier",
}
WIRE = {"plan_execution_id": "planExecutionId"}

each = pytest.mark.parametrize("name", RESOURCES)


@pytest.fixture
def projects(fake: FakeHarness) -> list[ProjectRef]:
    """The projects of the server, with an organization that has none."""
    fake.add_organization("empty")
    for number in range(9):
        fake.add_project("many", f"p{number}")
    return [ProjectRef(*each) for each in fake.projects]


def fill(fake: FakeHarness, name: CollectionName, projects: list[ProjectRef]) -> Counter[tuple[ProjectRef, str]]:
    """Add up to 250 rows to each project; return all of them."""
    rng = random.Random(name)
    wire = WIRE.get(RESOURCES[name], RESOURCES[name])
    return Counter(
        (ref, row[wire])
        for ref in projects
        for row in fake.add_rows(name, ref.org, ref.project, rng.choice((0, 1, 7, 100, 250)), apart=1000)
    )


async def take(run: BulkRun[Any], identity: str, most: int | None = None) -> Counter[tuple[ProjectRef, str]]:
    """Read a run by batches; return its rows with the projects of their batches."""
    found: Counter[tuple[ProjectRef, str]] = Counter()
    async with run:
        async for batch in run.batches():
            found.update((batch.project, getattr(row, identity)) for row in batch.items)
            if most is not None and found.total() >= most:
                break
    return found


@each
def test_bulk_has_the_filters_of_list(client: HarnessClient, name: CollectionName) -> None:
    """A bulk run takes each filter that the list of its resource takes."""
    api = getattr(client, name)
    others = {"self", "org", "project", "limit", "prefetch", "sort", "order"}
    assert {*inspect.signature(api.list).parameters} - others <= {*inspect.signature(api.bulk).parameters}


async def test_filters_of_approvals(fake: FakeHarness, client: HarnessClient) -> None:
    """A bulk run over approvals sends all its filters."""
    run = client.approvals.bulk(
        ["default/payments"], workspace="w", pipeline_execution_id="e", pipeline_stage_id="s", status="pending"
    )
    assert not await take(run, "id")
    query = fake.requests[-1].query
    names = ("workspace", "pipeline_execution_id", "pipeline_stage_id", "status_type")
    assert [query[name] for name in names] == [["w"], ["e"], ["s"], ["pending"]]


@each
async def test_bulk_of_each_resource(
    fake: FakeHarness, client: HarnessClient, projects: list[ProjectRef], name: CollectionName
) -> None:
    """A run has every row of every project once, in batches that name the project."""
    stored = fill(fake, name, projects)
    run = attrgetter(f"{name}.bulk")(client)()
    assert await take(run, RESOURCES[name]) == stored
    assert run.report.outcomes.keys() == set(projects)
    assert run.report.complete == len(projects)
    assert {outcome.guarantee for outcome in run.report.outcomes.values()} <= {"live", "exact", "covered"}
    assert run.report.rows == stored.total()
    assert run.report.requests == len(fake.requests)


@each
async def test_checkpoint_of_each_resource(
    fake: FakeHarness, client: HarnessClient, projects: list[ProjectRef], name: CollectionName, tmp_path: Path
) -> None:
    """A run that is continued has the rest, requests no finished project again, and belongs to its resource."""
    stored, bulk, identity = fill(fake, name, projects), attrgetter(f"{name}.bulk")(client), RESOURCES[name]
    first = await take(bulk(checkpoint=tmp_path / "run", concurrency=2), identity, stored.total() // 2)
    assert first.total() < stored.total()
    run = bulk(checkpoint=tmp_path / "run")
    rest = await take(run, identity)
    assert first.keys() | rest.keys() == stored.keys()
    assert max(first.values()) == max(rest.values()) == 1
    assert run.report.complete == len(projects)
    fake.requests.clear()
    assert not await take(bulk(checkpoint=tmp_path / "run"), identity)
    assert {request.path.count("/projects/") for request in fake.requests} == {0}
    other = client.services.bulk if name != "services" else client.pipelines.bulk
    with pytest.raises(CheckpointError, match="other filters"):
        await take(other(checkpoint=tmp_path / "run"), "identifier")


def open_services(client: HarnessClient, **options: Any) -> Callable[[ProjectRef], Pager[Any]]:
    return lambda ref: client.paginate(f"/v1/orgs/{ref.org}/projects/{ref.project}/services", **options)


async def test_list_without_projects_in_its_rows(
    fake: FakeHarness, client: HarnessClient, projects: list[ProjectRef]
) -> None:
    """Rows of any list come in batches that name their project, which the rows themselves do not."""
    stored = fill(fake, "services", projects)
    run = client.bulk(open_services(client, limit=50))
    found: Counter[tuple[ProjectRef, str]] = Counter()
    async with run:
        async for batch in run.batches():
            found.update((batch.project, row["service"]["identifier"]) for row in batch.items)
    assert found == stored
    assert {request.query["limit"][0] for request in fake.requests if "services" in request.path} == {"50"}


async def test_rows_and_batches(fake: FakeHarness, client: HarnessClient, projects: list[ProjectRef]) -> None:
    """A loop over rows that stops is continued by the batches, which begin with the rest of its batch."""
    stored = fill(fake, "services", projects)
    found: list[str] = []
    async with client.services.bulk() as run:
        async for row in run:
            found.append(row.identifier)
            if len(found) == 3:
                break
        async for batch in run.batches():
            found += [row.identifier for row in batch.items]
    assert sorted(found) == sorted(identity for _, identity in stored)


@pytest.mark.parametrize(("times", "listed", "status", "requests"), [
    (1, True, "complete", 2), (2, True, "not_found", 2), (1, False, "not_found", 1), (0, False, "complete", 1),
])  # fmt: skip
async def test_project_that_is_not_found(
    fake: FakeHarness,
    client: HarnessClient,
    projects: list[ProjectRef],
    times: int,
    listed: bool,
    status: str,
    requests: int,
) -> None:
    """A project that was just listed and is not found is requested once more; one that the caller named is not."""
    fake.add_service("many", "p3")
    fake.faults.add(Status(404, envelope="v1"), times=times, path="*/p3/services")
    run = client.bulk(open_services(client), None if listed else projects)
    async with run:
        rows = [row async for row in run]
    outcome = run.report.outcomes[ProjectRef("many", "p3")]
    assert (outcome.status, outcome.requests, len(rows)) == (status, requests, int(status == "complete"))
    assert run.report.complete == len(projects) - (status != "complete")


async def test_checkpoint_of_any_list(
    fake: FakeHarness, client: HarnessClient, projects: list[ProjectRef], tmp_path: Path
) -> None:
    """A checkpoint stores how each list was read: another list, or other filters, are refused and not skipped."""
    path = tmp_path / "run"
    stored = fill(fake, "workspaces", projects)
    open_list: Callable[[ProjectRef], Pager[Any]] = lambda ref: client.workspaces.list(ref.org, ref.project)  # noqa: E731
    first = await take(client.bulk(open_list, projects, checkpoint=path, concurrency=1), "identifier", 300)
    assert 0 < first.total() < stored.total()
    others: list[Callable[[ProjectRef], Pager[Any]]] = [
        lambda ref: client.services.list(ref.org, ref.project),
        lambda ref: client.workspaces.list(ref.org, ref.project, status="active"),
    ]
    for other in others:
        with pytest.raises(CheckpointError):
            await take(client.bulk(other, projects, checkpoint=path), "identifier")
    rest = await take(client.bulk(open_list, projects, checkpoint=path), "identifier")
    assert first.keys() | rest.keys() == stored.keys()


@pytest.mark.parametrize("planned", [False, True])
async def test_lists_that_are_not_paged(fake: FakeHarness, client: HarnessClient, *, planned: bool) -> None:
    """A list that comes in one response is one request for each project, planned or not; its failure is an outcome."""
    row = fake.executions("default", "payments")[0]
    fake.set_changes(row, resources={"planned_changes": [{"name": "vpc"}, {"name": "dns"}]})
    ids = row["pipeline_execution_id"], row["pipeline_stage_id"]
    run = client.bulk(
        lambda ref: client.executions.resource_changes(ref.org, ref.project, *ids),
        [("default", "payments"), ("default", "billing")],
    )
    if planned:
        assert (await run.plan()).requests == 2
    async with run:
        assert [change.name async for change in run] == ["vpc", "dns"]
    outcomes = {ref.project: (each.status, each.rows, each.requests) for ref, each in run.report.outcomes.items()}
    assert outcomes == {"payments": ("complete", 2, 1), "billing": ("not_found", 0, 1)}
    assert len(fake.requests) == 2


@pytest.mark.parametrize("open_list", [None, "services", 5], ids=str)
def test_refused_lists(client: HarnessClient, open_list: Any) -> None:
    """What opens a list must be a function."""
    with pytest.raises(TypeError, match="open_list must be a function"):
        client.bulk(open_list)


async def test_function_that_opens_no_list(fake: FakeHarness, client: HarnessClient) -> None:
    """A function that returns rows, or has to be awaited, is an error that says what it must return."""

    async def open_later(ref: ProjectRef) -> Pager[Any]:
        return client.workspaces.list(ref.org, ref.project)

    functions: list[Any] = [lambda _: [1], open_later]
    for function in functions:
        with pytest.raises(TypeError, match=r"open_list must return a Pager .* not (list|coroutine)"):
            await client.bulk(function, [("default", "payments")]).plan()
    assert fake.requests == []


def test_two_runs_share_one_budget() -> None:
    """Two runs of one client use the rate limit together: all of it, and never more than the server allows."""

    async def read(run: BulkRun[Any]) -> int:
        async with run:
            return len([row async for row in run])

    async def main() -> None:
        fake, loop = FakeHarness(), asyncio.get_running_loop()
        refs = [("many", f"p{number}") for number in range(300)]
        for ref in refs:
            fake.add_workspace(*ref)
            fake.add_service(*ref)
        fake.rate_limit, fake.rate_clock = SlidingWindow(400), loop.time
        async with fake, HarnessClient(fake.api_key, base_url=fake.url) as client:
            began = loop.time()
            runs: list[BulkRun[Any]] = [client.workspaces.bulk(refs), client.services.bulk(refs)]
            assert sum(await asyncio.gather(*map(read, runs))) == 600
            share = len(fake.requests) / (loop.time() - began) * 60 / 400
        assert len(fake.requests) == 600
        assert client.stats.throttled == 0
        assert share > 0.97

    run_jumping(main())


ROWS = 23_456


def crowd() -> tuple[FakeHarness, set[str]]:
    """Return a server with 23,456 pipeline executions of one project and those of 30 small ones, and all their ids."""
    fake, rng = FakeHarness(), random.Random(1)
    rows = fake.add_pipeline_executions("many", "huge", ROWS, apart=977, stages=0)
    for number in range(30):
        rows += fake.add_pipeline_executions("many", f"small{number}", rng.randrange(1, 60), apart=40_000)
    return fake, {row["planExecutionId"] for row in rows}


def read_crowd(client: HarnessClient, **options: Any) -> BulkRun[PipelineExecution]:
    """Read all projects in pages of 1000 rows."""
    executions = client.pipeline_executions
    return client.bulk(
        lambda ref: executions.list(ref.org, ref.project, start_time=1, limit=1000, consistency="checked"), **options
    )


@pytest.mark.parametrize("moving", [False, True], ids=["still", "moving"])
async def test_project_above_the_ceiling(connect: Callable[..., HarnessClient], *, moving: bool) -> None:
    """Every row comes once, with and without moving rows, and no request goes beyond the ceiling."""
    fake, stored = crowd()
    churn = Churn(fake, "many", "huge", collection="pipeline_executions", arrivals=0.4, departures=0.4, seed=2)
    fake.before_request = churn if moving else None
    found: Counter[str] = Counter()
    async with fake, read_crowd(connect(fake.url)) as run:
        async for batch in run.batches():
            found.update(row.plan_execution_id for row in batch.items)
    gone = {row["planExecutionId"] for row in churn.departed}
    assert stored - gone <= found.keys() <= stored | {row["planExecutionId"] for row in churn.arrived}
    assert max(found.values()) == 1
    assert run.report.complete == 31
    assert bool(gone) == moving
    assert {request.status for request in fake.requests} == {200}
    assert min(request.json["timeRange"]["startTime"] for request in fake.requests if request.body) == 1
    assert len(fake.requests) <= 31 + 2 + (60 if moving else 28)


async def test_checkpoint_above_the_ceiling(connect: Callable[..., HarnessClient], tmp_path: Path) -> None:
    """A run that is cancelled within the long list is continued: every row, and those of finished projects once."""
    fake, stored = crowd()
    found: Counter[str] = Counter()

    async def read(most: int) -> None:
        async with read_crowd(client, checkpoint=tmp_path / "run") as run:
            async for batch in run.batches():
                found.update(row.plan_execution_id for row in batch.items)
                if found.total() > most:
                    task.cancel()

    async with fake:
        client = connect(fake.url)
        task = asyncio.create_task(read(3000))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 3000 < found.total() < ROWS
        small = stored - {row["planExecutionId"] for row in fake.rows("pipeline_executions", "many", "huge")}
        assert small <= found.keys()
        fake.requests.clear()
        task = asyncio.create_task(read(1_000_000))
        await task
    assert found.keys() == stored
    assert all(found[id_] == 1 for id_ in small)
    assert {request.query["projectIdentifier"][0] for request in fake.requests if "pipelines" in request.path} == {
        "huge"
    }
