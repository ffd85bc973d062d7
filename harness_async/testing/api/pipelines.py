"""Pipelines in v1, and the executions of pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness_async.testing.api.bodies import array, check_object, choice, integer
from harness_async.testing.api.dialects import PIPELINE, V1
from harness_async.testing.api.filters import Test, any_of, equal, is_any, is_equal, pattern, within
from harness_async.testing.api.graph import execution_graph, layout
from harness_async.testing.api.lists import Get, List
from harness_async.testing.api.query import Query
from harness_async.testing.data.table import Ordering, Row
from harness_async.testing.responses import Json

if TYPE_CHECKING:
    from harness_async.testing.data.account import Account

# Pipelines


def _summary(_account: Account, row: Row) -> Json:
    """Return a pipeline as the list does, without organization and project."""
    return {name: value for name, value in row.wire.items() if name not in {"org", "project"}}


def _detail(_account: Account, row: Row) -> Json:
    """Return a pipeline with its YAML."""
    return {**row.wire, "pipeline_yaml": row.hidden["yaml"]}


PIPELINES = List(
    "pipelines",
    V1,
    default=30,
    maximum=100,
    filters=(
        pattern("search_term", "identifier", "name"),
        equal("name"),
        equal("description"),
        equal("repository", "git_details.repo_name"),
        any_of("module", "modules", repeated=False),
        any_of("pipeline_identifiers", "identifier"),
        any_of("tags"),
    ),
    sorts={"name": "name", "updated": "updated"},
    default_sort=Ordering("updated"),
    render=_summary,
)
PIPELINE_DETAIL = Get(
    "pipelines",
    V1,
    parameters=("branch_name", "connector_ref", "repo_name", "load_from_fallback_branch", "validate_async"),
    render=_detail,
)


# Executions of pipelines

_STRINGS = {
    "status": "status",
    "pipelineIdentifiers": "pipelineIdentifier",
    "planExecutionIds": "planExecutionId",
    "triggerTypes": "executionTriggerInfo.triggerType",
    "triggerIdentifiers": "executionTriggerInfo.triggeredBy.triggerIdentifier",
}
_MEMBERS = {"filterType", "pipelineName", "pipelineTags", "executionModeFilter", "timeRange", *_STRINGS}
_ROLLBACKS = frozenset({"POST_EXECUTION_ROLLBACK", "PIPELINE_ROLLBACK"})


def _tests(query: Query, body: object) -> list[Test]:
    """Return the tests that parameters and body describe, those for hidden executions included.

    Without a body the mode is DEFAULT, with a body that names none it is not. Superseded retries are hidden in
    either case, unless `showAllExecutions` is true.
    """
    members = check_object(query, body, _MEMBERS)
    choice(query, members, "filterType", ("PipelineExecution",))
    mode = choice(query, members, "executionModeFilter", ("ALL", "DEFAULT", "ROLLBACK"))
    pipeline = query.text("pipelineIdentifier")
    tests = [] if pipeline is None else [is_equal("pipelineIdentifier", pipeline)]
    if query.flag("showAllExecutions") is not True:
        tests.append(lambda row: not row.hidden["superseded"])
    if mode == "ROLLBACK":
        tests.append(is_any("executionMode", _ROLLBACKS))
    elif mode == "DEFAULT" or body is None:
        tests.append(lambda row: row.wire["executionMode"] not in _ROLLBACKS)
        if pipeline is None:
            tests.append(lambda row: "parentStageInfo" not in row.wire)
    tests += [is_any(path, values) for name, path in _STRINGS.items() if (values := array(query, members, name, str))]
    if (name := members.get("pipelineName")) is not None:
        tests.append(is_equal("name", name))
    for tag in array(query, members, "pipelineTags", dict):
        tests.append(_has_tag({"key": tag.get("key"), "value": tag.get("value")}))
    test = _in_time_range(query, members)
    return tests if test is None else [*tests, test]


def _has_tag(tag: Json) -> Test:
    return lambda row: tag in row.wire.get("tags", ())


def _in_time_range(query: Query, members: Json) -> Test | None:
    """Return the test of the time range, which has both ends or neither."""
    value = members.get("timeRange")
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() - {"startTime", "endTime"}:
        raise query.call.error(400, "timeRange must be an object with startTime and endTime", field="timeRange")
    start, end = integer(query, value, "startTime"), integer(query, value, "endTime")
    if (start is None) != (end is None):
        raise query.call.error(400, "startTime and endTime are both required in timeRange")
    return within(query, start, end)


def _execution(_account: Account, row: Row) -> Json:
    """Return an execution with the graph of its stages."""
    start, nodes = layout(row.wire)
    return {**row.wire, "startingNodeId": start, "layoutNodeMap": nodes}


def _execution_detail(account: Account, row: Row) -> Any:
    return {"pipelineExecutionSummary": _execution(account, row), "executionGraph": execution_graph(row.wire)}


PIPELINE_EXECUTIONS = List(
    "pipeline_executions",
    PIPELINE,
    default=10,
    maximum=1000,
    filters=(
        pattern("searchTerm", "name", "pipelineIdentifier"),
        any_of("module", "modules", repeated=False),
        any_of("status"),
    ),
    parameters=("pipelineIdentifier", "showAllExecutions"),
    body=_tests,
    sorts={"startTs": "startTs", "endTs": "endTs", "name": "name", "status": "status"},
    default_sort=Ordering("startTs"),
    render=_execution,
    ceiling=True,
)
PIPELINE_EXECUTION = Get(
    "pipeline_executions",
    PIPELINE,
    parameters=("stageNodeId", "stageNodeExecutionId", "childStageNodeId", "renderFullBottomGraph"),
    render=_execution_detail,
)
