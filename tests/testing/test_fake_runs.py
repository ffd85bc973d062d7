from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness_async.testing import FakeHarness
from tests.testing.cases import ACCOUNT, ALL, IN_PROJECT

CASE = ALL["pipeline executions"]
AUDITS = ALL["audit events"]
EVERYTHING = {"normal", "rollback", "pipeline rollback", "child", "superseded"}


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
        (None, {"pipelineIdentifier": "child"}, EVERYTHING - {"child"}),
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
    options = {} if body is None else {"json": body}
    response = await get(CASE.path, "POST", params={**IN_PROJECT, **params}, **options)
    assert set(CASE.names(response)) == EVERYTHING - hidden


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
