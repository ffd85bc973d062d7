"""Arguments that a method cannot send are refused before any request, and the error names them."""

from __future__ import annotations

import inspect
import math
from datetime import datetime
from operator import attrgetter
from typing import Any

import pytest

from harness_async import HarnessClient
from harness_async.testing import FakeHarness

NAIVE = datetime(2024, 1, 1)  # noqa: DTZ001 - a naive datetime is the point
PROJECT = {"org": "default", "project": "payments"}
STAGE: dict[str, Any] = {**PROJECT, "pipeline_execution_id": "run", "pipeline_stage_id": "stage"}
TIMES: list[dict[str, Any]] = [{"start_time": NAIVE}, {"end_time": 4, "start_time": 5}]

REFUSED: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    ("executions.list", PROJECT, [{"status": value} for value in ((), "", "a,b", 5)]),
    ("executions.list", PROJECT, [*TIMES, {"start_time": True}, {"end_time": "2024-01-01"}, {"workspace": b"a"}]),
    ("executions.list", PROJECT, [{"limit": 101}, {"prefetch": -1}, {"consistency": "eventual"}]),
    ("executions.create", {**STAGE, "pipeline": "p", "workspace": "w"}, [{"pipeline": ""}, {"workspace": None}]),
    ("executions.create", {**STAGE, "pipeline": "p", "workspace": "w"}, [{"pipeline_execution_id": "x" * 129}]),
    ("executions.create", {**STAGE, "pipeline": "p", "workspace": "w"}, [{"pipeline_stage_id": n} for n in ("..", 5)]),
    ("executions.wait", STAGE, [{"timeout": value} for value in (0, True, "5", math.nan)]),
    ("executions.wait", {**STAGE, "timeout": 5}, [{"poll_interval": value} for value in (0, None)]),
    ("executions.resource_changes", STAGE, [{"pipeline_stage_id": ""}]),
    ("pipeline_executions.list", PROJECT, [*TIMES, *({"include": value} for value in ("everything", None, ""))]),
    ("pipeline_executions.list", PROJECT, [{"limit": 0}, {"limit": 1001}, *({"status": each} for each in ("", (), 5))]),
    ("executions.bulk", {}, [{"concurrency": 0}, {"concurrency": True}, {"on_error": "ignore"}, {"max_requests": -1}]),
    ("executions.bulk", {}, [{"consistency": "eventual"}, {"on_progress": 5}, {"status": []}, *TIMES]),
    ("paginate", {"path": "/v1/orgs"}, [*({"first_page": each} for each in (-1, True, "1")), {"org": ".."}]),
    ("paginate", {"path": "/v1/orgs"}, [*({"limit": each} for each in (0, 101, True, "5")), {"project": 5}]),
    ("paginate", {"path": "/v1/orgs"}, [{"dialect": "v1_large", "limit": 1001}, {"prefetch": -1}, {"prefetch": None}]),
    ("paginate", {"path": "/v1/orgs"}, [{"method": each} for each in ("PUT", "DELETE", "", None)]),
    ("paginate", {"path": "/v1/orgs"}, [{"json": {}}, {"dialect": "v2"}, {"path": "/v1/orgs?limit=1"}]),
    (
        "paginate",
        {"path": "/v1/orgs"},
        [*({"into": each} for each in (5, "x", object)), {"key": 5}, {"key": "id"}],
    ),
    ("paginate", {"path": "/v1/orgs"}, [{"params": each} for each in (5, "a=1", [("a", 1)])]),
    ("audits.list", {}, [{"project": "p"}, {"org": ".."}, {"org": "o", "project": ""}]),
    ("organizations.list", {}, [{"org": []}, {"org": [5]}, {"order": "up"}, {"limit": 1001}]),
    ("organizations.get", {}, [{"org": ".."}]),
    ("organizations.delete", {}, [{"org": ""}]),
    ("organizations.update", {"org": "default", "name": "N"}, [{"name": ""}]),
    ("organizations.create", {"identifier": "a", "name": "N"}, [{"identifier": 5}, {"identifier": "\ud800"}]),
    ("organizations.create", {"identifier": "a", "name": "N"}, [{"name": ""}, {"name": None}]),
    ("projects.list", {"org": "default"}, [{"org": ".."}, {"org": None}, {"project": []}]),
    ("projects.list", {"org": "default"}, [{"order": "sideways"}, {"limit": 1001}]),
]


@pytest.mark.parametrize(
    ("method", "arguments", "name"),
    [(method, {**base, **each}, [*each][-1]) for method, base, changes in REFUSED for each in changes],
    ids=[f"{method} {ascii(each)[:40]}" for method, _, changes in REFUSED for each in changes],
)
async def test_refused_arguments(
    fake: FakeHarness, client: HarnessClient, method: str, arguments: dict[str, Any], name: str
) -> None:
    """An argument of a wrong type or value is an error that names it, when the list is created or the call is made."""
    with pytest.raises((ValueError, TypeError), match=name):
        found = attrgetter(method)(client)(**arguments)
        if inspect.isawaitable(found):
            await found
    assert fake.requests == []
