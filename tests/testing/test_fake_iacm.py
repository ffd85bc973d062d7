from __future__ import annotations

from typing import Any

import pytest

from harness_async.testing import FakeHarness
from tests.testing.cases import IACM


@pytest.fixture(autouse=True)
def _project(fake: FakeHarness) -> None:
    fake.add_project("default", "payments")


async def test_resources_of_a_workspace(fake: FakeHarness, get: Any) -> None:
    """Resources come complete and without headers, or in pages with headers; without a state the lists are missing."""
    fake.add_workspace("default", "payments", "empty")
    resources = [{"name": f"r{number}", "type": "aws_instance" if number % 2 else "aws_subnet"} for number in range(5)]
    fake.add_workspace("default", "payments", "network", resources={"resources": resources})
    path = f"{IACM}/workspaces/network/resources"
    assert (await get(f"{IACM}/workspaces/empty/resources")).json == {"total_resources": 0}
    response = await get(path)
    assert response.json == {"resources": resources, "data_sources": [], "outputs": [], "total_resources": 5}
    assert "x-total-items" not in response.headers
    response = await get(path, params={"limit": 2, "page": 3})
    assert response.json["resources"] == resources[4:]
    assert (response.headers["x-total-items"], response.headers["x-total-pages"]) == ("5", "3")
    response = await get(path, params={"resource_types": "aws_subnet"})
    assert [row["name"] for row in response.json["resources"]] == ["r0", "r2", "r4"]
    assert (await get(f"{IACM}/workspaces/nope/resources")).status == 404
    assert (await get(path, params={"limit": 101})).status == 400


async def test_costs(fake: FakeHarness, get: Any) -> None:
    """The list of a project has the latest cost of each workspace, that of a workspace has all, in seconds."""
    fake.add_workspace("default", "payments", "network", name="The network")
    fake.add_cost("default", "payments", workspace="network", cost="2.00", created=20_999)
    fake.add_cost("default", "payments", workspace="network", cost="1.00", created=10_000)
    fake.add_cost("default", "payments", workspace="dns", cost="3.00", created=30_000)
    body = (await get(f"{IACM}/costs")).json
    assert (body["totalItems"], body["totalPages"], body["pageSize"]) == (2, 1, 30)
    assert [tuple(row.values()) for row in body["workspaces"]] == [
        ("dns", "Dns", "3.00", "USD", 30),
        ("network", "The network", "2.00", "USD", 20),
    ]
    response = await get(f"{IACM}/costs?workspaces=network&workspaces=other&start_time=20000&end_time=20000")
    assert [row["workspace_id"] for row in response.json["workspaces"]] == ["network"]
    for query, expected in (("network", ["2.00", "1.00"]), ("network?end_time=15000", ["1.00"]), ("other", [])):
        assert [row["cost"] for row in (await get(f"{IACM}/costs/{query}")).json] == expected


@pytest.mark.parametrize("kind", ["resource", "cost"])
async def test_changes_of_a_run(fake: FakeHarness, get: Any, kind: str) -> None:
    """The changes of a stage are selected by its id, those of all stages are an array, oldest first."""
    stages = [
        fake.add_execution(
            "default", "payments", workspace=f"w{number}", pipeline_execution_id="run", pipeline_stage_id=f"s{number}"
        )
        for number in range(2)
    ]
    path = f"{IACM}/executions/run/{kind}-changes"
    one = (await get(path, params={"pipeline_stage_id": "s1"})).json
    assert one["workspace_id"] == "w1"
    assert (await get(path)).json["workspace_id"] == "w0"
    assert [row["workspace_id"] for row in (await get(f"{path}-all-stages")).json] == ["w0", "w1"]
    assert (await get(path, params={"pipeline_stage_id": "s1"})).json == one
    assert (await get(path, params={"pipeline_stage_id": "s9"})).status == 404
    assert (await get(f"{IACM}/executions/other/{kind}-changes")).status == 404
    fake.set_changes(stages[1], resources={"resources": [1], "planned_changes": []}, costs={"currency": "EUR"})
    expected = {"resource": {"resources": [1], "planned_changes": []}, "cost": {"currency": "EUR"}}[kind]
    assert (await get(path, params={"pipeline_stage_id": "s1"})).json == expected


async def test_changes_without_state(fake: FakeHarness, get: Any) -> None:
    """Without the state, the resource changes have neither resources nor data sources."""
    fake.add_execution("default", "payments", pipeline_execution_id="run")
    path = f"{IACM}/executions/run/resource-changes"
    assert (await get(path)).json["resources"]
    assert (await get(f"{path}?exclude_state=true")).json["resources"] == []
    assert (await get(f"{path}?exclude_state=1")).status == 400
    with pytest.raises(KeyError):
        fake.set_changes({"org": "default", "project": "payments"}, costs={})


async def test_resource_changes_of_an_activity(fake: FakeHarness, get: Any) -> None:
    """The resource changes of an activity are those of its execution. The workspace is required and must match."""
    ids: Any = {"pipeline_execution_id": "run", "pipeline_stage_id": "s"}
    fake.add_execution("default", "payments", **ids)
    fake.add_activity("default", "payments", id="a", **ids)
    fake.add_activity("default", "payments", id="alone")
    path = f"{IACM}/activities/a/resource-changes"
    expected = (await get(f"{IACM}/executions/run/resource-changes")).json
    assert (await get(f"{path}?workspace=network_prod")).json == expected
    assert (await get(f"{path}?workspace=other")).status == 404
    assert (await get(path)).status == 400
    assert (await get(f"{IACM}/activities/alone/resource-changes?workspace=network_prod")).status == 404
