"""The lists of the client over the dialects of the API: one table, the same guarantees for each list."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from operator import attrgetter
from typing import Any, TypeAlias

import pytest
from attrs import field, fields, frozen

from harness_async import (
    APIStatusError,
    CostChanges,
    DecodeError,
    Dialect,
    HarnessClient,
    NotFoundError,
    Pager,
    PaginationError,
    WorkspaceResources,
)
from harness_async.testing import Body, ChangeJson, Churn, FakeHarness, Nulls, SamePage, Status, Totals
from harness_async.testing.data.collection import with_member
from tests.testing.cases import ALL, Case, read

PROJECT = ("default", "payments")
EVER = {"start_time": 0, "end_time": 4_000_000_000_000}


@frozen
class Resource:
    """A list of the client, and the list of the server behind it."""

    method: str
    identity: str
    """The field that identifies a row."""

    wire: Case
    args: tuple[str, ...] = PROJECT
    preset: Mapping[str, Any] = field(factory=dict)
    get: str = ""
    windowed: bool = False
    """Whether the list can be read up to a frozen time."""

    def __str__(self) -> str:
        return self.wire.name

    def open(self, client: HarnessClient, **options: Any) -> Pager[Any]:
        opened: Pager[Any] = attrgetter(self.method)(client)(*self.args, **{**self.preset, **options})
        return opened

    def ids(self, rows: Any) -> list[str]:
        return [getattr(row, self.identity) for row in rows]

    def change_rows(self, change: Callable[[Any], Any]) -> ChangeJson:
        """Return the fault that changes each row of a response."""
        path = self.wire.rows

        def apply(body: Any) -> Any:
            rows = [change(row) for row in read(body, path)]
            return with_member(body, path, rows) if path else rows

        return ChangeJson(apply)


RESOURCES = [
    Resource("workspaces.list", "identifier", ALL["workspaces"], get="workspaces.get"),
    Resource("workspaces.costs", "workspace", ALL["costs"], preset=EVER),
    Resource("activities.list", "id", ALL["activities"], get="activities.get", windowed=True),
    Resource("approvals.list", "id", ALL["approvals"], get="approvals.get"),
    Resource("pipelines.list", "identifier", ALL["pipelines"], get="pipelines.get"),
    Resource(
        "pipeline_executions.list",
        "plan_execution_id",
        ALL["pipeline executions"],
        get="pipeline_executions.get",
        windowed=True,
    ),
    Resource("services.list", "identifier", ALL["services"], get="services.get"),
    Resource("environments.list", "identifier", ALL["environments"], get="environments.get"),
    Resource("audits.list", "insert_id", ALL["audit events"], (), windowed=True),
]
BY_NAME = {str(resource): resource for resource in RESOURCES}

each = pytest.mark.parametrize("resource", RESOURCES, ids=str)


@each
@pytest.mark.parametrize(("totals", "requests"), [("iacm", (1, 1, 3, 3)), ("none", (1, 2, 3, 3))])
async def test_pages(
    fake: FakeHarness, client: HarnessClient, resource: Resource, totals: Any, requests: tuple[int, ...]
) -> None:
    """A list delivers every row once, page by page, and ends at a page that is short or empty.

    Without totals, a first page that is short may have been clipped, and the next one is requested too.
    """
    fake.totals = totals
    first, size = resource.wire.first, resource.wire.size
    for count, expected in zip((0, 2, 6, 7), requests, strict=True):
        stored = resource.wire.fill(fake, count)
        fake.requests.clear()
        pages = [page async for page in resource.open(client, limit=3).pages()]
        assert sorted(resource.ids(row for page in pages for row in page.items)) == sorted(stored)
        sent = [(request.query[resource.wire.page], request.query[size], request.status) for request in fake.requests]
        assert sent == [([str(first + index)], ["3"], 200) for index in range(expected)]
        assert [page.number for page in pages] == [first + index for index in range(max(1, -(-count // 3)))]
        assert {page.total_items for page in pages} == {count if totals == "iacm" else None}
        assert await resource.open(client).first() == next((row for page in pages for row in page.items), None)
        assert await resource.open(client).count() == (count if totals == "iacm" else None)


Filter: TypeAlias = tuple[dict[str, Any], dict[str, Any], list[int]]
"""The arguments of a list, members of its query or body, and the numbers of the rows that are kept."""


def filters_of(name: str, rows: list[dict[str, Any]], *filters: Filter) -> list[Any]:
    return [
        pytest.param(name, rows, *each, id=f"{name} {'-'.join(each[0])} {index}") for index, each in enumerate(filters)
    ]


FILTERS = [
    *filters_of(
        "workspaces",
        [{"status": "active"}, {"status": "failed", "name": "Edge"}, {"status": "drifted"}],
        ({"status": "failed"}, {"status": ["failed"]}, [1]),
        ({"status": ["failed", "drifted"]}, {"status": ["failed", "drifted"]}, [1, 2]),
        ({"search_term": "edge"}, {"searchTerm": ["edge"]}, [1]),
    ),
    *filters_of(
        "costs",
        [{"workspace": "a", "time": 5000}, {"workspace": "b", "time": 9000}],
        ({"workspaces": "a"}, {"workspaces": ["a"], "start_time": ["0"]}, [0]),
        ({"workspaces": ["a", "b"]}, {"workspaces": ["a", "b"]}, [0, 1]),
        ({"start_time": 6000, "end_time": 9000}, {"start_time": ["6000"], "end_time": ["9000"]}, [1]),
    ),
    *filters_of(
        "activities",
        [
            {"workspace": "a", "activity_type": "plan", "activity_status": "success", "time": 5},
            {"workspace": "b", "activity_type": "apply", "activity_status": "failure", "time": 9},
        ],
        ({"workspace": "a"}, {"workspace": ["a"]}, [0]),
        ({"type": "apply"}, {"activity_type": ["apply"]}, [1]),
        ({"status": "failure", "type": "plan"}, {"activity_status": ["failure"], "activity_type": ["plan"]}, []),
        ({"start_time": 6, "end_time": 9}, {"start_time": ["6"], "end_time": ["9"]}, [1]),
        ({"end_time": 5}, {"end_time": ["5"]}, [0]),
    ),
    *filters_of(
        "approvals",
        [
            {"workspace": "a", "status": "pending", "pipeline_execution_id": "e"},
            {"workspace": "b", "status": "approved", "pipeline_stage_id": "s"},
        ],
        ({"workspace": "b"}, {"workspace": ["b"]}, [1]),
        ({"status": "pending"}, {"status_type": ["pending"]}, [0]),
        ({"pipeline_execution_id": "e"}, {"pipeline_execution_id": ["e"]}, [0]),
        ({"pipeline_stage_id": "s"}, {"pipeline_stage_id": ["s"]}, [1]),
    ),
    *filters_of(
        "pipelines",
        [{"name": "Build", "modules": ["ci"]}, {"name": "Deploy", "modules": ["cd", "iacm"]}],
        ({"search_term": "^bu"}, {"search_term": ["^bu"]}, [0]),
        ({"module": "iacm"}, {"module": ["iacm"]}, [1]),
        ({"sort": "name", "order": "desc"}, {"sort": ["name"], "order": ["DESC"]}, [1, 0]),
    ),
    *[
        case
        for name in ("services", "environments")
        for case in filters_of(
            name,
            [{"tags": {"team": "core"}}, {"tags": {"team": "edge"}}],
            ({"search_term": "edge"}, {"searchTerm": ["edge"]}, [1]),
        )
    ],
    *filters_of(
        "audit events",
        [
            {"scope": ("default", "payments"), "action": "LOGIN", "time": 9},
            {"scope": ("default", None), "action": "DELETE", "time": 7},
            {"scope": ("labs", None), "action": "UPDATE", "time": 5},
            {"scope": (None, None), "action": "UPDATE", "time": 3},
        ],
        ({}, {"includeChildScopes": True, "filterType": "Audit"}, [0, 1, 2, 3]),
        ({"include_children": False}, {"includeChildScopes": False}, [3]),
        ({"org": "default"}, {}, [0, 1]),
        ({"org": "default", "include_children": False}, {}, [1]),
        ({"org": "default", "project": "payments"}, {}, [0]),
        ({"actions": "DELETE"}, {"actions": ["DELETE"]}, [1]),
        ({"actions": ["DELETE", "LOGIN"]}, {"actions": ["DELETE", "LOGIN"]}, [0, 1]),
        ({"start_time": 4, "end_time": 7}, {"startTime": 4, "endTime": 7}, [1, 2]),
        ({"start_time": 6}, {"startTime": 6, "endTime": None}, [0, 1]),
    ),
]


@pytest.mark.parametrize(("name", "rows", "filters", "sent", "kept"), FILTERS)
async def test_filters(
    fake: FakeHarness,
    client: HarnessClient,
    name: str,
    rows: list[dict[str, Any]],
    filters: dict[str, Any],
    sent: dict[str, Any],
    kept: list[int],
) -> None:
    """Filters are sent under the names of the API, and the list has the rows that they keep."""
    resource, stored = BY_NAME[name], []
    for row in rows:
        members = dict(row)
        org, project = members.pop("scope", PROJECT)
        stored.append(fake.add_row(resource.wire.collection, org, project, **members))
    found = resource.ids(await resource.open(client, **filters).collect())
    ids = [read(stored[index], resource.wire.stored) for index in kept]
    assert found == ids if "sort" in filters else sorted(found) == sorted(ids)
    (request,) = fake.requests
    content = request.query if resource.wire.body is None else request.json
    assert {member: content.get(member) for member in sent} == sent


@each
@pytest.mark.parametrize("rates", [(0.7, 0.0), (0.0, 0.4)], ids=["arrivals", "departures"])
async def test_moving_rows(
    fake: FakeHarness, client: HarnessClient, resource: Resource, rates: tuple[float, float]
) -> None:
    """Rows that arrive, or rows that go away, while a list is read: the others are delivered once."""
    resource.wire.fill(fake, 40)
    before = set(resource.wire.identities(fake))
    churn = Churn(fake, *PROJECT, collection=resource.wire.collection, arrivals=rates[0], departures=rates[1])
    fake.before_request = churn
    found = resource.ids(await resource.open(client, limit=3).collect())
    assert churn.arrived or churn.departed
    assert len(found) == len(set(found))
    assert before & set(resource.wire.identities(fake)) <= set(found)


@pytest.mark.parametrize("resource", [resource for resource in RESOURCES if resource.windowed], ids=str)
@pytest.mark.parametrize("consistency", ["checked", "strict"])
async def test_frozen_lists(fake: FakeHarness, client: HarnessClient, resource: Resource, consistency: str) -> None:
    """A list with times is read up to the present time, and loses no row while rows arrive and go away."""
    resource.wire.fill(fake, 40)
    churn = Churn(fake, *PROJECT, collection=resource.wire.collection, arrivals=0.5, departures=0.5, seed=3)
    fake.before_request = churn
    async with resource.open(client, limit=5, consistency=consistency).walk() as walk:
        found = resource.ids([row async for row in walk])
    assert churn.arrived
    assert churn.departed
    late = {read(row, resource.wire.stored) for row in churn.arrived}
    assert len(found) == len(set(found))
    assert set(resource.wire.identities(fake)) - late <= set(found)
    assert walk.report.guarantee in {"covered", "seek"}
    assert walk.report.window is not None
    assert walk.report.window.end is not None


SCOPE = {"org", "project", "orgIdentifier", "projectIdentifier"}


def replace_leaves(value: Any, new: object) -> Any:
    """Return an object without scope, in which a value replaces every member."""
    if not isinstance(value, dict):
        return new
    return {name: replace_leaves(inner, new) for name, inner in value.items() if name not in SCOPE}


@each
@pytest.mark.parametrize("shape", ["identity alone", "null", "wrong types"])
async def test_rows_without_content(fake: FakeHarness, client: HarnessClient, resource: Resource, shape: str) -> None:
    """A row needs nothing but its identity: other members may be missing, null, or of a wrong type."""
    resource.wire.fill(fake, 2)
    path = resource.wire.wire

    def change(row: Any) -> Any:
        kept = {} if shape == "identity alone" else replace_leaves(row, None if shape == "null" else [[5]])
        return with_member(kept, path, read(row, path))

    fake.faults.add(resource.change_rows(change))
    async with resource.open(client).walk() as walk:
        rows = [row async for row in walk]
    assert sorted(resource.ids(rows)) == sorted(resource.wire.identities(fake))
    scope = dict(zip(("org", "project"), resource.args, strict=False))
    for row in rows:
        assert row == type(row)(**{resource.identity: getattr(row, resource.identity)}, **scope)
        assert json.loads(json.dumps(row.to_dict())) == row.to_dict()
    assert (walk.report.invalid_members > 0) == (shape == "wrong types")


@each
async def test_rows_without_identity(fake: FakeHarness, client: HarnessClient, resource: Resource) -> None:
    """A row without identity is a `DecodeError` that names the path, whether the member is missing or null."""
    resource.wire.fill(fake, 2)
    path = resource.wire.wire
    place = ".".join(filter(None, ("$", resource.wire.rows))) + f"[0].{path}"
    news: list[Any] = [{}, with_member({}, path, None)]
    fake.faults.add(resource.change_rows(lambda _: news[0]))
    while news:
        with pytest.raises(DecodeError, match="required member is missing") as caught:
            await resource.open(client).collect()
        assert caught.value.path == place
        news.pop(0)


WORDS = [
    ("workspaces", "status", "status"),
    ("activities", "metadata.activity_type", "type"),
    ("activities", "metadata.activity_status", "status"),
    ("approvals", "status", "status"),
    ("pipeline executions", "status", "status"),
    ("environments", "environment.type", "type"),
]


@pytest.mark.parametrize(("name", "path", "name_of_field"), WORDS, ids=str)
async def test_unknown_words(
    fake: FakeHarness, client: HarnessClient, name: str, path: str, name_of_field: str
) -> None:
    """A status or a type that nobody knows is kept as text."""
    resource = BY_NAME[name]
    resource.wire.fill(fake, 1)
    fake.faults.add(resource.change_rows(lambda row: with_member(row, path, "brand_new")))
    (row,) = await resource.open(client).collect()
    word = getattr(row, name_of_field)
    assert (word, word.is_known, row.to_dict()[name_of_field]) == ("brand_new", False, "brand_new")


@each
async def test_null_lists(fake: FakeHarness, client: HarnessClient, resource: Resource) -> None:
    """A list that is null at any depth is empty."""
    names = resource.wire.rows.split(".") if resource.wire.rows else []
    bodies: list[Any] = [None, *(with_member({}, ".".join(names[:depth]), None) for depth in range(1, len(names) + 1))]
    fake.faults.add(ChangeJson(lambda _: bodies[len(fake.requests) - 1]))
    for number in range(len(bodies)):
        assert await resource.open(client).collect() == []
        assert len(fake.requests) == number + 1


@each
async def test_errors_with_status_200(fake: FakeHarness, client: HarnessClient, resource: Resource) -> None:
    """An error envelope with status 200 is an error, not an empty list."""
    body = {"status": "ERROR", "code": "UNEXPECTED", "message": "broken", "data": None, "correlationId": "c"}
    fake.faults.add(Body(json.dumps(body).encode()))
    with pytest.raises(APIStatusError, match="broken") as caught:
        await resource.open(client).collect()
    assert (caught.value.status, caught.value.code) == (200, "UNEXPECTED")


@each
@pytest.mark.parametrize("total", [0, 1, 6, 8, 1000, "many"])
async def test_wrong_totals(fake: FakeHarness, client: HarnessClient, resource: Resource, total: Any) -> None:
    """A total that disagrees with the rows loses no row, and costs a few requests at most."""
    stored = resource.wire.fill(fake, 7)
    fake.faults.add(Totals(items=total, pages=None))
    found = resource.ids(await resource.open(client, limit=3).collect())
    assert sorted(found) == sorted(stored)
    assert len(fake.requests) <= 6


@each
@pytest.mark.parametrize("shuffled", [False, True])
async def test_ignored_page_number(
    fake: FakeHarness, client: HarnessClient, resource: Resource, *, shuffled: bool
) -> None:
    """A server that ignores the page number is an error after a few requests."""
    resource.wire.fill(fake, 7)
    fake.faults.add(SamePage(shuffled))
    with pytest.raises(PaginationError):
        await resource.open(client, limit=3).collect()
    assert len(fake.requests) <= 12


@pytest.mark.parametrize("resource", [resource for resource in RESOURCES if resource.get], ids=str)
async def test_get(fake: FakeHarness, client: HarnessClient, resource: Resource) -> None:
    """A single object is that of the list, or has more; a missing one is a `NotFoundError`."""
    (identity,) = resource.wire.fill(fake, 1)
    get = attrgetter(resource.get)(client)
    found = await get(*PROJECT, identity)
    (row,) = await resource.open(client).collect()
    assert type(found) is type(row)
    assert (found.org, found.project, getattr(found, resource.identity)) == (*PROJECT, identity)
    assert found.created == row.created
    with pytest.raises(NotFoundError):
        await get(*PROJECT, "00000000-0000-4000-8000-000000000000")
    fake.faults.add(Nulls(SCOPE))
    assert (await get(*PROJECT, identity)).org == "default"


@each
async def test_plain_data(fake: FakeHarness, client: HarnessClient, resource: Resource) -> None:
    """A row as plain data is JSON under the names of its fields, with its times in ISO 8601."""
    resource.wire.fill(fake, 1)
    (row,) = await resource.open(client).collect()
    data = row.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert {each.name for each in fields(type(row))} < data.keys()
    times = {name: value for name, value in data.items() if name.endswith("_at") and value is not None}
    assert times
    assert all(datetime.fromisoformat(value) == getattr(row, name) for name, value in times.items())


RUN = (*PROJECT, "run0", "stage")


async def test_resource_changes(fake: FakeHarness, client: HarnessClient) -> None:
    """The changes of an execution are one request: what is planned, then what has drifted."""
    row = next(row for row in fake.executions(*PROJECT) if row["pipeline_execution_id"] == "run0")
    change = {"new": "b", "old": "a", "change": "changed"}
    planned = {"name": "vpc", "type": "aws_vpc", "change": "added", "change_count": 2, "changes": {"tags": change}}
    drifted = {"name": "subnet", "change": "teleported", "drift": True, "changes": None}
    fake.set_changes(row, resources={"planned_changes": [planned, {}], "drift_changes": [drifted]})
    pager = client.executions.resource_changes(*RUN)
    rows = await pager.collect()
    assert [(each.name, str(each.change), each.drift) for each in rows] == [
        ("vpc", "added", False),
        ("", "", False),
        ("subnet", "teleported", True),
    ]
    assert rows[0].to_dict()["changes"] == {"tags": change}
    assert json.loads(json.dumps(rows[2].to_dict()))["change"] == "teleported"
    (request,) = fake.requests
    assert request.query == {"pipeline_stage_id": ["stage"], "exclude_state": ["true"]}
    assert (await pager.count(), await pager.first()) == (3, rows[0])
    for body in ({}, {"planned_changes": None, "drift_changes": None}):
        fake.set_changes(row, resources=body)
        async with pager.walk() as walk:
            assert [each async for each in walk] == []
        assert (walk.report.requests, walk.report.guarantee) == (1, "exact")
    with pytest.raises(NotFoundError):
        await client.executions.resource_changes(*PROJECT, "run0", "nope").collect()
    with pytest.raises(ValueError, match="pipeline_stage_id"):
        client.executions.resource_changes(*PROJECT, "run0", "")


async def test_cost_changes(fake: FakeHarness, client: HarnessClient) -> None:
    """The costs of an execution are those of its stage, and may be empty."""
    found = await client.executions.cost_changes(*RUN)
    assert (found.currency, found.workspace, found.stage) == ("USD", "network_prod", "iacm")
    assert float(found.total_monthly_cost) - float(found.past_total_monthly_cost) == pytest.approx(
        float(found.diff_total_monthly_cost)
    )
    assert found.to_dict()["diff"].keys() == {"aws_instance"}
    row = next(row for row in fake.executions(*PROJECT) if row["pipeline_execution_id"] == "run0")
    fake.set_changes(row, costs={"currency": None, "diff": None})
    assert await client.executions.cost_changes(*RUN) == CostChanges()
    with pytest.raises(NotFoundError):
        await client.executions.cost_changes(*PROJECT, "nope", "stage")


async def test_resources_of_a_workspace(fake: FakeHarness, client: HarnessClient) -> None:
    """A workspace has its resources, and empty lists where it has no state."""
    state = {"resources": [{"type": "aws_vpc", "name": "main"}], "outputs": [{"name": "id"}], "data_sources": None}
    fake.add_workspace(*PROJECT, "network", resources=state)
    fake.add_workspace(*PROJECT, "empty")
    found = await client.workspaces.resources(*PROJECT, "network")
    assert (found.total_resources, found.resources[0]["type"], found.data_sources) == (1, "aws_vpc", ())
    assert found.to_dict()["outputs"] == [{"name": "id"}]
    assert await client.workspaces.resources(*PROJECT, "empty") == WorkspaceResources()
    with pytest.raises(NotFoundError):
        await client.workspaces.resources(*PROJECT, "nope")


async def test_objects_in_full(fake: FakeHarness, client: HarnessClient) -> None:
    """A single object has members that its list leaves out: configuration of a workspace, YAML of a pipeline."""
    fake.add_workspace(*PROJECT, "network", terraform_variables={"size": {"key": "size", "value": "3"}})
    fake.add_pipeline(*PROJECT, "build", git_details={"repo_name": "shop", "branch_name": "main"})
    workspace = await client.workspaces.get(*PROJECT, "network")
    assert (workspace.provisioner, workspace.terraform_variables["size"]["value"]) == ("opentofu", "3")
    assert (await client.workspaces.list(*PROJECT).collect())[0].provisioner == ""
    pipeline = await client.pipelines.get(*PROJECT, "build")
    assert "identifier: build" in pipeline.yaml
    (listed,) = await client.pipelines.list(*PROJECT).collect()
    assert (listed.yaml, listed.repository, listed.branch) == ("", "shop", "main")


@pytest.mark.parametrize("name", ["services", "environments"])
async def test_largest_pages(fake: FakeHarness, client: HarnessClient, name: str) -> None:
    """A bulk run requests pages of 1000; a refused one is repeated with 100, which stays once it was accepted."""
    resource = BY_NAME[name]
    stored = resource.wire.fill(fake, 150)
    bulk = attrgetter(f"{name}.bulk")(client)

    async def read_all() -> list[str]:
        fake.requests.clear()
        async with bulk([PROJECT]) as run:
            assert sorted(resource.ids([row async for row in run])) == sorted(stored)
        (outcome,) = run.report.outcomes.values()
        assert outcome.guarantee in {"exact", "covered"}
        return [f"{request.query['size'][0]}/{request.query['page'][0]}" for request in fake.requests]

    assert await read_all() == ["1000/0"]
    fake.faults.add(Status(400), times=2)
    async with bulk([PROJECT]) as run:
        assert [row async for row in run] == []
    assert run.report.failed, "an error that the smaller page has too is the error of the list"
    assert await read_all() == ["1000/0"]
    fake.faults.add(Status(400), when=lambda request: request.query["size"] == ["1000"])
    assert await read_all() == ["1000/0", "100/0", "100/1", "100/0"]
    assert await read_all() == ["100/0", "100/1", "100/0"]


@pytest.mark.parametrize(
    "body", [{}, {"total": None}, {"total": "many"}, {"total": {"items": []}}, {"total": 5}], ids=str
)
async def test_totals_in_headers(fake: FakeHarness, client: HarnessClient, body: dict[str, Any]) -> None:
    """Where a body lacks the totals of its dialect, those of the headers apply."""
    fake.faults.add(ChangeJson(lambda rows: {"rows": rows, **body}))
    dialect = Dialect(first_page=1, rows="rows", total_items="total.items")
    path = "/iacm/api/orgs/default/projects/payments/executions"
    assert await client.paginate(path, dialect=dialect).count() == 3


DIALECT_OF: Mapping[str, Any] = {
    "services": "ng_page",
    "environments": "ng_page",
    "audit events": "ng",
    "costs": Dialect(first_page=1, rows="workspaces", total_items="totalItems"),
}


@pytest.mark.parametrize("case", ALL.values(), ids=str)
async def test_paginate(fake: FakeHarness, client: HarnessClient, case: Case) -> None:
    """Any list is read by its path alone or with a named dialect, every row once, even while rows arrive."""
    fake.remove_organization("labs")
    stored = case.fill(fake, 14)
    options: dict[str, Any] = {"dialect": DIALECT_OF.get(case.name), "limit": 4, "key": str}
    if case.body is not None:
        options |= {"method": "POST", "json": case.body}
    if "projectIdentifier" in case.params:
        options |= {"org": "default", "project": "payments"}
    fake.before_request = Churn(fake, *PROJECT, collection=case.collection, arrivals=0.5, departures=0.0)
    found = [read(row, case.wire) for row in await client.paginate(case.path, **options).collect()]
    assert len(found) == len(set(found))
    assert set(stored) <= set(found)
    assert {request.status for request in fake.requests} == {200}
    assert fake.requests[0].query[case.page] == [str(case.first)]
