from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness_async.testing import FakeHarness
from tests.testing.cases import IACM

MISSING = "98fcd82e-9918-45be-b790-17eb77a06c16"


@pytest.fixture
def names(get: Any) -> Callable[..., Any]:
    """Returns the values of a member in the rows of a list of the project."""

    async def read(path: str, member: str = "identifier") -> list[str]:
        response = await get(f"{IACM}/{path}")
        assert response.status == 200, response.body
        return [row[member] for row in response.json]

    return read


@pytest.fixture(autouse=True)
def _project(fake: FakeHarness) -> None:
    fake.add_project("default", "payments")


async def test_workspaces(fake: FakeHarness, get: Any, names: Any) -> None:
    """Workspaces are sorted by name, searched by name, and filtered by status and tags, repeated or with commas."""
    fake.add_workspace(
        "default", "payments", "b_net", name="Beta net", status="failed", tags={"team": "core"}, updated=1
    )
    fake.add_workspace("default", "payments", "a_net", name="Alpha net", status="active", updated=3)
    fake.add_workspace("default", "payments", "c_db", name="Gamma db", status="drifted", tags={"core": "x"}, updated=2)
    assert await names("workspaces") == ["a_net", "b_net", "c_db"]
    assert await names("workspaces?sort=name,DESC") == ["c_db", "b_net", "a_net"]
    assert await names("workspaces?sort=updated,ASC") == ["b_net", "c_db", "a_net"]
    assert await names("workspaces?searchTerm=NET") == ["a_net", "b_net"]
    assert await names("workspaces?searchTerm=") == ["a_net", "b_net", "c_db"]
    assert await names("workspaces?status=active,failed") == ["a_net", "b_net"]
    assert await names("workspaces?status=active&status=drifted") == ["a_net", "c_db"]
    assert await names("workspaces?tags=core") == ["c_db"]
    assert await names("workspaces?tags=team:core,team:other") == ["b_net"]
    assert (await get(f"{IACM}/workspaces?sort=size,ASC")).status == 400
    assert (await get(f"{IACM}/workspaces?status=active,")).status == 400


async def test_one_workspace(fake: FakeHarness, get: Any) -> None:
    """The list has a summary of a workspace, the workspace itself has all members."""
    row = fake.add_workspace("default", "payments", "network", backend_locked=True, budget=12.5)
    assert (await get(f"{IACM}/workspaces/network")).json == row
    assert row["budget"] == 12.5
    (summary,) = (await get(f"{IACM}/workspaces")).json
    assert summary.items() <= row.items()
    assert "repository" not in summary
    assert (await get(f"{IACM}/workspaces/nope")).json["name"] == "not_found"


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


async def test_activities(fake: FakeHarness, get: Any, names: Any) -> None:
    """Activities are filtered by workspace, run, type, status and time, and are found by id."""
    add = fake.add_activity
    row = add("default", "payments", id="a", workspace="w", activity_type="plan", created=10, git_branch="main")
    add("default", "payments", id="b", activity_status="failure", pipeline_execution_id="e", created=20)
    add("default", "payments", id="c", pipeline="p", pipeline_stage_id="s", created=30)
    for query, expected in {
        "workspace=w": ["a"],
        "activity_type=plan": ["a"],
        "activity_status=failure": ["b"],
        "pipeline_execution_id=e": ["b"],
        "pipeline_stage_id=s": ["c"],
        "pipeline=p": ["c"],
        "start_time=20": ["c", "b"],
        "start_time=10&end_time=20": ["b", "a"],
    }.items():
        assert await names(f"activities?{query}", "id") == expected
    assert (await get(f"{IACM}/activities/a")).json == row
    assert row["metadata"]["git_branch"] == "main"
    assert (await get(f"{IACM}/activities/nope")).status == 404


async def test_approvals(fake: FakeHarness, get: Any, names: Any) -> None:
    """Approvals are filtered by workspace, run and status, and are found by a UUID, with fewer members."""
    row = fake.add_approval("default", "payments", workspace="w", status="approved", actioned_by="Jane Roe")
    fake.add_approval("default", "payments", pipeline_execution_id="e", pipeline_stage_id="s")
    assert await names("approvals?workspace=w", "id") == [row["id"]]
    assert await names("approvals?status_type=approved", "id") == [row["id"]]
    for query in ("pipeline_execution_id=e", "pipeline_stage_id=s", "status_type=pending"):
        assert row["id"] not in await names(f"approvals?{query}", "id")
    assert (await get(f"{IACM}/approvals?status_type=done")).status == 400
    detail = (await get(f"{IACM}/approvals/{row['id']}")).json
    assert detail == {name: row[name] for name in ("actioned_by", "created", "status", "updated")}
    assert (await get(f"{IACM}/approvals/{MISSING}")).status == 404
    assert (await get(f"{IACM}/approvals/no-uuid")).status == 400


async def test_costs(fake: FakeHarness, get: Any, names: Any) -> None:
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
    assert await names("costs/network", "cost") == ["2.00", "1.00"]
    assert await names("costs/network?end_time=15000", "cost") == ["1.00"]
    assert await names("costs/other", "cost") == []


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
