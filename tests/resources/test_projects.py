"""Projects: the request of each method, the models of the responses, and the list over every organization."""

from __future__ import annotations

from typing import Any

import pytest

from harness_async import (
    HarnessClient,
    NotFoundError,
    PermissionDeniedError,
    Project,
    ProjectRef,
)
from harness_async.testing import Body, FakeHarness, Status

PROJECTS = "/v1/orgs/default/projects"


@pytest.mark.parametrize(
    ("filters", "query"),
    [
        ({}, ""),
        ({"project": "billing"}, "&project=billing"),
        ({"project": ("billing", "payments")}, "&project=billing&project=payments"),
        ({"has_module": False, "module_type": "CD"}, "&has_module=false&module_type=CD"),
        ({"search_term": "50% off"}, "&search_term=50%25%20off"),
        ({"sort": "created", "order": "Asc"}, "&sort=created&order=ASC"),
    ],
    ids=str,
)
async def test_list_filters(fake: FakeHarness, client: HarnessClient, filters: dict[str, Any], query: str) -> None:
    """Filters are sent under the names of the API: a repeated key for several identifiers, lower-case booleans."""
    await client.projects.list("default", **filters).collect()
    assert (fake.requests[0].path, fake.requests[0].query_string) == (PROJECTS, f"limit=100&page=0{query}")
    assert fake.requests[0].status == 200


async def test_get(fake: FakeHarness, client: HarnessClient) -> None:
    """A project has every member of its envelope."""
    members: dict[str, Any] = {
        "name": "Core", "color": "#fff", "description": "d", "tags": {"a": "b"}, "created": 5, "updated": 6,
    }  # fmt: skip
    fake.add_project("default", "core", **members, modules=["CD", "NEW"], isFavorite=True)
    project = await client.projects.get("default", "core")
    assert project == Project(org="default", identifier="core", **members, modules=("CD", "NEW"), is_favorite=True)
    assert project.ref == ProjectRef("default", "core")
    assert fake.requests[0].path == f"{PROJECTS}/core"


async def test_create(fake: FakeHarness, client: HarnessClient) -> None:
    """A create sends the object in its envelope without what is None, and returns what was stored."""
    project = await client.projects.create(
        "default", "fresh", "Fresh", color="#000", modules=("CD", "CI"), description="d", tags={"a": "b"}
    )
    assert project.ref == ProjectRef("default", "fresh")
    assert (project.name, project.color, project.modules) == ("Fresh", "#000", ("CD", "CI"))
    await client.projects.create("default", "other", "Other")
    first, second = fake.requests
    assert (first.method, first.path, first.query_string, first.status) == ("POST", PROJECTS, "", 201)
    assert first.json == {
        "project": {
            "identifier": "fresh",
            "name": "Fresh",
            "color": "#000",
            "modules": ["CD", "CI"],
            "description": "d",
            "tags": {"a": "b"},
        }
    }
    assert second.json == {"project": {"identifier": "other", "name": "Other"}}


async def test_update(fake: FakeHarness, client: HarnessClient) -> None:
    """An update replaces the whole object: members that are left out are cleared, executions stay."""
    before = await client.projects.get("default", "payments")
    same = await client.projects.update(
        before.org, before.identifier, name=before.name, color=before.color, modules=before.modules
    )
    assert (same.color, same.modules, same.created) == (before.color, before.modules, before.created)
    project = await client.projects.update("default", "payments", name="New")
    assert (project.name, project.color, project.modules) == ("New", "", ())
    request = fake.requests[-1]
    assert (request.method, request.path) == ("PUT", f"{PROJECTS}/payments")
    assert request.json == {"project": {"identifier": "payments", "name": "New"}}
    assert await client.executions.list("default", "payments").count() == 3


async def test_delete(fake: FakeHarness, client: HarnessClient) -> None:
    """A delete returns the project as it was, or None where the response is empty."""
    deleted = await client.projects.delete("default", "payments")
    assert deleted is not None
    assert (deleted.ref, deleted.color) == (ProjectRef("default", "payments"), "#0063f7")
    assert (fake.requests[0].method, fake.requests[0].path) == ("DELETE", f"{PROJECTS}/payments")
    with pytest.raises(NotFoundError):
        await client.projects.delete("default", "payments")
    fake.faults.add(Body(b""))
    assert await client.projects.delete("default", "payments") is None


async def test_org_of_the_request(fake: FakeHarness, client: HarnessClient) -> None:
    """A project without an organization in the response has that of the request, for every method."""
    fake.faults.add(Body(b'{"project": {"identifier": "a"}}'), method="GET", path="*/a")
    fake.faults.add(Body(b'[{"project": {"identifier": "a"}}]'), method="GET")
    fake.faults.add(Body(b'{"project": {"identifier": "a", "org": null}}'))
    bare = Project(org="default", identifier="a")
    assert await client.projects.get("default", "a") == bare
    assert await client.projects.create("default", "a", "A") == bare
    assert await client.projects.update("default", "a", name="A") == bare
    assert await client.projects.delete("default", "a") == bare
    assert await client.projects.list("default").first() == bare


async def test_list_all(fake: FakeHarness, client: HarnessClient) -> None:
    """`list_all` lists the projects of every organization, or of those of `orgs`, in the order of the organizations."""
    projects = await client.projects.list_all().collect()
    assert [str(project.ref) for project in projects] == ["default/payments", "default/billing", "labs/rockets"]
    assert {request.path for request in fake.requests} == {"/v1/orgs", PROJECTS, "/v1/orgs/labs/projects"}
    assert {request.query_string for request in fake.requests} == {"limit=1000&page=0&sort=created&order=ASC"}
    fake.requests.clear()
    projects = await client.projects.list_all(orgs=["labs", "default"]).collect()
    assert [str(project.ref) for project in projects] == ["labs/rockets", "default/payments", "default/billing"]
    assert len(fake.requests) == 2


LARGE, SMALL = "limit=1000", "limit=100"


@pytest.mark.parametrize(
    ("count", "over_limit", "pages"),
    [
        (150, None, [f"{LARGE}&page=0"]),
        (1001, None, [f"{LARGE}&page={page}" for page in (0, 1, 0)]),
        (150, "refuse", [f"{LARGE}&page=0", *[f"{SMALL}&page={page}" for page in (0, 1, 0)]]),
        (250, "clip", [f"{LARGE}&page=0", *[f"{SMALL}&page={page}" for page in (0, 2, 1, 0)]]),
        (99, "clip", [f"{LARGE}&page=0"]),
    ],
    ids=["one-page", "two-pages", "refused", "clipped", "fits"],
)
async def test_list_all_requests_the_largest_pages(
    fake: FakeHarness, client: HarnessClient, count: int, over_limit: Any, pages: list[str]
) -> None:
    """Pages of 1000 are requested until the server refuses or clips one, in a stable order and the first page twice."""
    if over_limit is not None:
        fake.v1_max_limit, fake.v1_over_limit = 100, over_limit
    for number in range(count):
        fake.add_project("many", f"p{number}", created=1_700_000_000_000 + number)
    async with client.projects.list_all(orgs=["many"]).walk() as walk:
        identifiers = [project.identifier async for project in walk]
    assert sorted(identifiers) == sorted(f"p{number}" for number in range(count))
    assert [request.query_string for request in fake.requests] == [f"{page}&sort=created&order=ASC" for page in pages]
    guarantee = "covered" if pages.count(pages[-1]) == 2 else "exact"
    assert (walk.report.requests, walk.report.guarantee) == (len(pages), guarantee)
    await client.projects.list_all(orgs=["labs"]).collect()
    assert fake.requests[-1].query["limit"] == [pages[-1].partition("&")[0].removeprefix("limit=")]


async def test_list_all_skips_a_deleted_organization(fake: FakeHarness, client: HarnessClient) -> None:
    """An organization that is deleted while the lists are read is skipped; a missing one of `orgs` is an error."""
    fake.faults.add(Status(404, envelope="v1"), path=PROJECTS)
    async with client.projects.list_all().walk() as walk:
        assert [project.org async for project in walk] == ["labs"]
    assert walk.report.guarantee == "exact"  # what is gone has no projects
    with pytest.raises(NotFoundError):
        await client.projects.list_all(orgs=["labs", "nobody"]).collect()


async def test_list_all_raises_a_denied_organization(fake: FakeHarness, client: HarnessClient) -> None:
    """An organization whose projects are denied is an error, not an empty list."""
    fake.deny("default")
    with pytest.raises(PermissionDeniedError):
        await client.projects.list_all().collect()
