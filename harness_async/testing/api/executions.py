"""The IaCM executions of a project: list, get, create, and the changes of a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_async.testing.api.call import Call, ok
from harness_async.testing.api.dialects import IACM
from harness_async.testing.api.filters import any_of, equal, time_range
from harness_async.testing.api.lists import Get, List
from harness_async.testing.api.query import Query
from harness_async.testing.data.iacm import managed_resource
from harness_async.testing.data.table import TIME, Ordering, Row, View
from harness_async.testing.responses import FakeResponse, Json, stable_hash

if TYPE_CHECKING:
    from collections.abc import Callable

_MEMBERS = ("pipeline", "pipeline_execution_id", "pipeline_stage_id", "workspace")
_MAX_ID = 128  # characters in any identifier

EXECUTIONS = List(
    "executions",
    IACM,
    default=30,
    maximum=100,
    filters=(
        equal("workspace"),
        equal("pipeline_execution_id"),
        any_of("status", comma=True, repeated=False),
        equal("pipeline_name", "@pipeline_name"),
        time_range("start_time", "end_time"),
    ),
)
EXECUTION = Get("executions", IACM)


def create_execution(call: Call, org: str, project: str) -> FakeResponse:
    """Store an execution without outcome and return it, with status 200 as the API declares."""
    org, project = call.project(org, project)
    Query(call, ())
    pipeline, execution_id, stage_id, workspace = _members(call, call.json())
    if call.account.table("executions", org, project).get((execution_id, stage_id)) is not None:
        raise call.error(409, "execution already exists")
    wire = call.account.add_execution(
        org,
        project,
        status="none",
        workspace=workspace,
        pipeline=pipeline,
        pipeline_execution_id=execution_id,
        pipeline_stage_id=stage_id,
    )
    return ok(wire)


def _members(call: Call, body: object) -> list[str]:
    """Check the body of a create: exactly the four members, each a string of identifier length."""
    if not isinstance(body, dict):
        raise call.error(400, "body must be an object")
    for name in _MEMBERS:
        value = body.get(name)
        if value is None:
            raise call.error(400, f'"{name}" is missing from body')
        if not isinstance(value, str) or not 1 <= len(value) <= _MAX_ID:
            raise call.error(400, f"body.{name} must be a string of 1 to {_MAX_ID} characters")
    unknown = sorted(body.keys() - set(_MEMBERS))
    if unknown:
        raise call.error(400, f"body.{unknown[0]} is not a member of an execution to create")
    return [body[name] for name in _MEMBERS]


# The changes of the stages of a run


def resource_changes(call: Call, org: str, project: str, pipeline_execution_id: str) -> FakeResponse:
    """Return the resource changes of one stage."""
    query = Query(call, ("pipeline_stage_id", "exclude_state", "path_id"))
    rows = _stages(call, org, project, pipeline_execution_id)
    return ok(_resource_changes(_stage(call, query, rows), exclude_state=query.flag("exclude_state")))


def resource_changes_all_stages(call: Call, org: str, project: str, pipeline_execution_id: str) -> FakeResponse:
    """Return the resource changes of all stages, as an array."""
    query = Query(call, ("exclude_state",))
    rows = _stages(call, org, project, pipeline_execution_id)
    return ok([_resource_changes(row, exclude_state=query.flag("exclude_state")) for row in rows])


def cost_changes(call: Call, org: str, project: str, pipeline_execution_id: str) -> FakeResponse:
    """Return the cost changes of one stage."""
    query = Query(call, ("pipeline_stage_id",))
    return ok(_cost_changes(_stage(call, query, _stages(call, org, project, pipeline_execution_id))))


def cost_changes_all_stages(call: Call, org: str, project: str, pipeline_execution_id: str) -> FakeResponse:
    """Return the cost changes of all stages, as an array."""
    Query(call, ())
    return ok([_cost_changes(row) for row in _stages(call, org, project, pipeline_execution_id)])


def activity_resource_changes(call: Call, org: str, project: str, id: str) -> FakeResponse:  # noqa: A002 - of the API
    """Return the resource changes of the execution of an activity."""
    query = Query(call, ("workspace",))
    workspace = query.required("workspace")
    org, project = call.project(org, project)
    activity = call.account.table("activities", org, project).get((id,))
    if activity is None or activity.wire["workspace"] != workspace:
        raise call.not_found("activity not found")
    metadata = activity.wire["metadata"]
    key = (metadata["pipeline_execution_id"], metadata["pipeline_stage_id"])
    row = call.account.table("executions", org, project).get(key)
    if row is None:
        raise call.not_found("the activity has no execution")
    return ok(_resource_changes(row))


def _stages(call: Call, org: str, project: str, pipeline_execution_id: str) -> list[Row]:
    """Return the executions of all stages of a run, oldest first. Raises an error if there are none."""
    table = call.account.table("executions", *call.project(org, project))
    keep: Callable[[Row], bool] = lambda row: row.key[0] == pipeline_execution_id  # noqa: E731 - typed
    view = View(Ordering(TIME, descending=False), keep, ("stages", pipeline_execution_id))
    rows = table.slice(view, call.account.rng)
    if not rows:
        raise call.not_found("execution not found")
    return rows


def _stage(call: Call, query: Query, rows: list[Row]) -> Row:
    """Return the requested stage. The first one for an empty value, whose meaning is undocumented."""
    stage = query.text("pipeline_stage_id")
    found = [row for row in rows if not stage or row.key[1] == stage]
    if not found:
        raise call.not_found("stage not found")
    return found[0]


def _resource_changes(row: Row, *, exclude_state: bool | None = None) -> Json:
    given: Json | None = row.hidden.get("resource_changes")
    changes = _generated_resource_changes(row) if given is None else given
    return {**changes, "resources": [], "data_sources": []} if exclude_state else changes


def _generated_resource_changes(row: Row) -> Json:
    """Generate some resource changes, always the same for the same execution."""
    wire, seed = row.wire, stable_hash("/".join(row.key))
    name = wire["workspace"].partition("_")[0]
    kinds = ("aws_instance", "aws_subnet", "aws_security_group", "aws_route53_record")
    words = ("added", "changed", "deleted", "changed")
    planned = [
        {
            "change": words[(seed + index) % 4],
            "change_count": 1,
            "changes": {
                "tags": {"change": "changed", "drift": False, "new": "b", "old": "a", "sensitive": False},
            },
            "drift": False,
            "module": "root",
            "name": f"{name}_{index}",
            "provider": "AWS",
            "type": kinds[(seed + index) % 4],
        }
        for index in range(seed % 4)
    ]
    return {
        "data_sources": [],
        "drift_changes": [],
        "has_dependency_graph": False,
        "outputs": [
            {"change": "unchanged", "name": "vpc_id", "new": "vpc-0a1b2c", "old": "vpc-0a1b2c", "sensitive": False}
        ],
        "pipeline_execution": wire["pipeline_execution_id"],
        "pipeline_stage": wire["pipeline_stage_id"],
        "planned_changes": planned,
        "resources": [managed_resource(f"{name}_{index}", kinds[index]) for index in range(1 + seed % 3)],
        "stage_id": "iacm",
        "workspace_id": wire["workspace"],
    }


def _cost_changes(row: Row) -> Json:
    """Return the cost changes of an execution, generated unless they were set."""
    given: Json | None = row.hidden.get("cost_changes")
    if given is not None:
        return given
    seed = stable_hash("/".join(row.key))
    previous, current = 1000 + seed % 9000, 1000 + (seed >> 4) % 9000
    amounts = {
        "current_monthly_cost": _money(current),
        "diff_monthly_cost": _money(current - previous),
        "percentage_change_monthly_cost": round(100 * (current - previous) / previous),
        "previous_monthly_cost": _money(previous),
    }
    return {
        "currency": "USD",
        "diff": {"aws_instance": {**amounts, "diff": [{**amounts, "name": "aws_instance.app"}]}},
        "diff_total_monthly_cost": amounts["diff_monthly_cost"],
        "past_total_monthly_cost": amounts["previous_monthly_cost"],
        "percentage_change_total_monthly_cost": amounts["percentage_change_monthly_cost"],
        "stage_execution_id": row.wire["pipeline_stage_id"],
        "stage_id": "iacm",
        "total_monthly_cost": amounts["current_monthly_cost"],
        "workspace_id": row.wire["workspace"],
    }


def _money(cents: int) -> str:
    return f"{cents / 100:.2f}"
