"""Pipeline executions: requests that hide nothing, long lists by windows of time, the wait, and the sync."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from harness_async import (
    DeadlineExceededError,
    DecodeError,
    HarnessClient,
    NotFoundError,
    PaginationError,
    PipelineExecution,
    PipelineStatus,
    ProjectRef,
    SyncRun,
)
from harness_async.pagination.dialects import DIALECTS
from harness_async.resources import pipeline_executions
from harness_async.testing import ChangeJson, Churn, FakeHarness, Nulls, RecordedRequest, Status
from tests.support.virtual import run_jumping

PROJECT = ("default", "payments")
LIST = "/pipeline/api/pipelines/execution/summary"
NOW = 1_750_000_000_000
LATEST = 4_102_444_800_000


def ids(rows: Any) -> list[str]:
    return [row.plan_execution_id for row in rows]


def add(fake: FakeHarness, *statuses: str, start_ts: int = NOW, **fields: Any) -> list[str]:
    """Add executions with these statuses, a minute apart and the last one newest; return their ids."""
    rows = [
        fake.add_pipeline_execution(*PROJECT, status=status, start_ts=start_ts + index * 60_000, **fields)
        for index, status in enumerate(statuses, 1 - len(statuses))
    ]
    return [row["planExecutionId"] for row in rows]


@pytest.mark.parametrize(
    ("filters", "query", "body"),
    [
        ({}, {}, {}),
        ({"include": "default"}, {"showAllExecutions": None}, {"executionModeFilter": "DEFAULT"}),
        ({"pipeline": "a b"}, {"pipelineIdentifier": ["a b"]}, {}),
        ({"status": PipelineStatus.FAILED, "limit": 1000}, {"size": ["1000"]}, {"status": ["Failed"]}),
        ({"status": ["Failed", "Aborted"]}, {}, {"status": ["Failed", "Aborted"]}),
        ({"start_time": 5}, {}, {"timeRange": {"startTime": 5, "endTime": LATEST}}),
        ({"end_time": 5}, {}, {"timeRange": {"startTime": 0, "endTime": 5}}),
        (
            {"start_time": datetime(2024, 1, 1, tzinfo=UTC), "end_time": datetime(2024, 1, 2, tzinfo=UTC)},
            {},
            {"timeRange": {"startTime": 1_704_067_200_000, "endTime": 1_704_153_600_000}},
        ),
    ],
)
async def test_requests(
    fake: FakeHarness, client: HarnessClient, filters: dict[str, Any], query: dict[str, Any], body: dict[str, Any]
) -> None:
    """A list is a POST whose body hides nothing by default, and names both ends of a window."""
    assert await client.pipeline_executions.list(*PROJECT, **filters).collect() == []
    (request,) = fake.requests
    assert (request.method, request.path, request.status) == ("POST", LIST, 200)
    expected = {
        "size": ["100"],
        "page": ["0"],
        "accountIdentifier": [fake.account_id],
        "orgIdentifier": ["default"],
        "projectIdentifier": ["payments"],
        "showAllExecutions": ["true"],
        **query,
    }
    assert request.query == {name: value for name, value in expected.items() if value is not None}
    assert request.json == {"filterType": "PipelineExecution", "executionModeFilter": "ALL", **body}


async def test_what_the_api_hides(fake: FakeHarness, client: HarnessClient) -> None:
    """`all` includes rollbacks, child pipelines and superseded retries, which `default` leaves out."""
    for number, kind in enumerate(("normal", "rollback", "child", "superseded")):
        fake.add_pipeline_execution(
            *PROJECT,
            plan_execution_id=kind,
            start_ts=NOW - number,
            execution_mode="PIPELINE_ROLLBACK" if kind == "rollback" else "NORMAL",
            parent="normal" if kind == "child" else None,
            superseded=kind == "superseded",
        )
    executions = client.pipeline_executions
    assert ids(await executions.list(*PROJECT).collect()) == ["normal", "rollback", "child", "superseded"]
    assert ids(await executions.list(*PROJECT, include="default").collect()) == ["normal"]
    assert ids(await executions.list(*PROJECT, include="default", pipeline="deploy").collect()) == ["normal", "child"]
    async with executions.bulk([PROJECT], include="default") as run:
        assert ids([row async for row in run]) == ["normal"]


async def test_members(fake: FakeHarness, client: HarnessClient) -> None:
    """A row has the members of the API under plain names, from the list and from `get`, without the graph of stages."""
    (execution,) = add(
        fake,
        "Failed",
        pipeline="deploy",
        name="Deploy to production",
        end_ts=NOW + 90_000,
        tags={"team": "core"},
        trigger_type="WEBHOOK",
        triggered_by="jane@example.com",
        modules=["cd", "ci"],
        run_sequence=7,
    )
    (row,) = await client.pipeline_executions.list(*PROJECT).collect()
    assert row == PipelineExecution(
        org="default",
        project="payments",
        plan_execution_id=execution,
        pipeline="deploy",
        name="Deploy to production",
        status=PipelineStatus.FAILED,
        run_sequence=7,
        start_ts=NOW,
        end_ts=NOW + 90_000,
        created=NOW - 150,
        trigger_type="WEBHOOK",
        triggered_by="jane",
        modules=("cd", "ci"),
        tags={"team": "core"},
        stages_total=3,
        stages_succeeded=2,
        stages_failed=1,
        failure_message="Stage failed: Failed",
        execution_mode="NORMAL",
    )
    assert (row.key, row.is_finished, row.duration) == ((*PROJECT, execution), True, timedelta(seconds=90))
    assert row.started_at == datetime.fromtimestamp(NOW / 1000, UTC)
    assert row.to_dict()["ended_at"] == "2025-06-15T15:08:10+00:00"
    fake.requests.clear()
    assert await client.pipeline_executions.get(*PROJECT, execution) == row
    assert fake.requests[0].query["projectIdentifier"] == ["payments"]
    scope = {"accountIdentifier": fake.account_id, "orgIdentifier": "default", "projectIdentifier": "payments"}
    response = await client.request("POST", LIST, params=scope)
    assert "layoutNodeMap" in response.json()["data"]["content"][0]


def test_times_beyond_any_calendar() -> None:
    """A time that fits no calendar is kept as sent, and its moment and the duration are None."""
    row = PipelineExecution(org="o", project="p", plan_execution_id="e", start_ts=NOW, end_ts=10**30)
    assert (row.end_ts, row.ended_at, row.duration) == (10**30, None, None)


@pytest.mark.parametrize(
    ("fault", "path"),
    [
        (ChangeJson(lambda body: {**body, "data": {}}), "$.data.pipelineExecutionSummary"),
        (Nulls({"planExecutionId"}), "$.data.pipelineExecutionSummary.planExecutionId"),
    ],
    ids=["no-summary", "no-identity"],
)
async def test_get_that_does_not_fit(fake: FakeHarness, client: HarnessClient, fault: Any, path: str) -> None:
    """The error of a single execution names the place in the whole body."""
    (execution,) = add(fake, "Success")
    fake.faults.add(fault)
    with pytest.raises(DecodeError) as caught:
        await client.pipeline_executions.get(*PROJECT, execution)
    assert caught.value.path == path


FINISHED = {
    *("Success", "Failed", "Aborted", "Expired", "Errored", "AbortedByFreeze", "ApprovalRejected"),
    *("IgnoreFailed", "Skipped", "Suspended"),
}


@pytest.mark.parametrize("word", [*map(str, PipelineStatus), "SUCCESS", "NOT_STARTED", "QUEUED_PLAN_CREATION", ""])
def test_finished_statuses(word: str) -> None:
    """The ten words of an outcome are finished; any other word, an unknown one too, is not."""
    row = PipelineExecution(org="o", project="p", plan_execution_id="x", status=PipelineStatus(word))
    assert row.is_finished == PipelineStatus(word).is_finished == (word in FINISHED)


async def test_unknown_status_of_a_filter(fake: FakeHarness, client: HarnessClient) -> None:
    """An unknown status is sent as given, with one warning that suggests the nearest known word."""
    with pytest.warns(UserWarning, match=r"^'aproval_waiting' is not a known PipelineStatus; did you mean 'ApprovalW"):
        pager = client.pipeline_executions.list(*PROJECT, status="aproval_waiting")
    await pager.collect()
    assert fake.requests[0].json["status"] == ["aproval_waiting"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.pipeline_executions.bulk([PROJECT], status="aproval_waiting")


@pytest.fixture
def low_ceiling(fake: FakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the ceiling to 50 rows, on the server and in the client."""
    fake.ceiling = 50
    low = evolve(pipeline_executions._LIST, dialect=evolve(DIALECTS["pipeline"], ceiling=50))
    monkeypatch.setattr(pipeline_executions, "_LIST", low)


@pytest.mark.usefixtures("low_ceiling")
@pytest.mark.parametrize("consistency", ["live", "checked", "strict"])
@pytest.mark.parametrize(("count", "limit"), [(45, 20), (49, 7), (50, 25), (50, 10), (51, 10), (130, 20)])
async def test_list_near_the_ceiling(
    fake: FakeHarness, client: HarnessClient, consistency: Any, count: int, limit: int
) -> None:
    """A list is read completely whether its last page ends before, at or behind the ceiling, and no page is refused."""
    stored = add(fake, *["Success"] * count)
    found = ids(await client.pipeline_executions.list(*PROJECT, limit=limit, consistency=consistency).collect())
    assert sorted(found) == sorted(stored)
    assert {request.status for request in fake.requests} == {200}


@pytest.mark.usefixtures("low_ceiling")
@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("case", ["grows", "no totals"])
async def test_ceiling_that_is_met_late(fake: FakeHarness, client: HarnessClient, case: str, prefetch: int) -> None:
    """A list that grows beyond the ceiling, or reports no total, goes on by windows of time: each row once."""

    def grow(_: RecordedRequest) -> None:
        if len(fake.requests) <= 8:
            add(fake, "Success", start_ts=fake.now())

    stored = add(fake, *["Success"] * (45 if case == "grows" else 95))
    if case == "grows":
        fake.before_request = grow
    else:
        fake.totals = "none"
    found = ids(await client.pipeline_executions.list(*PROJECT, limit=10, prefetch=prefetch).collect())
    assert set(stored) <= set(found)
    assert len(found) == len(set(found)) > 50
    assert {request.status for request in fake.requests} == {200}


@pytest.mark.usefixtures("low_ceiling")
@pytest.mark.parametrize("totals", ["iacm", "none"])
async def test_too_many_rows_of_one_time(fake: FakeHarness, client: HarnessClient, totals: Any) -> None:
    """More rows of one millisecond than the ceiling cannot be read, which is an error and not a short list."""
    fake.totals = totals
    fake.add_pipeline_executions(*PROJECT, 51, start_ts=NOW, apart=0)
    with pytest.raises(PaginationError, match="more than 50 rows that cannot be divided by time"):
        await client.pipeline_executions.list(*PROJECT, limit=10).collect()
    assert {request.status for request in fake.requests} == {200}


async def test_ceiling_of_a_list_without_times(fake: FakeHarness, client: HarnessClient) -> None:
    """A list whose times are not known ends with an error at the ceiling, before the server refuses a page."""
    fake.ceiling = 50
    add(fake, *["Success"] * 60)
    dialect = evolve(DIALECTS["pipeline"], ceiling=50)
    pager = client.paginate(LIST, dialect=dialect, method="POST", json={}, org="default", project="payments", limit=20)
    with pytest.raises(PaginationError, match="more than 50 rows"):
        await pager.collect()
    assert [request.status for request in fake.requests] == [200, 200]


@pytest.mark.parametrize("consistency", ["checked", "strict"])
async def test_windows(fake: FakeHarness, client: HarnessClient, consistency: Any) -> None:
    """A frozen list selects rows by their start, with both ends of the window in each body, while rows move."""
    stored = set(add(fake, *["Success"] * 120))
    churn = Churn(fake, *PROJECT, collection="pipeline_executions", arrivals=1.0, departures=0.5, status_changes=0.5)
    fake.before_request = churn
    async with client.pipeline_executions.list(*PROJECT, limit=20, consistency=consistency).walk() as walk:
        found = ids([row async for row in walk])
    gone = {row["planExecutionId"] for row in churn.departed}
    assert churn.arrived
    assert stored - gone <= set(found)
    assert len(found) == len(set(found))
    windows = [request.json["timeRange"] for request in fake.requests]
    assert all(window.keys() == {"startTime", "endTime"} for window in windows)
    assert max(window["endTime"] for window in windows) < LATEST
    assert walk.report.guarantee in {"exact", "covered", "seek"}


async def test_wait(fake: FakeHarness, client: HarnessClient) -> None:
    """A wait fetches the execution until its status is an outcome, which an unknown word is not."""
    (execution,) = add(fake, "Running")
    words = ["Queued", "Finishing", "ApprovalWaiting", "Aborted"]

    def hook(_: RecordedRequest) -> None:
        (row,) = fake.rows("pipeline_executions", *PROJECT)
        fake.change("pipeline_executions", row, status=words.pop(0))

    fake.before_request = hook
    found = await client.pipeline_executions.wait(*PROJECT, execution, timeout=60.0, poll_interval=0.001)
    assert (found.status, words) == (PipelineStatus.ABORTED, [])
    assert [request.path for request in fake.requests] == [f"{LIST.rpartition('/')[0]}/v2/{execution}"] * 4
    fake.before_request = None
    with pytest.raises(NotFoundError):
        await client.pipeline_executions.wait(*PROJECT, "nope", timeout=60.0)


def test_wait_that_times_out() -> None:
    """The error of a wait that times out names the execution, the time and the last status."""

    async def main() -> None:
        async with FakeHarness() as fake, HarnessClient(fake.api_key, base_url=fake.url) as client:
            add(fake, "ApprovalWaiting", plan_execution_id="run")
            with pytest.raises(DeadlineExceededError, match=r"Pipeline execution run .* 60.0 s: .*ApprovalWaiting"):
                await client.pipeline_executions.wait(*PROJECT, "run", timeout=60.0, poll_interval=25.0)
            assert len(fake.requests) == 3

    run_jumping(main())


@pytest.fixture
def requested(fake: FakeHarness) -> Callable[[], list[str]]:
    """Return the requests since the last call: `window`, `batch` with the number of ids, or `get`."""

    def take() -> list[str]:
        requests = [request for request in fake.requests if "/pipelines/execution/" in request.path]
        fake.requests.clear()
        bodies = [request.json if request.method == "POST" else None for request in requests]
        return [
            "get" if body is None else f"batch {len(batch)}" if (batch := body.get("planExecutionIds")) else "window"
            for body in bodies
        ]

    return take


async def sync_all(client: HarnessClient, rows: int) -> SyncRun[PipelineExecution]:
    """Run the first sync, which delivers all rows."""
    run = client.pipeline_executions.sync(projects=[PROJECT])
    async with run:
        assert len([row async for row in run]) == rows
    return run


async def test_sync(fake: FakeHarness, client: HarnessClient, requested: Callable[[], list[str]]) -> None:
    """A sync brings what is new, and unfinished executions that changed, which it fetches a hundred at a time."""
    waiting = add(fake, *["ApprovalWaiting"] * 150)
    add(fake, *["Success"] * 500, start_ts=NOW + 40_000_000)
    first = await sync_all(client, 650)
    assert requested() == ["window"] * 7
    rows = {row["planExecutionId"]: row for row in fake.rows("pipeline_executions", *PROJECT)}
    fake.change("pipeline_executions", rows[waiting[0]], status="Success")
    fake.change("pipeline_executions", rows[waiting[140]], status="Running")
    fake.remove("pipeline_executions", rows[waiting[1]])
    (new,) = add(fake, "Success", start_ts=fake.now())
    second = client.pipeline_executions.sync(first.state, [PROJECT])
    async with second:
        found = {row.plan_execution_id: str(row.status) async for row in second}
    assert found == {new: "Success", waiting[0]: "Success", waiting[140]: "Running"}
    assert requested() == ["window", "batch 100", "batch 50", "get"], "the removed one is fetched alone"
    assert len(second.state.projects[ProjectRef(*PROJECT)].unfinished) == 148
    third = client.pipeline_executions.sync(second.state, [PROJECT])
    async with third:
        assert [row.plan_execution_id async for row in third] == [new], "the overlap"
    assert requested() == ["window", "batch 100", "batch 48"]


async def test_sync_of_one_unfinished_execution(
    fake: FakeHarness, client: HarnessClient, requested: Callable[[], list[str]]
) -> None:
    """A single unfinished execution is fetched without a batch."""
    (waiting,) = add(fake, "Running")
    add(fake, *["Success"] * 200, start_ts=NOW + 40_000_000)
    first = await sync_all(client, 201)
    requested()
    fake.change("pipeline_executions", fake.rows("pipeline_executions", *PROJECT)[-1], status="Expired")
    second = client.pipeline_executions.sync(first.state, [PROJECT])
    async with second:
        assert [(row.plan_execution_id, str(row.status)) async for row in second] == [(waiting, "Expired")]
    assert requested() == ["window", "get"]


@pytest.mark.parametrize("case", ["ignored", "empty", "refused"])
async def test_sync_without_batches(
    fake: FakeHarness, client: HarnessClient, requested: Callable[[], list[str]], case: str
) -> None:
    """Where the server does not know the filter by ids, unfinished executions are fetched one by one."""
    waiting = add(fake, *["Running"] * 3)
    others = add(fake, *["Success"] * 400, start_ts=NOW + 40_000_000)
    first = await sync_all(client, 403)
    requested()
    rows = {row["planExecutionId"]: row for row in fake.rows("pipeline_executions", *PROJECT)}
    fake.change("pipeline_executions", rows[waiting[2]], status="Failed")
    content = [] if case == "empty" else [rows[each] for each in others[:100]]
    others_only = ChangeJson(lambda body: {**body, "data": {**body["data"], "content": content}})
    fake.faults.add(
        Status(400) if case == "refused" else others_only,
        when=lambda request: b"planExecutionIds" in request.body,
    )
    second = client.pipeline_executions.sync(first.state, [PROJECT])
    async with second:
        assert [row.plan_execution_id async for row in second] == [waiting[2]]
    assert requested() == ["window", "batch 3", "get", "get", "get"]
    assert second.report.requests == 5


async def test_state_of_another_sync(client: HarnessClient) -> None:
    """A state belongs to its filters, and to pipeline executions."""
    run = client.pipeline_executions.sync(pipeline="deploy", projects=[PROJECT])
    async with run:
        assert [row async for row in run] == []
    for other in (client.pipeline_executions.sync, client.executions.sync):
        with pytest.raises(ValueError, match="the state belongs to"):
            other(run.state, projects=[PROJECT])


async def test_sync_of_a_failing_server(fake: FakeHarness, client: HarnessClient) -> None:
    """A project whose refresh fails keeps its last state."""
    add(fake, *["Running"] * 3)
    add(fake, *["Success"] * 400, start_ts=NOW + 40_000_000)
    first = await sync_all(client, 403)
    fake.faults.add(Status(403), when=lambda request: b"planExecutionIds" in request.body)
    second = client.pipeline_executions.sync(first.state, [PROJECT])
    async with second:
        assert [row async for row in second] == []
    assert second.report.failed
    assert second.state.projects == first.state.projects
