"""Projects: what goes out for each call, what is made of the answers, and the walk over every organization."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from harness_async import (
    ConflictError,
    DecodeError,
    HarnessClient,
    NotFoundError,
    PermissionDeniedError,
    Project,
    ProjectRef,
    TransportError,
)
from harness_async.testing import Body, FakeHarness, Reset, Status

PROJECTS = "/v1/orgs/default/projects"


async def test_list_begins_at_page_0(fake: FakeHarness, client: HarnessClient) -> None:
    """The v1 generation counts its pages from 0, and the size is always said."""
    found = await client.projects.list("default", limit=1).collect()
    assert [project.identifier for project in found] == ["payments", "billing"]
    assert [(request.path, request.query_string) for request in fake.requests] == [
        (PROJECTS, "limit=1&page=0"),
        (PROJECTS, "limit=1&page=1"),
    ]


@pytest.mark.parametrize(
    ("filters", "query"),
    [
        pytest.param({}, "", id="none"),
        pytest.param({"project": "billing"}, "&project=billing", id="one"),
        pytest.param({"project": ("billing", "payments")}, "&project=billing&project=payments", id="several"),
        pytest.param(
            {"has_module": False, "module_type": "CD"}, "&has_module=false&module_type=CD", id="without-module"
        ),
        pytest.param({"has_module": True, "module_type": "CD"}, "&has_module=true&module_type=CD", id="module"),
        pytest.param({"search_term": "50% off"}, "&search_term=50%25%20off", id="search"),
        pytest.param({"sort": "created", "order": "Asc"}, "&sort=created&order=ASC", id="order"),
    ],
)
async def test_list_filters(fake: FakeHarness, client: HarnessClient, filters: dict[str, Any], query: str) -> None:
    """Filters go out under the API's names, several identifiers as a repeated key, booleans in lower case."""
    await client.projects.list("default", **filters).collect()
    assert fake.requests[0].query_string == f"limit=100&page=0{query}"
    assert fake.requests[0].status == 200


@pytest.mark.parametrize(
    ("org", "filters", "error"),
    [
        pytest.param("", {}, ValueError, id="no-org"),
        pytest.param("..", {}, ValueError, id="climbing"),
        pytest.param(None, {}, TypeError, id="none"),
        pytest.param("default", {"project": []}, ValueError, id="no-project"),
        pytest.param("default", {"order": "sideways"}, ValueError, id="order"),
        pytest.param("default", {"limit": 101}, ValueError, id="limit"),
    ],
)
async def test_list_refuses(
    fake: FakeHarness, client: HarnessClient, org: Any, filters: dict[str, Any], error: type[Exception]
) -> None:
    """Arguments that cannot be meant are refused where the list is made."""
    with pytest.raises(error):
        client.projects.list(org, **filters)
    assert fake.requests == []


async def test_get(fake: FakeHarness, client: HarnessClient) -> None:
    """A project comes out of its envelope with everything the server says of it."""
    fake.add_project(
        "default", "core", "Core", color="#fff", modules=["CD", "NEW"], description="d", tags={"a": "b"},
        created=5, updated=6, isFavorite=True,
    )  # fmt: skip
    project = await client.projects.get("default", "core")
    assert project == Project(
        org="default",
        identifier="core",
        name="Core",
        color="#fff",
        modules=("CD", "NEW"),
        description="d",
        tags={"a": "b"},
        created=5,
        updated=6,
        is_favorite=True,
    )
    assert project.ref == ProjectRef("default", "core")
    assert pickle.loads(pickle.dumps(project)) == project  # noqa: S301 - our own
    assert fake.requests[0].path == f"{PROJECTS}/core"


async def test_both_identifiers_are_one_segment_each(fake: FakeHarness, client: HarnessClient) -> None:
    """Whatever the identifiers hold, each stays one segment of the path."""
    with pytest.raises(NotFoundError):
        await client.projects.get("-a/../b", "c d%/e")
    assert fake.requests[0].path == "/v1/orgs/-a%2F..%2Fb/projects/c%20d%25%2Fe"


async def test_create(fake: FakeHarness, client: HarnessClient) -> None:
    """A create sends the object in its envelope, without what is None, and gives what the server made of it."""
    project = await client.projects.create(
        "default", "fresh", "Fresh", color="#000", modules=["CD"], description="d", tags={"a": "b"}
    )
    assert project.ref == ProjectRef("default", "fresh")
    assert (project.name, project.color, project.modules, project.tags) == ("Fresh", "#000", ("CD",), {"a": "b"})
    await client.projects.create("default", "other", "Other")
    first, second = fake.requests
    assert (first.method, first.path, first.query_string, first.status) == ("POST", PROJECTS, "", 201)
    assert first.json == {
        "project": {
            "identifier": "fresh",
            "name": "Fresh",
            "color": "#000",
            "modules": ["CD"],
            "description": "d",
            "tags": {"a": "b"},
        }
    }
    assert second.json == {"project": {"identifier": "other", "name": "Other"}}


async def test_create_takes_any_sequence_of_modules(fake: FakeHarness, client: HarnessClient) -> None:
    """Modules may be a tuple, as they come in a `Project`."""
    await client.projects.create("default", "fresh", "Fresh", modules=("CD", "CI"))
    assert fake.requests[0].json["project"]["modules"] == ["CD", "CI"]


async def test_create_of_a_taken_identifier(client: HarnessClient) -> None:
    """A taken identifier is a `ConflictError`."""
    with pytest.raises(ConflictError) as caught:
        await client.projects.create("default", "payments", "Again")
    assert not caught.value.ambiguous


async def test_create_in_no_organization(client: HarnessClient) -> None:
    """An organization that is not there is a `NotFoundError`."""
    with pytest.raises(NotFoundError):
        await client.projects.create("nobody", "fresh", "Fresh")


async def test_create_is_never_sent_twice(fake: FakeHarness, client: HarnessClient) -> None:
    """A create whose answer was lost is left to the caller, and the error says that it may have worked."""
    fake.faults.add(Reset("after_effect"), times=1)
    with pytest.raises(TransportError) as caught:
        await client.projects.create("default", "fresh", "Fresh")
    assert caught.value.ambiguous
    assert len(fake.requests) == 1


async def test_update_replaces(fake: FakeHarness, client: HarnessClient) -> None:
    """An update sends the whole object in its envelope: what is left out is gone afterwards."""
    project = await client.projects.update("default", "payments", name="New")
    assert (project.name, project.color, project.modules) == ("New", "", ())
    request = fake.requests[0]
    assert (request.method, request.path) == ("PUT", f"{PROJECTS}/payments")
    assert request.json == {"project": {"identifier": "payments", "name": "New"}}
    assert await client.executions.list("default", "payments").count() == 3


async def test_update_of_what_was_fetched(fake: FakeHarness, client: HarnessClient) -> None:
    """What was fetched can be sent back member by member and stays as it was."""
    was = await client.projects.get("default", "payments")
    now = await client.projects.update(
        was.org,
        was.identifier,
        name=was.name,
        color=was.color,
        modules=was.modules,
        description=was.description,
        tags=was.tags,
    )
    assert (now.color, now.modules, now.created) == (was.color, was.modules, was.created)


async def test_delete(fake: FakeHarness, client: HarnessClient) -> None:
    """A delete gives the project as it was, and it is gone."""
    gone = await client.projects.delete("default", "payments")
    assert gone is not None
    assert (gone.ref, gone.color) == (ProjectRef("default", "payments"), "#0063f7")
    assert (fake.requests[0].method, fake.requests[0].path) == ("DELETE", f"{PROJECTS}/payments")
    with pytest.raises(NotFoundError):
        await client.projects.delete("default", "payments")


async def test_delete_without_a_body(fake: FakeHarness, client: HarnessClient) -> None:
    """A server that does not tell what it deleted gives None."""
    fake.faults.add(Body(b""))
    assert await client.projects.delete("default", "payments") is None


async def test_org_is_filled_in(fake: FakeHarness, client: HarnessClient) -> None:
    """The organization comes from the request where the server leaves it out, whatever the operation."""
    fake.faults.add(Body(b'{"project": {"identifier": "a"}}'), method="GET", path="*/a")
    fake.faults.add(Body(b'[{"project": {"identifier": "a"}}]'), method="GET")
    fake.faults.add(Body(b'{"project": {"identifier": "a", "org": null}}'))
    bare = Project(org="default", identifier="a")
    assert await client.projects.get("default", "a") == bare
    assert await client.projects.create("default", "a", "A") == bare
    assert await client.projects.update("default", "a", name="A") == bare
    assert await client.projects.delete("default", "a") == bare
    assert await client.projects.list("default").first() == bare


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"{}", "$"),
        (b"null", "$"),
        (b'{"project": {"name": "x"}}', "$.project.identifier"),
        (b'{"project": {"identifier": "a", "modules": "CD"}}', "$.project.modules"),
        (b'{"project": {"identifier": "a", "modules": [null]}}', "$.project.modules[0]"),
        (b'{"project": {"identifier": "a"}, "isFavorite": "yes"}', "$.isFavorite"),
    ],
)
async def test_answers_that_do_not_fit(fake: FakeHarness, client: HarnessClient, body: bytes, path: str) -> None:
    """An answer that does not fit is a `DecodeError` that names the place by its name on the wire."""
    fake.faults.add(Body(body))
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.projects.get("default", "a"),
        lambda: client.projects.update("default", "a", name="A"),
        lambda: client.projects.delete("default", "a"),
    ]
    for call in calls:
        with pytest.raises(DecodeError) as caught:
            await call()
        assert caught.value.path == path


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"{}", "$"),
        (b"[null]", "$[0]"),
        (b'[{"project": {"identifier": "a"}}, {"project": {}}]', "$[1].project.identifier"),
    ],
)
async def test_lists_that_do_not_fit(fake: FakeHarness, client: HarnessClient, body: bytes, path: str) -> None:
    """A list that does not fit is a `DecodeError` that names the row."""
    fake.faults.add(Body(body))
    with pytest.raises(DecodeError) as caught:
        await client.projects.list("default").collect()
    assert caught.value.path.startswith(path)


# -- every organization ------------------------------------------------------------------------------------------------


async def test_list_all(fake: FakeHarness, client: HarnessClient) -> None:
    """Without names every organization is walked, in the order of their list."""
    found = await client.projects.list_all().collect()
    assert [str(project.ref) for project in found] == ["default/payments", "default/billing", "labs/rockets"]
    assert {request.path for request in fake.requests} == {
        "/v1/orgs",
        "/v1/orgs/default/projects",
        "/v1/orgs/labs/projects",
    }


async def test_list_all_of_some(fake: FakeHarness, client: HarnessClient) -> None:
    """With names only those are asked for, in their order, and the list of organizations is not."""
    found = await client.projects.list_all(orgs=["labs", "default"]).collect()
    assert [str(project.ref) for project in found] == ["labs/rockets", "default/payments", "default/billing"]
    assert len(fake.requests) == 2


async def test_list_all_passes_over_what_disappears(fake: FakeHarness, client: HarnessClient) -> None:
    """An organization that goes away between its list and its own is passed over."""
    fake.faults.add(Status(404, envelope="v1"), path="/v1/orgs/default/projects")
    assert [project.org for project in await client.projects.list_all().collect()] == ["labs"]


async def test_list_all_raises_for_a_name_that_is_wrong(client: HarnessClient) -> None:
    """An organization that the caller named and that is not there is an error."""
    with pytest.raises(NotFoundError):
        await client.projects.list_all(orgs=["labs", "nobody"]).collect()


async def test_list_all_raises_what_is_denied(fake: FakeHarness, client: HarnessClient) -> None:
    """An organization whose projects may not be listed is an error, not an empty place."""
    fake.deny("default")
    with pytest.raises(PermissionDeniedError):
        await client.projects.list_all().collect()
