from __future__ import annotations

from typing import Any

import pytest

from harness_async.testing import FakeHarness
from tests.testing.cases import ALL, IN_PROJECT

CASE = ALL["pipeline executions"]
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
