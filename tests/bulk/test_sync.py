"""Incremental sync: what is new, what was unfinished, and a state that never gets ahead of the rows."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from harness_async import Execution, HarnessClient, ProjectRef, ProjectState, SyncRun, SyncState
from harness_async.bulk.sync import UnfinishedRow, choose_start
from harness_async.testing import FakeHarness, Status

DAY = 86_400_000


@pytest.fixture
async def fake() -> AsyncIterator[FakeHarness]:
    async with FakeHarness.seeded(projects=6, executions=300, seed=4) as server:
        yield server


@pytest.fixture
async def client(fake: FakeHarness) -> AsyncIterator[HarnessClient]:
    async with HarnessClient(fake.api_key, base_url=fake.url, rate_limit=None) as made:
        yield made


async def take(run: SyncRun[Execution], union: dict[tuple[str, str, str, str], str] | None = None) -> list[Execution]:
    async with run:
        rows = [row async for row in run]
    if union is not None:
        union.update({row.key: str(row.status) for row in rows})
    return rows


def served(fake: FakeHarness) -> dict[tuple[str, str, str, str], str]:
    return {
        (row["org"], row["project"], row["pipeline_execution_id"], row["pipeline_stage_id"]): row["status"]
        for row in fake.all_executions()
    }


async def test_the_first_sync_brings_everything_and_the_next_what_is_new(
    client: HarnessClient, fake: FakeHarness
) -> None:
    """After each sync the union is what the server has; the second asks for little and brings little."""
    union: dict[tuple[str, str, str, str], str] = {}
    first = client.executions.sync()
    await take(first, union)
    assert union == served(fake)
    org, project = fake.projects[0]
    new = fake.add_execution(org, project)
    fake.requests.clear()
    second = client.executions.sync(first.state)
    rows = await take(second, union)
    assert union == served(fake)
    assert new["pipeline_execution_id"] in {row.pipeline_execution_id for row in rows}
    assert len(rows) < 100


async def test_a_quiet_sweep_takes_a_request_for_each_project(client: HarnessClient, fake: FakeHarness) -> None:
    """Nothing new and nothing unfinished: one request a project, besides listing them."""
    for row in fake.all_executions():
        if row["status"] == "none":
            fake.set_status(row, "success")
    run = client.executions.sync()
    await take(run)
    fake.requests.clear()
    again = client.executions.sync(run.state)
    late = [row for row in await take(again) if row.created < int(fake.clock() * 1000) - 120_000]
    assert late == [], "but for the overlap, known rows do not come again"
    lists = [request for request in fake.requests if request.path.endswith("/executions")]
    assert len(lists) == len(fake.projects) == 6
    assert again.state.projects.keys() == run.state.projects.keys()
    assert all(again.state.projects[ref].through >= one.through for ref, one in run.state.projects.items())


async def test_an_outcome_that_comes_later_is_brought(client: HarnessClient, fake: FakeHarness) -> None:
    """A row that was unfinished is looked at until it has an outcome, however old it is, and then no more."""
    org, project = fake.projects[0]
    old = fake.add_execution(org, project, created=int(fake.clock() * 1000) - 300 * DAY, status="none")
    run = client.executions.sync()
    await take(run)
    ref = ProjectRef(org, project)
    key = (old["pipeline_execution_id"], old["pipeline_stage_id"])
    assert key in run.state.projects[ref].unfinished
    waiting = client.executions.sync(run.state)
    await take(waiting)
    assert key in waiting.state.projects[ref].unfinished
    fake.set_status(old, "failure")
    done = client.executions.sync(waiting.state)
    rows = await take(done)
    assert [str(row.status) for row in rows if row.pipeline_execution_id == key[0]] == ["failure"]
    assert key not in done.state.projects[ref].unfinished


async def test_an_unfinished_row_that_is_gone_is_forgotten(client: HarnessClient, fake: FakeHarness) -> None:
    """A row that was deleted before it had an outcome is no failure and is not asked for again."""
    org, project = fake.projects[0]
    old = fake.add_execution(org, project, created=int(fake.clock() * 1000) - 300 * DAY, status="none")
    run = client.executions.sync()
    await take(run)
    fake.remove_execution(old)
    again = client.executions.sync(run.state)
    await take(again)
    assert again.report.failed == 0
    ids = (old["pipeline_execution_id"], old["pipeline_stage_id"])
    assert ids not in again.state.projects[ProjectRef(org, project)].unfinished


@pytest.mark.parametrize(
    ("newer", "unfinished", "start"),
    [(50, 1, 1000), (100, 1, 1000), (101, 1, 900_000), (150, 2, 1000), (1000, 3, 900_000), (0, 0, 900_000)],
)
def test_the_cheaper_way_is_chosen(newer: int, unfinished: int, start: int) -> None:
    """A window from the oldest unfinished row, if its pages are fewer than the single requests."""
    rows: dict[tuple[str, ...], UnfinishedRow] = {
        (f"e{number}", "s"): UnfinishedRow(created=1000 + number) for number in range(unfinished)
    }
    state = ProjectState(through=960_000, unfinished=rows, newer=newer)
    assert choose_start(state, 60_000, 100) == start


async def test_state_moves_only_when_a_project_is_complete(client: HarnessClient, fake: FakeHarness) -> None:
    """A project that failed, or whose rows were not taken, is read from where it was."""
    first = client.executions.sync()
    await take(first)
    org, project = fake.projects[0]
    fake.add_execution(org, project)
    fake.faults.add(Status(501), path=f"*/{org}/projects/{project}/executions")
    run = client.executions.sync(first.state)
    await take(run)
    ref = ProjectRef(org, project)
    assert run.report.failed == 1
    assert run.state.projects[ref] == first.state.projects[ref]
    left = client.executions.sync(first.state)
    async with left:
        pass
    assert left.state.projects == first.state.projects


async def test_projects_that_come_and_go_are_told(client: HarnessClient, fake: FakeHarness) -> None:
    """New projects are read whole, vanished ones leave the state, and both are named."""
    first = client.executions.sync()
    await take(first)
    gone = fake.projects[-1]
    fake.remove_project(*gone)
    fake.add_project("default", "fresh")
    fake.add_executions("default", "fresh", 7)
    run = client.executions.sync(first.state)
    rows = await take(run)
    assert run.appeared == (ProjectRef("default", "fresh"),)
    assert run.vanished == (ProjectRef(*gone),)
    assert ProjectRef(*gone) not in run.state.projects
    assert sum(row.project == "fresh" for row in rows) == 7
    some = client.executions.sync(first.state, [fake.projects[0]])
    await take(some)
    assert some.vanished == ()
    assert some.state.projects.keys() == first.state.projects.keys()


async def test_a_state_is_plain_data(client: HarnessClient, fake: FakeHarness) -> None:
    """Through JSON and back it is the same, and the key is not in it."""
    run = client.executions.sync()
    await take(run)
    text = run.state.to_json()
    assert SyncState.from_json(text) == run.state
    assert fake.api_key.split(".")[-1] not in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 3, "owner": "", "projects": {}}',
        '{"version": 1, "owner": 1, "projects": {}}',
        '{"version": 1, "owner": "", "projects": {"x": {}}}',
    ],
)
def test_what_is_no_state_is_refused(text: str) -> None:
    """Anything but a state of this version is a `ValueError`."""
    with pytest.raises(ValueError, match="state"):
        SyncState.from_json(text)


async def test_a_state_of_others_is_refused(client: HarnessClient) -> None:
    """Other filters, another host or account: an error before anything is sent."""
    run = client.executions.sync()
    await take(run)
    with pytest.raises(ValueError, match="belongs to"):
        client.executions.sync(run.state, workspace="w")
    with pytest.raises(ValueError, match="checked"):
        client.executions.sync(consistency="live")
    with pytest.raises(ValueError, match="overlap"):
        client.executions.sync(overlap=-1)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_month_of_days(client: HarnessClient, fake: FakeHarness, seed: int) -> None:
    """Arrivals, late rows, outcomes, failures and runs that are left: after each complete sync the union is right."""
    rng = random.Random(seed)
    union: dict[tuple[str, str, str, str], str] = {}
    state: SyncState | None = None
    for old in fake.all_executions():
        fake.remove_execution(old)
    for _ in range(30):
        for _ in range(rng.randrange(40)):
            org, project = rng.choice(fake.projects)
            status = rng.choice(["none", "success", "failure"])
            fake.add_execution(org, project, created=int(fake.clock() * 1000) - rng.randrange(50_000), status=status)
        for old in fake.all_executions():
            if old["status"] == "none" and rng.random() < 0.3:
                fake.set_status(old, rng.choice(["success", "failure"]))
        if rng.random() < 0.3:
            fake.faults.add(Status(501), times=rng.randrange(1, 4), path="*/executions")
        run = client.executions.sync(state)
        if rng.random() < 0.2:  # left in the middle: its rows are kept, its state too
            async with run:
                async for row in run:
                    union[row.key] = str(row.status)
                    if rng.random() < 0.1:
                        break
        else:
            await take(run, union)
        state = SyncState.from_json(run.state.to_json())
        fake.faults.clear()
        if run.report.complete == 6:
            assert union == served(fake)
    final = client.executions.sync(state)
    await take(final, union)
    assert union == served(fake)


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("fate", ["finished", "still waiting", "gone"])
async def test_a_row_far_behind_the_window_is_refreshed_by_its_ids(
    client: HarnessClient, fake: FakeHarness, fate: str, planned: bool
) -> None:
    """Where a window from the oldest row on would take pages, that one row takes a request, and the plan counts it."""
    org, project = fake.projects[0]
    ref = ProjectRef(org, project)
    now = int(fake.clock() * 1000)
    old = fake.add_execution(org, project, created=now - 300 * DAY, status="none")
    for number in range(350):
        fake.add_execution(org, project, created=now - 200 * DAY + number * 60_000, status="success")
    for row in fake.all_executions():
        if row["status"] == "none" and row["created"] != old["created"]:
            fake.set_status(row, "success")
    before = client.executions.sync(projects=[ref])
    await take(before)
    if fate == "finished":
        fake.set_status(old, "failure")
    elif fate == "gone":
        fake.remove_execution(old)
    fake.requests.clear()
    run = client.executions.sync(before.state, [ref])
    if planned:
        plan = await run.plan()
        assert (plan.projects, plan.made, plan.requests) == (1, 1, 2)
    rows = [row for row in await take(run) if row.created == old["created"]]
    assert [str(row.status) for row in rows] == (["failure"] if fate == "finished" else [])
    assert len(fake.requests) == 2 == run.report.requests
    unfinished = run.state.projects[ref].unfinished
    assert list(unfinished) == (
        [(old["pipeline_execution_id"], old["pipeline_stage_id"])] if fate == "still waiting" else []
    )
