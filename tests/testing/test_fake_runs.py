from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness_async.testing import FakeHarness
from tests.testing.cases import ACCOUNT, ALL, IN_PROJECT

CASE = ALL["pipeline executions"]
AUDITS = ALL["audit events"]
EVERYTHING = {"normal", "rollback", "pipeline rollback", "child", "superseded"}


async def send(get: Any, body: Any, path: str = CASE.path, **params: str) -> Any:
    return await get(path, "POST", params={**IN_PROJECT, **params}, json=body)


async def found(get: Any, body: Any, **params: str) -> set[str]:
    return set(CASE.names(await send(get, body, **params)))


@pytest.fixture
def kinds(fake: FakeHarness) -> None:
    """Adds one pipeline execution of each kind."""
    add = fake.add_pipeline_execution
    add("default", "payments", plan_execution_id="normal")
    add("default", "payments", plan_execution_id="rollback", execution_mode="POST_EXECUTION_ROLLBACK")
    add("default", "payments", plan_execution_id="pipeline rollback", execution_mode="PIPELINE_ROLLBACK")
    add("default", "payments", plan_execution_id="child", parent="normal", pipeline="child")
    add("default", "payments", plan_execution_id="superseded", superseded=True, status="Failed")


@pytest.mark.usefixtures("kinds")
@pytest.mark.parametrize(
    ("body", "params", "hidden"),
    [
        (None, {}, {"rollback", "pipeline rollback", "child", "superseded"}),
        (None, {"showAllExecutions": "true"}, {"rollback", "pipeline rollback", "child"}),
        ({}, {}, {"superseded"}),
        ({"status": []}, {}, {"superseded"}),
        ({"executionModeFilter": "DEFAULT"}, {}, {"rollback", "pipeline rollback", "child", "superseded"}),
        ({"executionModeFilter": "ROLLBACK"}, {}, {"normal", "child", "superseded"}),
        ({"executionModeFilter": "ALL"}, {}, {"superseded"}),
        ({"executionModeFilter": "ALL"}, {"showAllExecutions": "false"}, {"superseded"}),
        ({"executionModeFilter": "ALL"}, {"showAllExecutions": "true"}, set()),
    ],
)
async def test_hidden_executions(get: Any, body: Any, params: dict[str, str], hidden: set[str]) -> None:
    """Body and parameters decide which rollbacks, child pipelines and superseded retries are listed."""
    if body is None:
        response = await get(CASE.path, "POST", params={**IN_PROJECT, **params})
        assert set(CASE.names(response)) == EVERYTHING - hidden
    else:
        assert await found(get, body, **params) == EVERYTHING - hidden


@pytest.mark.usefixtures("kinds")
async def test_children_of_one_pipeline(get: Any) -> None:
    """The executions of a child pipeline are listed if their pipeline is requested."""
    response = await get(CASE.path, "POST", params={**IN_PROJECT, "pipelineIdentifier": "child"})
    assert CASE.names(response) == ["child"]


async def test_filters(fake: FakeHarness, get: Any) -> None:
    """The members of the body and the parameters filter, and combine."""
    add = fake.add_pipeline_execution
    add("default", "payments", plan_execution_id="a", pipeline="build", start_ts=10, tags={"team": "core"})
    add("default", "payments", plan_execution_id="b", name="Deploy it", status="Failed", start_ts=20, modules=["iacm"])
    add("default", "payments", plan_execution_id="c", status="Running", start_ts=30, trigger_type="WEBHOOK")
    for body, expected in (
        ({"filterType": "PipelineExecution"}, "abc"),
        ({"status": ["Failed", "Running"]}, "bc"),
        ({"pipelineIdentifiers": ["build"]}, "a"),
        ({"planExecutionIds": ["a", "c", "z"]}, "ac"),
        ({"pipelineName": "Deploy it"}, "b"),
        ({"pipelineTags": [{"key": "team", "value": "core"}]}, "a"),
        ({"triggerTypes": ["WEBHOOK"]}, "c"),
        ({"timeRange": {"startTime": 10, "endTime": 20}}, "ab"),
        ({"timeRange": {"startTime": 11, "endTime": 19}}, ""),
        ({"timeRange": {}}, "abc"),
        ({"timeRange": {"startTime": 0, "endTime": 20}, "status": ["Success"]}, "a"),
    ):
        assert await found(get, body) == set(expected)
    for params, expected in (
        ({"pipelineIdentifier": "build"}, "a"),
        ({"searchTerm": "DEPLOY.it"}, "b"),
        ({"module": "iacm"}, "b"),
        ({"status": "Running"}, "c"),
    ):
        assert await found(get, {}, **params) == set(expected)
    fake.end_time = "exclusive"
    assert await found(get, {"timeRange": {"startTime": 10, "endTime": 20}}) == {"a"}


@pytest.mark.parametrize(
    "body",
    [
        [],
        "text",
        {"timeRange": {"startTime": 1}},
        {"timeRange": {"endTime": 1}},
        {"timeRange": {"startTime": "1", "endTime": 2}},
        {"timeRange": {"startTime": True, "endTime": 2}},
        {"timeRange": {"startTime": 1, "endTime": 2, "unit": "s"}},
        {"timeRange": [1, 2]},
        {"status": "Failed"},
        {"status": [1]},
        {"executionModeFilter": "all"},
        {"filterType": "Audit"},
        {"statuses": ["Failed"]},
    ],
)
async def test_bad_bodies(fake: FakeHarness, get: Any, envelope: Callable[[Any], str], body: Any) -> None:
    """A time range with one end, wrong types and unknown members are rejected."""
    CASE.fill(fake, 1)
    response = await send(get, body)
    assert (response.status, response.json["code"]) == (400, "INVALID_REQUEST")
    assert envelope(response) in {"legacy", "failure"}


async def test_bodies_must_be_json(fake: FakeHarness, get: Any) -> None:
    """Another content type is 415, invalid JSON is 400."""
    CASE.fill(fake, 1)
    response = await get(CASE.path, "POST", params=IN_PROJECT, data=b"{}", headers={"Content-Type": "text/plain"})
    assert (response.status, response.json["code"]) == (415, "MEDIA_NOT_SUPPORTED")
    response = await get(CASE.path, "POST", params=IN_PROJECT, data=b"{", headers={"Content-Type": "application/json"})
    assert response.status == 400


async def test_the_ceiling(fake: FakeHarness, get: Any) -> None:
    """A page that reaches behind the ceiling is rejected, although the total counts what is there."""
    fake.add_pipeline_executions("default", "payments", 60)
    fake.ceiling = 50
    response = await CASE.fetch(get, 4, 10)
    assert (len(CASE.names(response)), CASE.total_of(response)) == (10, 60)
    response = await CASE.fetch(get, 5, 10)
    assert (response.status, response.json["code"]) == (400, "INVALID_REQUEST")
    assert (await CASE.fetch(get, 1, 30)).status == 400
    fake.ceiling = None
    assert len(await CASE.walk(get, 30)) == 60


async def test_sorting(fake: FakeHarness, get: Any) -> None:
    """Executions come newest first, or oldest first if requested."""
    for number in (2, 1, 3):
        fake.add_pipeline_execution("default", "payments", plan_execution_id=str(number), start_ts=number)
    assert CASE.names(await CASE.fetch(get)) == ["3", "2", "1"]
    assert CASE.names(await CASE.fetch(get, extra={"sort": "startTs,ASC"})) == ["1", "2", "3"]
    for sort in ("startTs", "startTs,asc", "size,ASC", "-startTs"):
        assert (await CASE.fetch(get, extra={"sort": sort})).status == 400


async def test_rows(fake: FakeHarness, get: Any) -> None:
    """A row is the stored one with the graph of its stages, which is most of it. Empty members are left out."""
    row = fake.add_pipeline_execution(
        "default", "payments", status="Running", stages=4, canRetry=None, storeType="REMOTE"
    )
    (listed,) = (await CASE.fetch(get)).json["data"]["content"]
    nodes = listed.pop("layoutNodeMap")
    assert listed.pop("startingNodeId") in nodes
    assert listed == row
    assert {"endTs", "failureInfo", "tags", "parentStageInfo", "canRetry"}.isdisjoint(row)
    assert row["storeType"] == "REMOTE"
    assert len(nodes) == 4
    assert len(str(nodes)) > 2 * len(str(row))
    assert [node["status"] for node in nodes.values()] == ["Success", "Success", "Success", "Running"]


async def test_the_page_object(fake: FakeHarness, get: Any) -> None:
    """A page is that of Spring: numbered from 0, with totals and flags for the first and the last."""
    fake.add_pipeline_executions("default", "payments", 5)
    data = (await CASE.fetch(get, 1, 2)).json["data"]
    assert len(data.pop("content")) == 2
    names = ("totalElements", "totalPages", "size", "number", "numberOfElements", "first", "last", "empty")
    assert [data[name] for name in names] == [5, 3, 2, 1, 2, False, False, False]
    assert data["pageable"]["offset"] == 2
    data = (await CASE.fetch(get, 2, 2)).json["data"]
    assert (data["last"], data["numberOfElements"]) == (True, 1)
    fake.totals = "none"
    data = (await CASE.fetch(get, 0, 2)).json["data"]
    assert {"totalElements", "totalPages", "last"}.isdisjoint(data)


async def test_one_execution(fake: FakeHarness, get: Any, envelope: Callable[[Any], str]) -> None:
    """An execution is found by its id, hidden or not, with its graph. A missing one is 404 `ENTITY_NOT_FOUND`."""
    row = fake.add_pipeline_execution("default", "payments", superseded=True, status="Failed")
    path = "/pipeline/api/pipelines/execution/v2"
    data = (await get(f"{path}/{row['planExecutionId']}", params=IN_PROJECT)).json["data"]
    assert data["pipelineExecutionSummary"].items() >= row.items()
    assert data["executionGraph"]["rootNodeId"] in data["executionGraph"]["nodeMap"]
    response = await get(f"{path}/nope", params=IN_PROJECT)
    assert (response.status, envelope(response), response.json["code"]) == (404, "legacy", "ENTITY_NOT_FOUND")
    response = await get(f"{path}/{row['planExecutionId']}", params={"accountIdentifier": ACCOUNT})
    assert (response.status, envelope(response)) == (400, "failure")


# Audit events


@pytest.fixture
def events(fake: FakeHarness) -> None:
    """Adds audit events of three scopes."""
    add = fake.add_audit_event
    add(insert_id="account", timestamp=1, action="LOGIN", principal_type="SYSTEM", principal="x")
    add(insert_id="org", org="default", timestamp=2, action="CREATE", resource_type="PROJECT", resource="p")
    add(insert_id="project", org="default", project="payments", timestamp=3, module="IACM")
    add(insert_id="other", org="labs", project="payments", timestamp=4)


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, ["other", "project", "org", "account"]),
        ({"filterType": "Audit"}, ["other", "project", "org", "account"]),
        ({"scopes": [{"accountIdentifier": ACCOUNT}]}, ["account"]),
        (
            {"scopes": [{"accountIdentifier": ACCOUNT}], "includeChildScopes": True},
            ["other", "project", "org", "account"],
        ),
        ({"scopes": [{"accountIdentifier": ACCOUNT, "orgIdentifier": "default"}]}, ["org"]),
        (
            {"scopes": [{"accountIdentifier": ACCOUNT, "orgIdentifier": "default"}], "includeChildScopes": True},
            ["project", "org"],
        ),
        ({"startTime": 2, "endTime": 3}, ["project", "org"]),
        ({"startTime": 4}, ["other"]),
        ({"actions": ["LOGIN", "CREATE"]}, ["org", "account"]),
        ({"modules": ["IACM"]}, ["project"]),
        ({"resources": [{"type": "PROJECT", "identifier": "p"}]}, ["org"]),
        ({"principals": [{"type": "SYSTEM", "identifier": "x"}]}, ["account"]),
        ({"staticFilter": "EXCLUDE_LOGIN_EVENTS"}, ["other", "project", "org"]),
        ({"staticFilter": "EXCLUDE_SYSTEM_EVENTS"}, ["other", "project", "org"]),
    ],
)
async def test_audit_events(get: Any, body: Any, expected: list[str]) -> None:
    """Audit events come newest first, and are filtered by scope, time, action, module, resource and principal."""
    response = await get(AUDITS.path, "POST", params=AUDITS.params, json=body)
    assert AUDITS.names(response) == expected


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    "body", [[], {"filterType": "X"}, {"startTime": "1"}, {"scopes": {}}, {"actions": "LOGIN"}, {"staticFilter": "X"}]
)
async def test_bad_audit_filters(get: Any, body: Any) -> None:
    """Wrong types and values in the body are rejected."""
    assert (await get(AUDITS.path, "POST", params=AUDITS.params, json=body)).status == 400


@pytest.mark.usefixtures("events")
async def test_audit_events_oldest_first(get: Any) -> None:
    """Audit events are sorted by time, ascending if requested. The body is optional."""
    response = await get(AUDITS.path, "POST", params={**AUDITS.params, "sortOrders": "timestamp,ASC"})
    assert AUDITS.names(response) == ["account", "org", "project", "other"]
