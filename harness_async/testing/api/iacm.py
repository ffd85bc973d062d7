"""The workspaces, activities, approvals and costs of IaCM."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import attrs

from harness_async.testing.api.call import Call, ok
from harness_async.testing.api.dialects import IACM, Page, object_page
from harness_async.testing.api.filters import any_of, equal, search, time_range
from harness_async.testing.api.lists import Get, List
from harness_async.testing.api.query import Query
from harness_async.testing.data.table import Ordering, Row
from harness_async.testing.responses import FakeResponse, Json, encode_json

if TYPE_CHECKING:
    from harness_async.testing.data.account import Account

_DEFAULT = 30
_MAXIMUM = 100

_SUMMARY = ("account", "created", "description", "identifier", "name", "org", "project", "status", "updated")
_APPROVAL = ("actioned_by", "actioned_by_email", "created", "status", "updated")
_COST = ("workspace_id", "workspace_name", "cost", "currency", "created")


def _summary(_account: Account, row: Row) -> Json:
    """Return the members that a list of workspaces has."""
    return {name: row.wire[name] for name in _SUMMARY}


WORKSPACES = List(
    "workspaces",
    IACM,
    default=_DEFAULT,
    maximum=_MAXIMUM,
    filters=(
        search("searchTerm", "name"),
        any_of("status", comma=True),
        any_of("tags", comma=True),
    ),
    sorts={"name": "name", "updated": "updated"},
    default_sort=Ordering("name", descending=False),
    render=_summary,
)
WORKSPACE = Get("workspaces", IACM)
ACTIVITIES = List(
    "activities",
    IACM,
    default=_DEFAULT,
    maximum=_MAXIMUM,
    filters=(
        equal("workspace"),
        equal("pipeline", "metadata.pipeline"),
        equal("pipeline_execution_id", "metadata.pipeline_execution_id"),
        equal("pipeline_stage_id", "metadata.pipeline_stage_id"),
        equal("activity_type", "metadata.activity_type"),
        equal("activity_status", "metadata.activity_status"),
        time_range("start_time", "end_time"),
    ),
)
ACTIVITY = Get("activities", IACM)
APPROVALS = List(
    "approvals",
    IACM,
    default=_DEFAULT,
    maximum=_MAXIMUM,
    filters=(
        equal("workspace", "workspace_id"),
        equal("pipeline_execution_id"),
        equal("pipeline_stage_id"),
        equal("status_type", "status", choices=("approved", "rejected", "pending")),
    ),
)
COSTS = List(
    "workspace_costs",
    attrs.evolve(IACM, layout=object_page("workspaces")),
    default=_DEFAULT,
    maximum=_MAXIMUM,
    filters=(any_of("workspaces", "workspace_id"), time_range("start_time", "end_time")),
    render=lambda _account, row: {name: row.wire[name] for name in _COST},
)
WORKSPACE_COSTS = List(
    "costs",
    IACM,
    default=_DEFAULT,
    maximum=_MAXIMUM,
    path={"workspace": "workspace"},
    filters=(time_range("start_time", "end_time"),),
)


def approval(call: Call, org: str, project: str, id: str) -> FakeResponse:  # noqa: A002 - the name of the API
    """Return an approval, with fewer members than the list."""
    try:
        uuid.UUID(id)
    except ValueError:
        raise call.error(400, f"id must be formatted as a uuid but got value {id!r}") from None
    return _APPROVAL_OPERATION(call, org=org, project=project, id=id)


_APPROVAL_OPERATION = Get(
    "approvals",
    IACM,
    render=lambda _account, row: {name: row.wire[name] for name in _APPROVAL if name in row.wire},
)


def workspace_resources(call: Call, org: str, project: str, identifier: str) -> FakeResponse:
    """Return the resources of a workspace. Without page and limit they are complete and no headers are sent."""
    query = Query(call, ("page", "limit", "resource_types"))
    org, project = call.project(org, project)
    row = call.account.table("workspaces", org, project).get((identifier,))
    if row is None:
        raise call.not_found("workspace not found")
    state = row.hidden.get("resources")
    if state is None:
        # A workspace without state has been seen without the lists (harness/mcp-server#240).
        return ok({"total_resources": 0})
    rows: list[Any] = list(state.get("resources") or ())
    types = query.text("resource_types")
    if types is not None:
        rows = [resource for resource in rows if resource["type"] in types.split(",")]
    number = query.integer("page", least=1)
    limit = query.integer("limit", least=1, most=_MAXIMUM)
    total = len(rows)
    headers: dict[str, str] = {}
    if (number, limit) != (None, None):
        page = Page(1, number or 1, limit or _DEFAULT, limit or _DEFAULT)
        rows = rows[page.start : page.start + page.size]
        _, headers = IACM.layout(page, rows, total, call.account.totals)
    body = {"data_sources": [], "outputs": [], **state, "resources": rows, "total_resources": total}
    return FakeResponse(200, encode_json(body), headers=headers)
