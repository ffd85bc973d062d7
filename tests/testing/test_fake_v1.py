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


@pytest.mark.parametrize("query", ["sort=size", "order=up", "has_module=1"])
async def test_bad_queries(fake: FakeHarness, get: Any, envelope: Callable[[Any], str], query: str) -> None:
    """Queries that violate the contract are rejected with 400 in the v1 envelope."""
    fake.add_organization("default")
    response = await get(f"{PROJECTS}?{query}")
    assert (response.status, envelope(response)) == (400, "v1")


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"identifier": "1a", "name": "N"}, {"identifier"}),
        ({"identifier": "a", "name": "N!"}, {"name"}),
        ({}, {"identifier", "name"}),
        ({"identifier": "a", "name": "N", "description": "x" * 1025}, {"description"}),
        ({"identifier": "a", "name": "N", "tags": {"a": 1}}, {"tags"}),
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
