"""Incremental sync: rows that are new, rows that changed, and a state that never gets ahead of the rows."""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Any

import pytest

from harness_async import Execution, HarnessClient, ProjectRef, ProjectState, SyncRun, SyncState
from harness_async.bulk.sync import MAX_CHECKS, UnfinishedRow
from harness_async.testing import ChangeJson, FakeHarness, Headers, Status
from tests.support.executions import Key, connect

DAY = 86_400_000
REF = ProjectRef("default", "web")


@pytest.fixture
async def fake() -> AsyncIterator[FakeHarness]:
    async with FakeHarness() as server:
        for org, project in (("default", "web"), ("default", "app"), ("labs", "api")):
            server.add_project(org, project)
            for number in range(20):
                server.add_execution(org, project, created=server.now() - (number + 1) * DAY)
        yield server


async def take(run: SyncRun[Execution], union: dict[Key, str] | None = None) -> list[Execution]:
    async with run:
        rows = [row async for row in run]
    if union is not None:
        union.update({row.key: str(row.status) for row in rows})
    return rows


def served(fake: FakeHarness) -> dict[Key, str]:
    return {
        (row["org"], row["project"], row["pipeline_execution_id"], row["pipeline_stage_id"]): row["status"]
        for row in fake.all_executions()
    }


def ids(row: dict[str, Any]) -> tuple[str, str]:
    return row["pipeline_execution_id"], row["pipeline_stage_id"]


async def test_everything_then_what_is_new(client: HarnessClient, fake: FakeHarness) -> None:
    """The first sync delivers everything; each later one takes a request a project and delivers what is new."""
    union: dict[Key, str] = {}
    first = client.executions.sync()
    await take(first, union)
    assert union == served(fake)
    new = fake.add_execution("default", "web")
    fake.requests.clear()
    second = client.executions.sync(first.state)
    assert [row.key[2:] for row in await take(second, union)] == [ids(new)]
    assert union == served(fake)
    assert sum(request.path.endswith("/executions") for request in fake.requests) == 3
    assert second.state.projects.keys() == first.state.projects.keys()
    assert all(second.state.projects[ref].through >= one.through for ref, one in first.state.projects.items())


@pytest.mark.parametrize("spelling", [str.upper, str.title, str.swapcase], ids=["upper", "title", "swapped"])
async def test_spelling(client: HarnessClient, fake: FakeHarness, spelling: Callable[[str], str]) -> None:
    """A state keeps projects as they were requested, and unfinished rows of them, however the server spells them."""
    old = fake.add_execution("default", "web", created=fake.now() - 300 * DAY, status="none")
    projects = [f"{spelling('default')}/{spelling('web')}"]
    first = client.executions.sync(None, projects)
    assert len(await take(first)) == 21
    assert [str(ref) for ref in first.state.projects] == projects
    fake.set_status(old, "failure")
    new = fake.add_execution("default", "web")
    second = client.executions.sync(SyncState.from_json(first.state.to_json()), projects)
    assert sorted(row.key[2:] for row in await take(second)) == sorted([ids(old), ids(new)])
    assert [str(ref) for ref in second.state.projects] == projects


async def test_projects_that_come_and_go(client: HarnessClient, fake: FakeHarness) -> None:
    """New projects are read completely, vanished ones leave the state, and the run names both."""
    first = client.executions.sync()
    await take(first)
    fake.remove_project("labs", "api")
    fake.add_project("default", "fresh")
    fake.add_executions("default", "fresh", 7)
    run = client.executions.sync(first.state)
    assert sum(row.project == "fresh" for row in await take(run)) == 7
    assert run.appeared == (ProjectRef("default", "fresh"),)
    assert run.vanished == (ProjectRef("labs", "api"),)
    assert ProjectRef("labs", "api") not in run.state.projects
    some = client.executions.sync(first.state, [REF])
    await take(some)
    assert some.vanished == ()
    assert some.state.projects.keys() == first.state.projects.keys()


async def test_nothing_vanishes_unproved(client: HarnessClient, fake: FakeHarness) -> None:
    """Projects of an organization that could not be listed keep their state."""
    first = client.executions.sync()
    await take(first)
    fake.faults.add(Status(403), path="*/orgs/labs/projects")
    run = client.executions.sync(first.state)
    await take(run)
    assert run.vanished == ()
    assert run.state.projects.keys() == first.state.projects.keys()


async def test_the_state_moves_with_complete_projects(client: HarnessClient, fake: FakeHarness) -> None:
    """A project that failed, or whose rows were not taken, is read from where it was."""
    first = client.executions.sync()
    await take(first)
    fake.add_execution("default", "web")
    fake.faults.add(Status(501), path="*/web/executions")
    run = client.executions.sync(first.state)
    await take(run)
    assert run.report.failed == 1
    assert run.state.projects[REF] == first.state.projects[REF]
    left = client.executions.sync(first.state)
    async with left:
        pass
    assert left.state.projects == first.state.projects


CLOCKS: dict[str, tuple[float, dict[str, str | None]]] = {
    "an hour ahead": (0.0, {"Date": formatdate(time.time() + 3600, usegmt=True)}),
    "a day ahead": (0.0, {"Date": formatdate(time.time() + 86_400, usegmt=True)}),
    "an hour behind": (0.0, {"Date": formatdate(time.time() - 3600, usegmt=True)}),
    "1970": (0.0, {"Date": "Thu, 01 Jan 1970 00:00:00 GMT"}),
    "year 9999": (0.0, {"Date": "Fri, 31 Dec 9999 23:59:59 GMT"}),
    "of a cache": (0.0, {"Date": formatdate(time.time() - 3600, usegmt=True), "Age": "3600"}),
    "no date": (0.0, {"Date": "never"}),
    "no date, local clock fast": (3600.0, {"Date": "never"}),
    "local clock fast": (3600.0, {}),
    "local clock slow": (-3600.0, {}),
}


@pytest.mark.parametrize("first_clock_only", [True, False], ids=["once", "always"])
@pytest.mark.parametrize("clock", CLOCKS)
async def test_clocks(fake: FakeHarness, clock: str, first_clock_only: bool) -> None:
    """No clock, of the server, of a cache or of this machine, makes later syncs miss a new row."""
    fast, headers = CLOCKS[clock]
    # The server's clock differs from the local one by as much as the local clock is fast.
    fake.clock = lambda: time.time() - fast
    if headers or fast:
        fake.faults.add(Headers({"Date": formatdate(time.time() - fast, usegmt=True), **headers}))
    union: dict[Key, str] = {}
    state: SyncState | None = None
    for turn in range(3):
        async with connect(fake) as client:
            run = client.executions.sync(state)
            await take(run, union)
            assert union == served(fake), f"sync {turn}"
            state = SyncState.from_json(run.state.to_json())
        if first_clock_only and not fast:
            fake.faults.clear()
        for number in range(10):
            fake.add_execution("default", "web", created=fake.now() - 2000 - number)


@pytest.mark.parametrize("hours", [1, 24, 24 * 365, 10**400], ids=["hour", "day", "year", "no-calendar"])
@pytest.mark.parametrize("has_newest", [True, False])
async def test_a_state_of_the_future(
    client: HarnessClient, fake: FakeHarness, caplog: pytest.LogCaptureFixture, hours: int, has_newest: bool
) -> None:
    """A state that lies in the future is pulled back to the newest row that was read, with a warning."""
    newest = fake.now() - DAY if has_newest else None
    state = ProjectState(through=fake.now() + hours * 3_600_000, newest=newest)
    owner = client.executions.sync().state.owner
    new = [fake.add_execution("default", "web", created=fake.now() - 1000 * number) for number in range(5)]
    run = client.executions.sync(SyncState(owner=owner, projects={REF: state}), [REF])
    rows = {row.key[2:] for row in await take(run)}
    assert {ids(row) for row in new} <= rows
    assert run.state.projects[REF].through <= fake.now()
    assert "in the future" in caplog.text


async def test_a_new_row_without_a_time(client: HarnessClient, fake: FakeHarness) -> None:
    """A row whose time is missing may be new: a sync delivers it, and still knows that it missed nothing."""
    fake.add_execution("default", "web", created=fake.now() - DAY)
    first = client.executions.sync(projects=[REF])
    await take(first)
    new = [fake.add_execution("default", "web", created=fake.now() - 1000 * number) for number in range(3)]
    fake.faults.add(ChangeJson(lambda body: [{**body[0], "created": None}, *body[1:]]))
    second = client.executions.sync(first.state, [REF])
    assert {row.key[2:] for row in await take(second)} == set(map(ids, new))
    assert second.report.outcomes[REF].guarantee == "exact"


@pytest.mark.parametrize("age", [1, 300], ids=["near", "far"])
@pytest.mark.parametrize(
    "statuses",
    [
        ["none", "success"],
        ["none", "running", "aborted"],
        ["queued", "running", "none", "failure"],
        ["none", "none", "expired", "none", "success"],
        ["paused", "paused", "Running", "running"],
    ],
    ids="-".join,
)
async def test_every_change_is_delivered(
    client: HarnessClient, fake: FakeHarness, statuses: list[str], age: int
) -> None:
    """Each change of the status of an unfinished row is delivered once, however old the row is."""
    row = fake.add_execution("default", "web", created=fake.now() - age * DAY, status=statuses[0])
    state = client.executions.sync().state
    delivered: list[str] = []
    for status in statuses:
        fake.set_status(row, status)
        run = client.executions.sync(state, [REF])
        delivered += [str(each.status) for each in await take(run) if each.key[2:] == ids(row)]
        state = SyncState.from_json(run.state.to_json())
    assert delivered == [status for status, last in zip(statuses, ["", *statuses], strict=False) if status != last]
    assert (ids(row) in state.projects[REF].unfinished) == (statuses[-1] not in {"success", "failure"})


@pytest.mark.parametrize("status", ["aborted", "expired", "skipped"])
async def test_unknown_statuses_have_a_bounded_cost(client: HarnessClient, fake: FakeHarness, status: str) -> None:
    """A status that is not known may be final: after a number of syncs without a change it is not checked again."""
    row = fake.add_execution("default", "web", created=fake.now() - 300 * DAY, status=status)
    run = client.executions.sync(None, [REF])
    await take(run)
    for _ in range(MAX_CHECKS):
        assert ids(row) in run.state.projects[REF].unfinished
        run = client.executions.sync(run.state, [REF])
        assert await take(run) == []
    assert ids(row) not in run.state.projects[REF].unfinished


@pytest.mark.parametrize("name", ["", "..", "x" * 129])
async def test_ids_that_cannot_be_requested(client: HarnessClient, fake: FakeHarness, name: str) -> None:
    """An unfinished row with an impossible id hides no other row: not in this sync, and not in the next ones."""
    old = fake.add_execution("default", "web", created=fake.now() - 300 * DAY, status="none")
    for number in range(250):
        fake.add_execution("default", "web", created=fake.now() - 200 * DAY + number)

    def rename(rows: Any) -> Any:
        named = isinstance(rows, list)
        return (
            [{**row, "pipeline_stage_id": name} if row["status"] == "none" else row for row in rows] if named else rows
        )

    fake.faults.add(ChangeJson(rename), path="*/web/executions")
    state = client.executions.sync().state
    for _ in range(3):
        run = client.executions.sync(state)
        await take(run)
        assert run.report.complete == 3, run.report
        state = SyncState.from_json(run.state.to_json())
    assert old["pipeline_execution_id"] in {key[0] for key in state.projects[REF].unfinished}


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("fate", ["finished", "unchanged", "deleted"])
async def test_a_row_far_behind_the_window(client: HarnessClient, fake: FakeHarness, fate: str, planned: bool) -> None:
    """Where a window from the oldest unfinished row takes pages, that row takes one request, and the plan counts it."""
    now = fake.now()
    old = fake.add_execution("default", "web", created=now - 300 * DAY, status="none")
    for number in range(350):
        fake.add_execution("default", "web", created=now - 200 * DAY + number * 60_000)
    before = client.executions.sync(projects=[REF])
    await take(before)
    if fate == "finished":
        fake.set_status(old, "failure")
    elif fate == "deleted":
        fake.remove_execution(old)
    fake.requests.clear()
    run = client.executions.sync(before.state, [REF])
    if planned:
        plan = await run.plan()
        assert (plan.projects, plan.made, plan.requests) == (1, 1, 2)
    rows = await take(run)
    assert [str(row.status) for row in rows] == (["failure"] if fate == "finished" else [])
    assert len(fake.requests) == 2 == run.report.requests
    assert list(run.state.projects[REF].unfinished) == ([ids(old)] if fate == "unchanged" else [])


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_month(client: HarnessClient, fake: FakeHarness, seed: int) -> None:
    """With arrivals, late rows, changes, failures and interrupted runs, complete syncs have the rows of the server."""
    rng = random.Random(seed)
    union: dict[Key, str] = {}
    state: SyncState | None = None
    for _ in range(20):
        for _ in range(rng.randrange(20)):
            org, project = rng.choice(fake.projects)
            status = rng.choice(["none", "running", "success", "failure"])
            fake.add_execution(org, project, created=fake.now() - rng.randrange(50_000), status=status)
        for old in fake.all_executions():
            if old["status"] in {"none", "running"} and rng.random() < 0.3:
                fake.set_status(old, rng.choice(["running", "success", "failure"]))
        if rng.random() < 0.3:
            fake.faults.add(Status(501), times=rng.randrange(1, 3), path="*/executions")
        run = client.executions.sync(state)
        interrupted = rng.random() < 0.2
        async with run:
            async for row in run:
                union[row.key] = str(row.status)
                if interrupted and rng.random() < 0.1:
                    break
        state = SyncState.from_json(run.state.to_json())
        fake.faults.clear()
        if run.report.complete == 3:
            assert union == served(fake)
    await take(client.executions.sync(state), union)
    assert union == served(fake)


@pytest.mark.parametrize("name", ["web", "", "..", "a/b", "50%", "x" * 500, "\ud800"])
async def test_round_trip(client: HarnessClient, fake: FakeHarness, name: str) -> None:
    """A state is the same after JSON, whatever the server names, and does not hold the key."""
    row = UnfinishedRow(created=5, status=name, checks=2)
    state = ProjectState(through=9, unfinished={(name, "s"): row}, newer=3, newest=None)
    both = SyncState(owner="me", projects={ProjectRef.unchecked("default", name): state, REF: ProjectState(through=1)})
    assert SyncState.from_json(both.to_json()) == both
    run = client.executions.sync()
    await take(run)
    assert SyncState.from_json(run.state.to_json()) == run.state
    assert fake.api_key.split(".")[-1] not in run.state.to_json()


def test_a_state_of_the_last_version() -> None:
    """A state of version 1, which held no status, is read."""
    project = {"through": 9, "unfinished": [["e", "s", 5]], "newer": 3}
    text = json.dumps({"version": 1, "owner": "me", "projects": {"default/web": project}})
    state = SyncState.from_json(text).projects[REF]
    assert state == ProjectState(through=9, unfinished={("e", "s"): UnfinishedRow(created=5)}, newer=3)


PROJECT: dict[str, Any] = {"through": 9, "unfinished": [["e", "s", 5, "none", 0]], "newer": 3, "newest": None}
MEMBERS: dict[str, list[Any]] = {
    "through": [None, "9", True],
    "newer": [1.5],
    "newest": ["x"],
    "unfinished": [None, 3, [[]], [["e", "s", "5", "none", 0]], [[1, 5, "none", 0]], [["e", 5, None, 0]]],
}
BAD_STATES: dict[str, str] = {
    "empty": "",
    "array": "[]",
    "object": "{}",
    "deep": "[" * 100_000,
    "newer version": '{"version": 3, "owner": "", "projects": {}}',
    "odd version": '{"version": [2], "owner": "", "projects": {}}',
    "owner": '{"version": 2, "owner": 1, "projects": {}}',
    "projects": '{"version": 2, "owner": "", "projects": []}',
    "name": '{"version": 2, "owner": "", "projects": {"x": {}}}',
    **{
        f"{name}={value!r}": json.dumps({"version": 2, "owner": "", "projects": {"a/b": {**PROJECT, name: value}}})
        for name, values in MEMBERS.items()
        for value in values
    },
}


@pytest.mark.parametrize("kind", BAD_STATES)
def test_what_is_not_a_state(kind: str) -> None:
    """Anything but a state of a known version is a `ValueError`."""
    with pytest.raises(ValueError, match="not the state of a sync"):
        SyncState.from_json(BAD_STATES[kind])


async def test_bad_arguments(client: HarnessClient) -> None:
    """A state of another host, account or filter, and arguments that a sync cannot use, are refused at once."""
    with pytest.raises(ValueError, match="belongs to"):
        client.executions.sync(client.executions.sync().state, workspace="w")
    with pytest.raises(ValueError, match="checked"):
        client.executions.sync(consistency="live")
    with pytest.raises(ValueError, match="overlap"):
        client.executions.sync(overlap=-1)
