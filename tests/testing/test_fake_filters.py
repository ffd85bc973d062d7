"""Filters and sort orders of every list: parameters, and members of a body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import parse_qs

import attrs
import pytest

from harness_async.testing import FakeHarness
from tests.testing.cases import ACCOUNT, ALL

Queries: TypeAlias = list[tuple[Any, str | None]]
"""Queries, or bodies, and the names of the rows that they keep in order; None for a request that is rejected."""

IDENTITY = {"executions": "pipeline_execution_id", "pipeline executions": "plan_execution_id"}
IDENTITY |= {"audit events": "insert_id"}

SCOPE = {"accountIdentifier": ACCOUNT}
ORG = {**SCOPE, "orgIdentifier": "default"}
TABLE: dict[str, tuple[dict[str, dict[str, Any]], Queries]] = {
    "executions": (
        {
            "a": {"time": 30, "status": "failure", "workspace": "v", "pipeline": "p", "pipeline_name": "The P"},
            "b": {"time": 20, "status": "failure", "workspace": "w", "pipeline": "p"},
            "c": {"time": 10, "status": "none", "workspace": "v"},
        },
        [
            ("status=failure", "ab"),
            ("status=failure,none", "abc"),
            ("status=no_such", ""),
            ("workspace=v", "ac"),
            ("workspace=v&status=failure", "a"),
            ("pipeline_name=The P", "a"),
            ("pipeline_execution_id=c", "c"),
            ("start_time=10&end_time=20", "bc"),
            ("start_time=20", "ab"),
            ("end_time=10", "c"),
            *[(query, None) for query in ("unknown=1", "start_time=now", "status=", "status=a&status=b")],
            ("end_time=99999999999999999999", None),
        ],
    ),
    "workspaces": (
        {
            "b": {"name": "Beta net", "status": "failed", "tags": {"team": "core"}, "updated": 1},
            "a": {"name": "Alpha net", "status": "active", "updated": 3},
            "c": {"name": "Gamma db", "status": "drifted", "tags": {"core": "x"}, "updated": 2},
        },
        [
            ("", "abc"),
            ("sort=name,DESC", "cba"),
            ("sort=updated,ASC", "bca"),
            ("searchTerm=NET", "ab"),
            ("searchTerm=", "abc"),
            ("status=active,failed", "ab"),
            ("status=active&status=drifted", "ac"),
            ("tags=core", "c"),
            ("tags=team:core,team:other", "b"),
            ("sort=size,ASC", None),
            ("status=active,", None),
        ],
    ),
    "pipelines": (
        {
            "a": {"name": "Deploy A", "modules": ["cd"], "updated": 3, "tags": {"team": "core"}},
            "b": {"name": "Deploy B", "modules": ["iacm"], "updated": 1, "git_details": {"repo_name": "r"}},
            "c": {"name": "Build", "description": "All", "updated": 2, "tags": {"core": "x"}},
        },
        [
            ("", "acb"),
            ("sort=name&order=ASC", "cab"),
            ("order=ASC", "bca"),
            ("search_term=^DEPLOY", "ab"),
            ("module=iacm", "b"),
            ("name=Deploy A", "a"),
            ("description=All", "c"),
            ("repository=r", "b"),
            ("pipeline_identifiers=c", "c"),
            ("tags=team:core", "a"),
            ("sort=created", None),
            ("filter_identifier=x", None),
        ],
    ),
    "services": (
        {"a": {"time": 1, "tags": {"team": "core"}}, "b": {"time": 2, "name": "Edge"}},
        [
            ("", "ba"),
            ("sort=createdAt,ASC", "ab"),
            ("searchTerm=core", "a"),
            ("serviceIdentifiers=a", "a"),
            ("sort=x,ASC", None),
        ],
    ),
    "pipeline executions": (
        {
            "a": {"time": 10, "pipeline": "build", "tags": {"team": "core"}},
            "b": {"time": 20, "name": "Deploy it", "status": "Failed", "modules": ["iacm"]},
            "c": {"time": 30, "status": "Running", "trigger_type": "WEBHOOK"},
        },
        [
            ({"filterType": "PipelineExecution"}, "cba"),
            ({"status": ["Failed", "Running"]}, "cb"),
            ({"pipelineIdentifiers": ["build"]}, "a"),
            ({"planExecutionIds": ["a", "c", "z"]}, "ca"),
            ({"pipelineName": "Deploy it"}, "b"),
            ({"pipelineTags": [{"key": "team", "value": "core"}]}, "a"),
            ({"triggerTypes": ["WEBHOOK"]}, "c"),
            ({"timeRange": {"startTime": 10, "endTime": 20}}, "ba"),
            ({"timeRange": {"startTime": 11, "endTime": 19}}, ""),
            ({"timeRange": {}}, "cba"),
            ({"timeRange": {"startTime": 0, "endTime": 20}, "status": ["Success"]}, "a"),
            ("pipelineIdentifier=build", "a"),
            ("searchTerm=DEPLOY.it", "b"),
            ("module=iacm", "b"),
            ("status=Running", "c"),
            ("sort=startTs,ASC", "abc"),
            *[(f"sort={sort}", None) for sort in ("startTs", "startTs,asc", "size,ASC", "-startTs")],
            ([], None),
            *[(body, None) for body in ({"status": "Failed"}, {"status": [1]}, {"statuses": ["Failed"]})],
            *[({"timeRange": value}, None) for value in ({"startTime": 1}, {"endTime": 1}, [1, 2])],
            *[({"timeRange": {"startTime": value, "endTime": 2}}, None) for value in ("1", True)],
            ({"timeRange": {"startTime": 1, "endTime": 2, "unit": "s"}}, None),
            ({"executionModeFilter": "all"}, None),
            ({"filterType": "Audit"}, None),
        ],
    ),
    "audit events": (
        {
            "a": {"scope": (None, None), "time": 1, "action": "LOGIN", "principal_type": "SYSTEM", "principal": "x"},
            "b": {"scope": ("default", None), "time": 2, "action": "CREATE", "resource": "p"},
            "c": {"scope": ("default", "payments"), "time": 3, "module": "IACM"},
            "d": {"scope": ("labs", "payments"), "time": 4},
        },
        [
            ({"filterType": "Audit"}, "dcba"),
            ("sortOrders=timestamp,ASC", "abcd"),
            ({"scopes": [SCOPE]}, "a"),
            ({"scopes": [SCOPE], "includeChildScopes": True}, "dcba"),
            ({"scopes": [ORG]}, "b"),
            ({"scopes": [ORG], "includeChildScopes": True}, "cb"),
            ({"startTime": 2, "endTime": 3}, "cb"),
            ({"startTime": 4}, "d"),
            ({"actions": ["LOGIN", "CREATE"]}, "ba"),
            ({"modules": ["IACM"]}, "c"),
            ({"resources": [{"type": "PIPELINE", "identifier": "p"}]}, "b"),
            ({"principals": [{"type": "SYSTEM", "identifier": "x"}]}, "a"),
            ({"staticFilter": "EXCLUDE_LOGIN_EVENTS"}, "dcb"),
            ({"staticFilter": "EXCLUDE_SYSTEM_EVENTS"}, "dcb"),
            ([], None),
            *[({name: value}, None) for name, value in (("filterType", "X"), ("startTime", "1"), ("scopes", {}))],
            *[(body, None) for body in ({"actions": "LOGIN"}, {"staticFilter": "X"})],
        ],
    ),
}


@pytest.mark.parametrize("name", TABLE)
async def test_filters(fake: FakeHarness, get: Any, envelope: Callable[[Any], str], name: str) -> None:
    """A list has the rows that its parameters or its body keep, in order, with their total; it rejects invalid ones."""
    case, (rows, queries) = ALL[name], TABLE[name]
    fake.add_project("default", "payments")
    for row, members in rows.items():
        fields = {IDENTITY.get(name, "identifier"): row, **members}
        scope = fields.pop("scope", ("default", "payments"))
        fake.add_row(case.collection, *scope, **fields)
    for query, expected in queries:
        if isinstance(query, str):
            response = await case.fetch(get, extra=parse_qs(query, keep_blank_values=True))  # type: ignore[arg-type]
        else:
            response = await attrs.evolve(case, body=query).fetch(get)
        if expected is None:
            assert (response.status, envelope(response)) in {(400, case.envelope), (400, "legacy")}, query
        else:
            assert ("".join(case.names(response)), case.total_of(response)) == (expected, len(expected)), query
