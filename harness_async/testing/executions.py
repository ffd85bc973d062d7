"""The executions of a project: list, show, create, and what each refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_async.testing.lists import (
    MAX_INTEGER,
    Call,
    PageRequest,
    Query,
    build_page,
    iacm_headers,
    v1_headers,
)
from harness_async.testing.responses import FakeResponse, encode_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_async.testing.responses import Json
    from harness_async.testing.table import Row, Table

_FILTERS = ("workspace", "pipeline_execution_id", "status", "pipeline_name", "start_time", "end_time")
_MEMBERS = ("pipeline", "pipeline_execution_id", "pipeline_stage_id", "workspace")
_MAX_ID = 128  # characters in any identifier


def list_executions(call: Call, org: str, project: str) -> FakeResponse:
    """Return a page of a project's executions, filtered, in the order in force."""
    table = _table(call, org, project)
    query = Query(call, ("page", "limit", *_FILTERS))
    page = query.page(first=1)
    keep = _filter(call, query)

    order, rng = call.account.order, call.account.rng
    name = (call.account.end_time, *map(query.text, _FILTERS))

    def rows(start: int, stop: int) -> list[Json]:
        if keep is None:
            return [row.wire for row in table.slice(order, rng, start, stop)]
        return [row.wire for row in table.matching(order, rng, name, keep)[start:stop]]

    total = len(table) if keep is None else len(table.matching(order, rng, name, keep))
    return build_page(call, page, total, rows, _totals(call, page, total))


def show_execution(
    call: Call, org: str, project: str, pipeline_execution_id: str, pipeline_stage_id: str
) -> FakeResponse:
    """Return the execution of those two ids."""
    table = _table(call, org, project)
    Query(call, ())
    row = table.get((pipeline_execution_id, pipeline_stage_id))
    if row is None:
        raise call.refused(404, "execution not found")
    return FakeResponse(200, encode_json(row.wire))


def create_execution(call: Call, org: str, project: str, body: object) -> FakeResponse:
    """Store an execution without outcome and answer it, with 200 as the API declares."""
    table = _table(call, org, project)
    Query(call, ())
    pipeline, execution_id, stage_id, workspace = _members(call, body)
    if table.get((execution_id, stage_id)) is not None:
        raise call.refused(409, "execution already exists")
    wire = call.account.add_execution(
        org,
        project,
        status="none",
        workspace=workspace,
        pipeline=pipeline,
        pipeline_execution_id=execution_id,
        pipeline_stage_id=stage_id,
    )
    return FakeResponse(200, encode_json(wire))


def _table(call: Call, org: str, project: str) -> Table:
    """Find the project's executions, or refuse the way the API hides and denies projects."""
    denied = call.account.denied
    status = denied.get((org, project)) or denied.get((org, None))
    if status is not None:
        raise call.refused(status, "missing permission")
    table = call.account.tables.get((org, project))
    if table is None:
        raise call.refused(404, f"project {org}/{project} not found")
    return table


def _members(call: Call, body: object) -> list[str]:
    """Check the body of a create: exactly the four members, each a text of identifier length."""
    if not isinstance(body, dict):
        raise call.refused(400, "body must be an object")
    for name in _MEMBERS:
        value = body.get(name)
        if value is None:
            raise call.refused(400, f'"{name}" is missing from body')
        if not isinstance(value, str) or not 1 <= len(value) <= _MAX_ID:
            raise call.refused(400, f"body.{name} must be a string of 1 to {_MAX_ID} characters")
    unknown = sorted(body.keys() - set(_MEMBERS))
    if unknown:
        raise call.refused(400, f"body.{unknown[0]} is not a member of an execution to create")
    return [body[name] for name in _MEMBERS]


def _filter(call: Call, query: Query) -> Callable[[Row], bool] | None:
    """Make the test a row must pass, None when nothing is filtered; filters combine with AND."""
    tests: list[Callable[[Row], bool]] = []
    workspace = query.text("workspace")
    if workspace is not None:
        tests.append(lambda row: row.wire["workspace"] == workspace)
    execution_id = query.text("pipeline_execution_id")
    if execution_id is not None:
        tests.append(lambda row: row.wire["pipeline_execution_id"] == execution_id)
    status = query.text("status")
    if status is not None:
        statuses = set(status.split(","))
        if "" in statuses:
            raise call.refused(400, "status must not hold an empty value")
        tests.append(lambda row: row.wire["status"] in statuses)
    pipeline_name = query.text("pipeline_name")
    if pipeline_name is not None:
        tests.append(lambda row: row.pipeline_name == pipeline_name)
    start = query.integer("start_time", least=-MAX_INTEGER)
    end = query.integer("end_time", least=-MAX_INTEGER)
    if call.account.end_time != "ignored" and (start, end) != (None, None):
        tests.append(_within(start, end, exclusive=call.account.end_time == "exclusive"))
    if not tests:
        return None
    return lambda row: all(test(row) for test in tests)


def _within(start: int | None, end: int | None, *, exclusive: bool) -> Callable[[Row], bool]:
    """Make the test of a time window on `created`; its start always belongs to it."""
    low = -MAX_INTEGER if start is None else start
    high = MAX_INTEGER if end is None else end - exclusive
    return lambda row: low <= row.wire["created"] <= high


def _totals(call: Call, page: PageRequest, total: int) -> dict[str, str]:
    """Tell the totals in the header family in force; both families share one header for the page size."""
    match call.account.totals:
        case "iacm":
            return iacm_headers(page, total)
        case "v1":
            return v1_headers(page, total)
        case "both":
            headers = iacm_headers(page, total) | v1_headers(page, total)
            del headers["X-Page-Size"]
            return headers
        case "none":
            return {}
