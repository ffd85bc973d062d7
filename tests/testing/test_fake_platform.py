from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness_async.testing import FakeHarness
from tests.testing.cases import ACCOUNT, ALL, IN_ACCOUNT, V1


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


async def test_identifiers_in_another_case(fake: FakeHarness, get: Any) -> None:
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
