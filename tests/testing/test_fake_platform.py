from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness_async.testing import FakeHarness
from tests.testing.cases import ACCOUNT, ALL, IN_ACCOUNT, IN_PROJECT, V1


@pytest.mark.parametrize("name", ["organizations", "projects", "services v1"])
async def test_limits_of_v1(fake: FakeHarness, get: Any, name: str) -> None:
    """v1 accepts a limit of 1000, or rejects or silently clips one above its own maximum."""
    case = ALL[name]
    identities = case.fill(fake, 7)
    assert len(case.names(await case.fetch(get, size=1000))) == 7
    fake.v1_max_limit = 5
    assert (await case.fetch(get, size=6)).status == 400
    fake.v1_over_limit = "clip"
    response = await case.fetch(get, size=1000)
    assert len(case.names(response)) == 5
    assert response.headers["X-Page-Size"] == "1000"
    assert sorted(await case.walk(get, 1000)) == sorted(identities)


async def test_limits_of_iacm(fake: FakeHarness, get: Any) -> None:
    """IaCM rejects a limit above its maximum, or clips it silently; the header has the size in effect."""
    case = ALL["workspaces"]
    identities = case.fill(fake, 7)
    fake.iacm_max_limit = 5
    assert (await case.fetch(get, size=6)).status == 400
    fake.iacm_over_limit = "clip"
    response = await case.fetch(get, size=1000)
    assert len(case.names(response)) == 5
    assert response.headers["X-Page-Size"] == "5"
    assert sorted(await case.walk(get, 1000)) == sorted(identities)
    fake.iacm_max_limit = 1000
    assert len(case.names(await case.fetch(get, size=1000))) == 7


async def test_a_broken_search_term(fake: FakeHarness, get: Any) -> None:
    """An invalid regular expression is status 200 without a body, as the pipeline service responds."""
    ALL["pipelines"].fill(fake, 1)
    response = await ALL["pipelines"].fetch(get, extra={"search_term": "("})
    assert (response.status, response.body) == (200, b"")


async def test_one_pipeline(fake: FakeHarness, get: Any, envelope: Callable[[Any], str]) -> None:
    """The list leaves out organization and project, the pipeline itself has them and its YAML."""
    row = fake.add_pipeline("default", "payments", "deploy", yaml="pipeline: {}")
    (summary,) = (await get(f"{V1}/pipelines")).json
    assert summary.keys() == row.keys() - {"org", "project"}
    assert (await get(f"{V1}/pipelines/deploy")).json == {**row, "pipeline_yaml": "pipeline: {}"}
    response = await get(f"{V1}/pipelines/nope")
    assert (response.status, envelope(response), response.json["code"]) == (404, "v1", "ENTITY_NOT_FOUND")
    fake.add_pipeline("default", "payments", "build")
    assert "identifier: build" in (await get(f"{V1}/pipelines/build")).json["pipeline_yaml"]


@pytest.mark.parametrize(("name", "wrapper"), [("services", "service"), ("environments", "environment")])
async def test_entities_of_ng_manager(fake: FakeHarness, get: Any, name: Any, wrapper: str) -> None:
    """Services and environments are wrapped, and found by identifier."""
    case = ALL[name]
    rows = [
        fake.add_row(name, "default", "payments", identifier=identifier, time=created, tags={"team": team})
        for identifier, created, team in (("one", 1, "core"), ("two", 2, "edge"))
    ]
    entry = (await case.fetch(get)).json["data"]["content"][1]
    inner = entry[wrapper]
    assert (inner["accountId"], inner["orgIdentifier"], inner["projectIdentifier"]) == (ACCOUNT, "default", "payments")
    assert (inner["identifier"], inner["tags"], entry["createdAt"], entry["lastModifiedAt"]) == (
        "one",
        {"team": "core"},
        1,
        1,
    )
    assert {"org", "project", "account", "created"}.isdisjoint(inner)
    found = await get(f"{case.path}/one", params=IN_PROJECT)
    assert found.json["data"] == entry
    missing = await get(f"{case.path}/nope", params=IN_PROJECT)
    assert (missing.status, missing.json["code"]) == (404, "ENTITY_NOT_FOUND")
    assert rows[0]["yaml"]


async def test_environment_types(fake: FakeHarness, get: Any) -> None:
    """Environments have a type and a color in ng manager."""
    fake.add_environment("default", "payments", "dev", type="PreProduction", color="#000000")
    (entry,) = (await ALL["environments"].fetch(get)).json["data"]["content"]
    assert (entry["environment"]["type"], entry["environment"]["color"]) == ("PreProduction", "#000000")


async def test_services_of_v1(fake: FakeHarness, get: Any) -> None:
    """The services of v1 are those of ng manager in another envelope."""
    fake.add_service("default", "payments", "checkout", created=1, updated=2, description="d")
    (entry,) = (await get(f"{V1}/services")).json
    assert (entry["created"], entry["updated"]) == (1, 2)
    assert entry["service"]["org"] == "default"
    assert (await get(f"{V1}/services/checkout")).json == entry
    assert (await get(f"{V1}/services?service_ids=nope")).json == []
    assert (await get(f"{V1}/services/nope")).status == 404
    fake.not_found = 400
    response = await get(f"{V1}/services/nope")
    assert (response.status, response.json["code"]) == (400, "RESOURCE_NOT_FOUND_EXCEPTION")


@pytest.mark.parametrize("name", ["services", "environments"])
async def test_scopes_of_ng_manager(fake: FakeHarness, get: Any, envelope: Callable[[Any], str], name: str) -> None:
    """Without a project the list is that of the organization or the account, not that of everything below."""
    case = ALL[name]
    case.fill(fake, 2)
    for scope in (IN_ACCOUNT, {**IN_ACCOUNT, "orgIdentifier": "default"}):
        response = await get(case.path, params=scope)
        assert response.json["data"]["content"] == []
    response = await get(case.path, params={**IN_ACCOUNT, "projectIdentifier": "payments"})
    assert (response.status, envelope(response)) == (400, "failure")
    response = await get(case.path, params={**IN_ACCOUNT, "orgIdentifier": "nope"})
    assert response.status == 404


async def test_projects_of_the_account(fake: FakeHarness, get: Any) -> None:
    """The projects of all organizations come last changed first, are filtered, and are wrapped."""
    case = ALL["projects of the account"]
    fake.add_project("default", "payments", modules=["CD"], updated=5, isFavorite=True, tags={"team": "core"})
    fake.add_project("labs", "rockets", "Rockets", modules=["IACM"], updated=9)
    for params, expected in (
        ({}, ["rockets", "payments"]),
        ({"sortOrders": "createdAt,ASC"}, ["payments", "rockets"]),
        ({"sortOrders": "name,DESC"}, ["rockets", "payments"]),
        ({"orgIdentifier": "DEFAULT"}, ["payments"]),
        ({"orgIdentifier": "nope"}, []),
        ({"identifiers": "rockets"}, ["rockets"]),
        ({"searchTerm": "core"}, ["payments"]),
        ({"moduleType": "IACM"}, ["rockets"]),
        ({"moduleType": "IACM", "hasModule": "false"}, ["payments"]),
        ({"hasModule": "false"}, ["rockets", "payments"]),
        ({"onlyFavorites": "true"}, ["payments"]),
    ):
        assert case.names(await case.fetch(get, extra=params)) == expected
    (entry,) = (await case.fetch(get, extra={"orgIdentifier": "labs"})).json["data"]["content"]
    assert entry["project"]["orgIdentifier"] == "labs"
    assert "org" not in entry["project"]
    assert (entry["lastModifiedAt"], entry["isFavorite"]) == (9, False)


async def test_the_page_object_of_ng_manager(fake: FakeHarness, get: Any) -> None:
    """A page reports its number, its size, the number of its rows and the totals."""
    case = ALL["services"]
    case.fill(fake, 5)
    body = (await case.fetch(get, 2, 2)).json
    assert body["status"] == "SUCCESS"
    assert len(body["data"].pop("content")) == 1
    assert body["data"] == {
        "totalPages": 3,
        "totalItems": 5,
        "pageItemCount": 1,
        "pageSize": 2,
        "pageIndex": 2,
        "empty": False,
        "pageToken": None,
    }


@pytest.mark.parametrize("name", ["services", "pipeline executions", "audit events"])
async def test_the_account_in_the_query(fake: FakeHarness, get: Any, envelope: Callable[[Any], str], name: str) -> None:
    """NextGen services require the account in the query, accept it without a header, and reject another one."""
    case = ALL[name]
    case.fill(fake, 1)
    method = "GET" if case.body is None else "POST"
    options = {} if case.body is None else {"json": case.body}

    async def send(header: str | None, account: str | None) -> Any:
        params = {**case.params, "accountIdentifier": account}
        params = {key: value for key, value in params.items() if value is not None}
        return await get(case.path, method, params=params, headers={"Harness-Account": header}, **options)

    for header, account, status, shape in (
        (ACCOUNT, ACCOUNT, 200, None),
        (None, ACCOUNT, 200, None),
        (ACCOUNT, None, 400, "failure"),
        (None, None, 400, "legacy"),
        ("other", ACCOUNT, 401, "legacy"),
        (ACCOUNT, "other", 401, "legacy"),
    ):
        response = await send(header, account)
        assert response.status == status
        assert shape is None or envelope(response) == shape


async def test_organizations_and_projects_in_another_case(fake: FakeHarness, get: Any) -> None:
    """v1 finds organizations and projects in any case, and does not create them twice."""
    fake.add_project("Default", "Payments")
    assert (await get("/v1/orgs/DEFAULT")).json["org"]["identifier"] == "Default"
    assert (await get("/v1/orgs/default/projects/PAYMENTS")).json["project"]["identifier"] == "Payments"
    assert len((await get("/v1/orgs/DEFAULT/projects")).json) == 1
    body = {"project": {"identifier": "payments", "name": "P"}}
    assert (await get("/v1/orgs/default/projects", "POST", json=body)).status == 409
    assert (await get("/v1/orgs", "POST", json={"org": {"identifier": "DEFAULT", "name": "D"}})).status == 409
    assert (await get("/v1/orgs/default/projects/payments", "DELETE")).status == 200
    assert fake.projects == []
    fake.case_sensitive = True
    assert (await get("/v1/orgs/DEFAULT")).status == 404
    fake.not_found = 400
    response = await get("/v1/orgs/DEFAULT")
    assert (response.status, response.json["code"]) == (400, "RESOURCE_NOT_FOUND_EXCEPTION")
