from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness_async.testing import FakeHarness

PROJECTS = "/v1/orgs/default/projects"


def names(response: Any, member: str = "project") -> list[str]:
    return [entry[member]["identifier"] for entry in response.json]


async def test_filters_and_search(fake: FakeHarness, get: Any) -> None:
    """Identifiers are repeated keys; a term is searched in identifier, name and tags, in any case."""
    fake.add_organization("default")
    fake.add_project("default", "payments", modules=["CD"], tags={"team": "Core"})
    fake.add_project("default", "network", name="Wires", isFavorite=True)
    fake.add_project("other", "payments")
    assert names(await get(f"{PROJECTS}?project=payments&project=nope")) == ["payments"]
    assert names(await get(f"{PROJECTS}?search_term=core")) == ["payments"]
    assert names(await get(f"{PROJECTS}?search_term=WIRE")) == ["network"]
    assert names(await get(f"{PROJECTS}?module_type=CD")) == ["payments"]
    assert names(await get(f"{PROJECTS}?module_type=CD&has_module=false")) == ["network"]
    assert names(await get(f"{PROJECTS}?only_favorites=true")) == ["network"]
    assert names(await get("/v1/orgs?org=other"), "org") == ["other"]


async def test_sorting(fake: FakeHarness, get: Any) -> None:
    """A sorted list is descending by default."""
    for created, identifier in enumerate("bca"):
        fake.add_project("default", identifier, created=created)
    assert names(await get(PROJECTS)) == ["b", "c", "a"]
    assert names(await get(f"{PROJECTS}?sort=name&order=ASC")) == ["a", "b", "c"]
    assert names(await get(f"{PROJECTS}?sort=identifier&order=desc")) == ["c", "b", "a"]
    assert names(await get(f"{PROJECTS}?sort=created")) == ["a", "c", "b"]


@pytest.mark.parametrize("query", ["sort=size", "order=up", "page=-1", "search=x", "has_module=1"])
async def test_bad_queries(fake: FakeHarness, get: Any, envelope: Callable[[Any], str], query: str) -> None:
    """Queries that violate the contract are rejected with 400 in the v1 envelope."""
    fake.add_organization("default")
    response = await get(f"{PROJECTS}?{query}")
    assert (response.status, envelope(response)) == (400, "v1")


async def test_life_of_an_organization(fake: FakeHarness, get: Any, now: int) -> None:
    """An organization is created with 201, replaced completely, and deleted with its projects."""
    org = {"identifier": "infra", "name": "Infra", "description": "d", "tags": {"a": "b"}}
    made = await get("/v1/orgs", "POST", json={"org": org})
    assert made.status == 201
    assert made.json == {"org": org, "created": now, "updated": now, "harness_managed": False}
    fake.clock = lambda: now / 1000 + 1
    replaced = await get("/v1/orgs/infra", "PUT", json={"org": {"identifier": "infra", "name": "New"}})
    assert replaced.json["org"] == {"identifier": "infra", "name": "New"}
    assert (replaced.json["created"], replaced.json["updated"]) == (now, now + 1000)
    fake.add_execution("infra", "payments")
    assert (await get("/v1/orgs/infra", "DELETE")).json == replaced.json
    assert (await get("/v1/orgs/infra")).status == 404
    assert (fake.all_executions(), fake.projects) == ([], [])


async def test_life_of_a_project(fake: FakeHarness, get: Any, now: int) -> None:
    """A project is created with 201 and replaced completely; it keeps its executions until it is deleted."""
    fake.add_organization("default")
    project = {"identifier": "pay", "name": "Pay", "color": "#000000", "modules": ["CD"], "tags": {}}
    made = await get(PROJECTS, "POST", json={"project": project})
    assert made.status == 201
    assert made.json["project"] == {**project, "org": "default"}
    fake.add_execution("default", "pay")
    body = {"project": {"org": "default", "identifier": "pay", "name": "New"}}
    replaced = await get(f"{PROJECTS}/pay", "PUT", json=body)
    assert replaced.json["project"] == {"org": "default", "identifier": "pay", "name": "New", "modules": []}
    assert (await get(f"{PROJECTS}/pay")).json == replaced.json
    assert len(fake.all_executions()) == 1
    assert (await get(f"{PROJECTS}/pay", "DELETE")).json == replaced.json
    assert (await get(f"{PROJECTS}/pay", "DELETE")).status == 404
    assert fake.all_executions() == []


async def test_taken_identifiers(fake: FakeHarness, get: Any, envelope: Callable[[Any], str]) -> None:
    """A taken identifier is 409 in the legacy envelope."""
    fake.add_project("default", "pay")
    for path, member, identifier in (("/v1/orgs", "org", "default"), (PROJECTS, "project", "pay")):
        response = await get(path, "POST", json={member: {"identifier": identifier, "name": "N"}})
        assert (response.status, envelope(response), response.json["code"]) == (409, "legacy", "DUPLICATE_FIELD")


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"identifier": "1a", "name": "N"}, {"identifier"}),
        ({"identifier": "a-b", "name": "N"}, {"identifier"}),
        ({"identifier": "a", "name": "N!"}, {"name"}),
        ({"name": "N"}, {"identifier"}),
        ({}, {"identifier", "name"}),
        ({"identifier": "a", "name": "N", "description": "x" * 1025}, {"description"}),
        ({"identifier": "a", "name": "N", "tags": {"a": 1}}, {"tags"}),
        ({"identifier": "a", "name": "N", "modules": "CD"}, {"modules"}),
        ({"identifier": "a", "name": "N", "color": 1}, {"color"}),
        ({"identifier": "a", "name": "N", "odd": 1}, {"odd"}),
        ({"identifier": "a", "name": "N", "org": "elsewhere"}, {"org"}),
        ("text", {"project"}),
    ],
)
async def test_bad_projects(
    fake: FakeHarness, get: Any, envelope: Callable[[Any], str], fields: Any, wrong: set[str]
) -> None:
    """A malformed project is rejected with one message for each invalid field."""
    fake.add_organization("default")
    response = await get(PROJECTS, "POST", json={"project": fields})
    assert (response.status, envelope(response)) == (400, "v1")
    assert {error["field_name"] for error in response.json["errors"]} == wrong


async def test_a_replacement_keeps_the_identifier(fake: FakeHarness, get: Any) -> None:
    """The body of a replacement must repeat the identifier of the path."""
    fake.add_project("default", "pay")
    response = await get(f"{PROJECTS}/pay", "PUT", json={"project": {"identifier": "other", "name": "N"}})
    assert response.status == 400
