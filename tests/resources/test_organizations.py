"""Organizations: the request of each method, and the models and errors of the responses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from harness_async import (
    BadRequestError,
    ConflictError,
    DecodeError,
    HarnessClient,
    NotFoundError,
    Organization,
)
from harness_async.testing import Body, FakeHarness, Status


def sent(fake: FakeHarness) -> list[str]:
    """Return the received requests as method and path."""
    return [f"{request.method} {request.path}" for request in fake.requests]


@pytest.mark.parametrize(
    ("filters", "query"),
    [
        ({}, "limit=100&page=0"),
        ({"org": "labs"}, "limit=100&page=0&org=labs"),
        ({"org": ["labs", "default"]}, "limit=100&page=0&org=labs&org=default"),
        ({"search_term": "a b", "sort": "name", "order": "desc"},
         "limit=100&page=0&search_term=a%20b&sort=name&order=DESC"),
        ({"limit": 1000}, "limit=1000&page=0"),
    ],
    ids=str,
)  # fmt: skip
async def test_list(fake: FakeHarness, client: HarnessClient, filters: dict[str, Any], query: str) -> None:
    """A list counts its pages from 0 and sends the filters under the names of the API."""
    organizations = await client.organizations.list(**filters).collect()
    assert {org.identifier for org in organizations} <= {"default", "labs"}
    assert (sent(fake)[0], fake.requests[0].query_string) == ("GET /v1/orgs", query)
    assert fake.requests[0].status == 200


async def test_get(fake: FakeHarness, client: HarnessClient) -> None:
    """An organization has every member of its envelope."""
    members: dict[str, Any] = {"name": "Core", "description": "d", "tags": {"a": "b"}, "created": 1_700_000_000_000}
    fake.add_organization("core", **members, updated=1, harness_managed=True)
    org = await client.organizations.get("core")
    assert org == Organization(identifier="core", **members, updated=1, harness_managed=True)
    assert org.created_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert sent(fake) == ["GET /v1/orgs/core"]
    assert fake.requests[0].query_string == ""


async def test_create(fake: FakeHarness, client: HarnessClient) -> None:
    """A create sends the object in its envelope without what is None, and returns what was stored."""
    org = await client.organizations.create("fresh", "Fresh one", description="d", tags={"a": "b"})
    assert (org.identifier, org.name, org.description, org.tags) == ("fresh", "Fresh one", "d", {"a": "b"})
    assert org.created > 0
    await client.organizations.create("bare", "Bare")
    await client.organizations.create("empty", "Empty", description="", tags={})
    assert sent(fake) == ["POST /v1/orgs"] * 3
    assert [request.json["org"] for request in fake.requests] == [
        {"identifier": "fresh", "name": "Fresh one", "description": "d", "tags": {"a": "b"}},
        {"identifier": "bare", "name": "Bare"},
        {"identifier": "empty", "name": "Empty", "description": "", "tags": {}},
    ]


async def test_refused_create(client: HarnessClient) -> None:
    """A used identifier is a `ConflictError`, a malformed one a `BadRequestError` that names the field."""
    with pytest.raises(ConflictError) as conflict:
        await client.organizations.create("default", "Again")
    assert (conflict.value.code, conflict.value.ambiguous) == ("DUPLICATE_FIELD", False)
    with pytest.raises(BadRequestError, match="identifier: is malformed") as refused:
        await client.organizations.create("1st", "First")
    assert [error.field for error in refused.value.field_errors] == ["identifier"]


async def test_update(fake: FakeHarness, client: HarnessClient) -> None:
    """An update replaces the whole object: members that are left out are cleared."""
    org = await client.organizations.update("default", name="New name")
    assert (org.name, org.description, org.tags) == ("New name", "", {})
    assert sent(fake) == ["PUT /v1/orgs/default"]
    assert fake.requests[0].json == {"org": {"identifier": "default", "name": "New name"}}
    kept = await client.organizations.update("default", name="New name", description="d", tags={"a": "b"})
    assert (kept.description, kept.tags, kept.created) == ("d", {"a": "b"}, org.created)


async def test_delete(fake: FakeHarness, client: HarnessClient) -> None:
    """A delete returns the organization as it was, or None where the response is empty."""
    deleted = await client.organizations.delete("default")
    assert deleted is not None
    assert (deleted.identifier, deleted.description, deleted.tags) == ("default", "The first", {"team": "core"})
    with pytest.raises(NotFoundError):
        await client.organizations.delete("default")
    assert sent(fake) == ["DELETE /v1/orgs/default"] * 2
    assert fake.requests[0].body == b""
    fake.faults.add(Body(b"", status=204))
    assert await client.organizations.delete("labs") is None


async def test_delete_after_a_429(fake: FakeHarness, client: HarnessClient) -> None:
    """A 404 after a 429 is an error, because a throttled delete has no effect."""
    fake.faults.add(Status(429), times=1)
    with pytest.raises(NotFoundError) as caught:
        await client.organizations.delete("nobody")
    assert [attempt.status for attempt in caught.value.attempts] == [429, 404]


@pytest.mark.parametrize(
    ("body", "path"),
    [(b"{}", "$.org.identifier"), (b"null", "$"), (b'{"org": {"identifier": 5}}', "$.org.identifier")],
    ids=["no-envelope", "null", "number"],
)
async def test_responses_that_do_not_fit(fake: FakeHarness, client: HarnessClient, body: bytes, path: str) -> None:
    """A response that does not fit is a `DecodeError` with path, body and attempts, for every method."""
    fake.faults.add(Body(body))
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.organizations.get("a"),
        lambda: client.organizations.create("a", "A"),
        lambda: client.organizations.update("a", name="A"),
        lambda: client.organizations.delete("a"),
    ]
    for call in calls:
        with pytest.raises(DecodeError) as caught:
            await call()
        error = caught.value
        assert (error.path, error.body, error.status, len(error.attempts)) == (path, body, 200, 1)
