"""Organizations: what goes out for each call, and what is made of the answers."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias

import pytest

from harness_async import (
    BadRequestError,
    ConflictError,
    DecodeError,
    HarnessClient,
    NotFoundError,
    Organization,
    ServerError,
    TransportError,
    UnexpectedResponseError,
)
from harness_async.testing import Body, FakeHarness, Reset, Status, Totals

Connect: TypeAlias = Callable[..., HarnessClient]
CallOf: TypeAlias = Callable[[HarnessClient], Awaitable[Any]]


async def test_list_begins_at_page_0(fake: FakeHarness, client: HarnessClient) -> None:
    """The v1 generation counts its pages from 0, and the size is always said."""
    found = await client.organizations.list(limit=1).collect()
    assert [org.identifier for org in found] == ["default", "labs"]
    assert [(request.method, request.path, request.query_string) for request in fake.requests] == [
        ("GET", "/v1/orgs", "limit=1&page=0"),
        ("GET", "/v1/orgs", "limit=1&page=1"),
    ]


@pytest.mark.parametrize(
    ("filters", "query"),
    [
        pytest.param({}, "limit=100&page=0", id="none"),
        pytest.param({"org": "labs"}, "limit=100&page=0&org=labs", id="one"),
        pytest.param({"org": ["labs", "default"]}, "limit=100&page=0&org=labs&org=default", id="several"),
        pytest.param({"search_term": "a b"}, "limit=100&page=0&search_term=a%20b", id="search"),
        pytest.param({"sort": "name", "order": "desc"}, "limit=100&page=0&sort=name&order=DESC", id="order"),
        pytest.param({"limit": 7}, "limit=7&page=0", id="limit"),
    ],
)
async def test_list_filters(fake: FakeHarness, client: HarnessClient, filters: dict[str, Any], query: str) -> None:
    """Filters go out under the API's names, several identifiers as a repeated key, the order in upper case."""
    await client.organizations.list(**filters).collect()
    assert fake.requests[0].query_string == query
    assert fake.requests[0].status == 200


@pytest.mark.parametrize(
    ("filters", "error"),
    [
        pytest.param({"org": []}, ValueError, id="no-organization"),
        pytest.param({"org": [5]}, TypeError, id="number"),
        pytest.param({"order": "up"}, ValueError, id="order"),
        pytest.param({"limit": 0}, ValueError, id="limit-0"),
        pytest.param({"limit": 101}, ValueError, id="limit-101"),
    ],
)
async def test_list_refuses_filters(
    fake: FakeHarness, client: HarnessClient, filters: dict[str, Any], error: type[Exception]
) -> None:
    """A filter that cannot be meant is refused where the list is made."""
    with pytest.raises(error):
        client.organizations.list(**filters)
    assert fake.requests == []


async def test_get(fake: FakeHarness, client: HarnessClient) -> None:
    """An organization comes out of its envelope with everything the server says of it."""
    fake.add_organization(
        "core", "Core", description="d", tags={"a": "b"}, created=1_700_000_000_000, updated=1, harness_managed=True
    )
    org = await client.organizations.get("core")
    assert org == Organization(
        identifier="core",
        name="Core",
        description="d",
        tags={"a": "b"},
        created=1_700_000_000_000,
        updated=1,
        harness_managed=True,
    )
    assert org.created_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert pickle.loads(pickle.dumps(org)) == org  # noqa: S301 - our own
    assert hash(org) == hash(await client.organizations.get("core"))
    assert (fake.requests[0].method, fake.requests[0].path, fake.requests[0].query_string) == (
        "GET",
        "/v1/orgs/core",
        "",
    )


@pytest.mark.parametrize(
    ("identifier", "path"),
    [
        ("-2w/../b", "/v1/orgs/-2w%2F..%2Fb"),
        ("a b", "/v1/orgs/a%20b"),
        ("100%", "/v1/orgs/100%25"),
        ("%2F", "/v1/orgs/%252F"),
        ("a?b#c", "/v1/orgs/a%3Fb%23c"),
        ("é", "/v1/orgs/%C3%A9"),
        ("...", "/v1/orgs/..."),
        ("$x", "/v1/orgs/%24x"),
        ("x" * 128, "/v1/orgs/" + "x" * 128),
    ],
)
async def test_identifiers_are_one_segment(
    fake: FakeHarness, client: HarnessClient, identifier: str, path: str
) -> None:
    """Whatever an identifier holds, it stays one segment of the path."""
    with pytest.raises(NotFoundError):
        await client.organizations.get(identifier)
    assert fake.requests[0].path == path


@pytest.mark.parametrize(
    ("identifier", "error"),
    [
        pytest.param("", ValueError, id="empty"),
        pytest.param(".", ValueError, id="dot"),
        pytest.param("..", ValueError, id="dots"),
        pytest.param("x" * 129, ValueError, id="long"),
        pytest.param("\ud800", ValueError, id="surrogate"),
        pytest.param(None, TypeError, id="none"),
        pytest.param(5, TypeError, id="number"),
        pytest.param(b"a", TypeError, id="bytes"),
    ],
)
@pytest.mark.parametrize("operation", ["get", "delete", "update", "create"])
async def test_identifiers_are_checked(
    fake: FakeHarness, client: HarnessClient, operation: str, identifier: Any, error: type[Exception]
) -> None:
    """An identifier that cannot stand in a path is refused before anything is sent."""
    arguments: dict[str, Any] = {"update": {"name": "N"}, "create": {"name": "N"}}.get(operation, {})
    with pytest.raises(error):
        await getattr(client.organizations, operation)(identifier, **arguments)
    assert fake.requests == []


async def test_create(fake: FakeHarness, client: HarnessClient) -> None:
    """A create sends the object in its envelope, and gives what the server made of it."""
    org = await client.organizations.create("fresh", "Fresh one", description="d", tags={"a": "b"})
    assert (org.identifier, org.name, org.description, org.tags) == ("fresh", "Fresh one", "d", {"a": "b"})
    assert org.created > 0
    request = fake.requests[0]
    assert (request.method, request.path, request.query_string) == ("POST", "/v1/orgs", "")
    assert request.json == {"org": {"identifier": "fresh", "name": "Fresh one", "description": "d", "tags": {"a": "b"}}}
    assert request.status == 201


async def test_create_leaves_out_what_is_none(fake: FakeHarness, client: HarnessClient) -> None:
    """What is not given is not in the body; what is given empty is."""
    await client.organizations.create("fresh", "Fresh")
    await client.organizations.create("other", "Other", description="", tags={})
    assert fake.requests[0].json == {"org": {"identifier": "fresh", "name": "Fresh"}}
    assert fake.requests[1].json == {"org": {"identifier": "other", "name": "Other", "description": "", "tags": {}}}


@pytest.mark.parametrize("name", ["", None, 5])
async def test_create_needs_a_name(fake: FakeHarness, client: HarnessClient, name: Any) -> None:
    """A name is text and not empty."""
    with pytest.raises((ValueError, TypeError), match="name"):
        await client.organizations.create("fresh", name)
    assert fake.requests == []


async def test_create_of_a_taken_identifier(client: HarnessClient) -> None:
    """A taken identifier is a `ConflictError`, about which nothing is ambiguous."""
    with pytest.raises(ConflictError) as caught:
        await client.organizations.create("default", "Again")
    assert caught.value.code == "DUPLICATE_FIELD"
    assert not caught.value.ambiguous


async def test_create_refused(client: HarnessClient) -> None:
    """What the API does not take is a `BadRequestError` that names the field."""
    with pytest.raises(BadRequestError) as caught:
        await client.organizations.create("1st", "First")
    assert [(error.field, error.message) for error in caught.value.field_errors] == [
        ("identifier", "is malformed or too long")
    ]
    assert "identifier: is malformed" in str(caught.value)


@pytest.mark.parametrize(
    "fault", [Status(500), Status(503), Status(504, temporary=True), Reset("after_effect")], ids=str
)
async def test_create_is_never_sent_twice(fake: FakeHarness, client: HarnessClient, fault: Any) -> None:
    """A create that fails after it went out is left to the caller, and the error says that it may have worked."""
    fake.faults.add(fault, times=1)
    with pytest.raises((ServerError, TransportError)) as caught:
        await client.organizations.create("fresh", "Fresh")
    assert caught.value.ambiguous
    assert len(fake.requests) == 1


async def test_update_replaces(fake: FakeHarness, client: HarnessClient) -> None:
    """An update sends the whole object in its envelope: what is left out is gone afterwards."""
    org = await client.organizations.update("default", name="New name")
    assert (org.name, org.description, org.tags) == ("New name", "", {})
    request = fake.requests[0]
    assert (request.method, request.path) == ("PUT", "/v1/orgs/default")
    assert request.json == {"org": {"identifier": "default", "name": "New name"}}
    kept = await client.organizations.update("default", name="New name", description="d", tags={"a": "b"})
    assert (kept.description, kept.tags) == ("d", {"a": "b"})
    assert kept.created == org.created


async def test_update_is_repeated(fake: FakeHarness, client: HarnessClient) -> None:
    """An update whose answer was lost is sent again: twice does what once does."""
    fake.faults.add(Reset("after_effect"), times=2)
    assert (await client.organizations.update("default", name="N")).name == "N"
    assert [request.method for request in fake.requests] == ["PUT"] * 3


async def test_delete_returns_what_it_was(fake: FakeHarness, client: HarnessClient) -> None:
    """A delete gives the organization as it was, and it is gone."""
    gone = await client.organizations.delete("default")
    assert gone is not None
    assert (gone.identifier, gone.description, gone.tags) == ("default", "The first", {"team": "core"})
    assert (fake.requests[0].method, fake.requests[0].path, fake.requests[0].body) == (
        "DELETE",
        "/v1/orgs/default",
        b"",
    )
    with pytest.raises(NotFoundError):
        await client.organizations.get("default")


async def test_delete_of_nothing(client: HarnessClient) -> None:
    """Deleting what is not there is a `NotFoundError`."""
    with pytest.raises(NotFoundError):
        await client.organizations.delete("nobody")


@pytest.mark.parametrize("status", [200, 204])
async def test_delete_without_a_body(fake: FakeHarness, client: HarnessClient, status: int) -> None:
    """A server that does not tell what it deleted gives None."""
    fake.faults.add(Body(b"", status=status))
    assert await client.organizations.delete("default") is None


async def test_delete_whose_answer_was_lost(fake: FakeHarness, client: HarnessClient) -> None:
    """A delete that worked though its answer was lost is sent again, and that it then finds nothing is success."""
    fake.faults.add(Reset("after_effect"), times=1)
    assert await client.organizations.delete("labs") is None
    assert [request.method for request in fake.requests] == ["DELETE", "DELETE"]
    assert "labs" not in fake.organizations


async def test_delete_that_never_arrived(fake: FakeHarness, client: HarnessClient) -> None:
    """A delete that had no effect the first time is sent again and gives what it deleted."""
    fake.faults.add(Reset("before"), times=1)
    gone = await client.organizations.delete("labs")
    assert gone is not None
    assert gone.identifier == "labs"


async def test_delete_after_a_refusal_by_rate_is_no_success(fake: FakeHarness, client: HarnessClient) -> None:
    """A 429 proves that nothing happened, so nothing to delete afterwards is still `NotFoundError`."""
    fake.faults.add(Status(429), times=1)
    with pytest.raises(NotFoundError) as caught:
        await client.organizations.delete("nobody")
    assert [attempt.status for attempt in caught.value.attempts] == [429, 404]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param(b"{}", "$", id="no-envelope"),
        pytest.param(b"null", "$", id="null"),
        pytest.param(b"[]", "$", id="array"),
        pytest.param(b'{"org": null}', "$", id="empty-envelope"),
        pytest.param(b'{"org": []}', "$", id="array-in-envelope"),
        pytest.param(b'{"org": {"name": "x"}}', "$.org.identifier", id="no-identifier"),
        pytest.param(b'{"org": {"identifier": null}}', "$.org.identifier", id="null-identifier"),
        pytest.param(b'{"org": {"identifier": 5}}', "$.org.identifier", id="number-identifier"),
        pytest.param(b'{"org": {"identifier": "a"}, "created": "now"}', "$.created", id="text-time"),
        pytest.param(b'{"org": {"identifier": "a", "tags": {"b": 1}}}', "$.org.tags['b']", id="number-tag"),
    ],
)
async def test_answers_that_do_not_fit(fake: FakeHarness, client: HarnessClient, body: bytes, path: str) -> None:
    """An answer that does not fit is a `DecodeError` that names the place, on every operation."""
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
        assert caught.value.path == path
        assert caught.value.body == body
        assert (caught.value.status, len(caught.value.attempts)) == (200, 1)


async def test_members_that_may_be_missing(fake: FakeHarness, client: HarnessClient) -> None:
    """Only the identifier must be there; the rest may be missing, null, or unknown to us."""
    fake.faults.add(Body(b'{"org": {"identifier": "a", "name": null, "tags": null, "new": 1}, "created": null}'))
    org = await client.organizations.get("a")
    assert org == Organization(identifier="a")
    assert org.created_at is None


async def test_null_tag_is_no_text(fake: FakeHarness, client: HarnessClient) -> None:
    """A tag whose value is null never becomes the text "None"."""
    fake.faults.add(Body(b'{"org": {"identifier": "a", "tags": {"b": null}}}'))
    with pytest.raises(DecodeError):
        await client.organizations.get("a")


@pytest.mark.parametrize("total", ["many", "", "-1", "1e3", None, "٣"], ids=repr)
async def test_totals_that_are_no_number(fake: FakeHarness, client: HarnessClient, total: Any) -> None:
    """A total that is no number is as good as none: the list is read to its end and the count is unknown."""
    fake.faults.add(Totals(items=total))
    pager = client.organizations.list(limit=1)
    assert [org.identifier for org in await pager.collect()] == ["default", "labs"]
    assert await pager.count() is None


async def test_empty_account(client: HarnessClient, fake: FakeHarness) -> None:
    """An account without organizations has an empty list, whichever way the server says so."""
    for identifier in fake.organizations:
        fake.remove_organization(identifier)
    assert await client.organizations.list().collect() == []
    fake.faults.add(Body(b"null"))
    assert await client.organizations.list().collect() == []


async def test_create_answered_with_nothing(fake: FakeHarness, client: HarnessClient) -> None:
    """A create that succeeds without an answer is a typed error, for it may have worked."""
    fake.faults.add(Body(b"", status=201))
    with pytest.raises(UnexpectedResponseError) as caught:
        await client.organizations.create("fresh", "Fresh")
    assert caught.value.ambiguous
    assert len(fake.requests) == 1


async def test_create_answered_with_what_does_not_fit(fake: FakeHarness, client: HarnessClient) -> None:
    """A create whose success cannot be read has worked all the same, and the error does not deny it."""
    fake.faults.add(Body(b"{}", status=201))
    with pytest.raises(DecodeError) as caught:
        await client.organizations.create("fresh", "Fresh")
    assert caught.value.ambiguous
