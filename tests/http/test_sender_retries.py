"""Responses over real HTTP: which are decoded, retried or raised, and as which error."""

from __future__ import annotations

import pickle
from typing import Any

import aiohttp
import pytest

from harness_async import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    DecodeError,
    HarnessClient,
    HarnessError,
    LockedError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    RateLimitError,
    ServerError,
    Timeouts,
    TransportError,
    UnexpectedResponseError,
    UnprocessableEntityError,
    UnsupportedMediaTypeError,
)
from harness_async.testing import Body, CutBody, Delay, FakeHarness, Reset, Status, TooManyRequests
from tests.support.connections import is_idle
from tests.support.http import ONCE, ORG, Connect, quick

BREAKS: dict[str, Any] = {
    **{f"reset {moment}": Reset(moment) for moment in ("before", "head", "after_head", "after_effect")},
    "cut": CutBody(),
    "cut to nothing": CutBody(0.0),
}


@pytest.mark.parametrize(
    ("body", "content_type", "requests", "error"),
    [
        pytest.param(b"<html>Sign in</html>", "text/html", 1, UnexpectedResponseError, id="html"),
        pytest.param(b"\n <!doctype html>", "application/json", 1, UnexpectedResponseError, id="html-as-json"),
        pytest.param(b"null", "application/json", 1, DecodeError, id="null"),
        pytest.param(b"[]", "application/json", 1, DecodeError, id="array"),
        pytest.param(b'{"created":' + b"9" * 5000 + b"}", "application/json", 1, DecodeError, id="huge"),
        pytest.param(b"", "application/json", 3, UnexpectedResponseError, id="empty"),
        pytest.param(ORG[:-1], "application/json", 3, UnexpectedResponseError, id="unfinished"),
        pytest.param(b'{"org":\xff}', "application/json", 3, UnexpectedResponseError, id="not-utf-8"),
        pytest.param(ORG.decode().encode("utf-16"), "application/json", 3, UnexpectedResponseError, id="utf-16"),
        pytest.param(b'{"created":NaN}', "application/json", 3, UnexpectedResponseError, id="nan"),
        pytest.param(b"[" * 200_000, "application/json", 3, UnexpectedResponseError, id="deep"),
        pytest.param(b"OK", "text/plain", 3, UnexpectedResponseError, id="plain-text"),
    ],
)
async def test_unexpected_success(
    fake: FakeHarness, client: HarnessClient, body: bytes, content_type: str, requests: int, error: type[HarnessError]
) -> None:
    """A success that is not the object of the API is an error; one that is not JSON is retried twice at most."""
    fake.faults.add(Body(body, content_type))
    with pytest.raises(UnexpectedResponseError) as caught:
        await client.organizations.get("default")
    assert type(caught.value) is error
    assert (caught.value.status, caught.value.body) == (200, body[: 64 * 1024])
    assert (caught.value.method, caught.value.url) == ("GET", f"{fake.url}/v1/orgs/default")
    assert len(caught.value.attempts) == len(fake.requests) == requests
    assert all(attempt.status == 200 and attempt.error for attempt in caught.value.attempts)
    assert not caught.value.ambiguous
    assert is_idle(client)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(ORG, "text/plain", id="plain"),
        pytest.param(ORG, "text/html", id="html"),
        pytest.param(ORG, "application/json; charset=latin-1", id="wrong-charset"),
        pytest.param(b"\xef\xbb\xbf" + ORG, "application/json", id="byte-order-mark"),
        pytest.param(b"\n\t " + ORG + b"\n", "application/json", id="blanks"),
    ],
)
async def test_accepted_bodies(fake: FakeHarness, client: HarnessClient, body: bytes, content_type: str) -> None:
    """A body that fits is accepted, whatever its content type."""
    fake.faults.add(Body(body, content_type))
    assert (await client.organizations.get("default")).name == "Default"
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (402, APIStatusError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (408, APIStatusError),
        (409, ConflictError),
        (412, PreconditionFailedError),
        (415, UnsupportedMediaTypeError),
        (422, UnprocessableEntityError),
        (423, LockedError),
        (429, RateLimitError),
        (500, ServerError),
        (501, ServerError),
        (599, ServerError),
    ],
)
async def test_status_to_error(fake: FakeHarness, connect: Connect, status: int, error: type[APIStatusError]) -> None:
    """Each error status has its class, which carries the response and the attempt, and pickles."""
    fake.faults.add(Status(status, headers={"X-Trace": "t1"}, message="out of luck"))
    with pytest.raises(APIStatusError) as caught:
        await connect(retry=ONCE).organizations.get("default")
    found = caught.value
    assert (type(found), found.status) == (error, status)
    assert found.message.startswith("out of luck")
    assert found.headers["x-trace"] == found.headers["X-TRACE"] == "t1"
    assert b"out of luck" in found.body
    assert (found.method, found.url, found.retry_after) == ("GET", f"{fake.url}/v1/orgs/default", None)
    assert [(attempt.status, attempt.error) for attempt in found.attempts] == [(status, found.message)]
    parts = (str(status), found.code, "out of luck", found.url, found.correlation_id)
    assert all(part and part in str(found) for part in parts)
    again = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own
    assert (type(again), str(again), again.attempts, again.body) == (error, str(found), found.attempts, found.body)
    assert again.headers["x-trace"] == "t1"


@pytest.mark.parametrize("status", [408, 503])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_transient_status(fake: FakeHarness, client: HarnessClient, method: str, status: int) -> None:
    """A transient status is retried for methods that may be repeated."""
    fake.faults.add(Status(status), times=2)
    fake.faults.add(Body(b"{}"))
    found = await client.request(method, "/v1/anything")
    assert [attempt.status for attempt in found.attempts] == [status, status, 200]
    assert client.stats.retries == 2


@pytest.mark.parametrize("option", ["temporary", "timeout"])
async def test_temporary_error(fake: FakeHarness, client: HarnessClient, option: str) -> None:
    """An error whose body says that it is temporary is retried twice at most."""
    fault = Status(400, **{option: True})  # type: ignore[arg-type]
    fake.faults.add(fault, times=2)
    assert (await client.organizations.get("default")).name == "Default"
    fake.faults.add(fault)
    with pytest.raises(BadRequestError) as caught:
        await client.organizations.get("default")
    assert len(caught.value.attempts) == 3


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
async def test_throttled(fake: FakeHarness, client: HarnessClient, method: str) -> None:
    """Any method is sent again after a 429, which is counted apart."""
    fake.faults.add(TooManyRequests(), times=2)
    fake.faults.add(Body(b"{}"))
    found = await client.request(method, "/v1/anything")
    assert [attempt.status for attempt in found.attempts] == [429, 429, 200]
    assert (client.stats.throttled, client.stats.requests) == (2, 3)


@pytest.mark.parametrize("fault", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_lost_connection(fake: FakeHarness, client: HarnessClient, method: str, fault: Any) -> None:
    """A connection that is lost twice costs two requests for methods that may be repeated."""
    fake.faults.add(fault, times=2)
    fake.faults.add(Body(b"{}"))
    found = await client.request(method, "/v1/orgs")
    assert [attempt.status for attempt in found.attempts] == [None, None, 200]
    assert len(fake.requests) == client.stats.requests == 3
    assert is_idle(client)


POST_FAULTS = {**BREAKS, "read timeout": Delay(3600), "408": Status(408), "503": Status(503)}
POST_FAULTS |= {
    "temporary": Status(504, temporary=True),
    "empty": Body(b"", status=201),
    "odd": Body(b"{}", status=201),
}


@pytest.mark.parametrize("fault", POST_FAULTS.values(), ids=POST_FAULTS)
async def test_ambiguous_post(fake: FakeHarness, connect: Connect, fault: Any) -> None:
    """A POST that may have taken effect is not sent again, and its error is ambiguous."""
    fake.faults.add(fault)
    client = connect(timeouts=Timeouts(read=0.05))
    with pytest.raises(HarnessError) as caught:
        await client.organizations.create("fresh", "Fresh")
    assert isinstance(caught.value, TransportError | UnexpectedResponseError | APIStatusError)
    assert caught.value.ambiguous
    assert len(fake.requests) == client.stats.requests == 1
    assert is_idle(client)


@pytest.mark.parametrize("fault", [Status(503), Reset("before"), Body(b"{")], ids=["503", "reset", "not JSON"])
@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_max_attempts(fake: FakeHarness, connect: Connect, attempts: int, fault: Any) -> None:
    """No call sends more requests than `max_attempts`, and its error has each of them."""
    fake.faults.add(fault)
    client = connect(retry=quick(attempts))
    with pytest.raises(HarnessError) as caught:
        await client.organizations.get("default")
    assert isinstance(caught.value, ServerError | TransportError | UnexpectedResponseError)
    assert len(caught.value.attempts) == len(fake.requests) == attempts
    assert client.stats.retries == attempts - 1


@pytest.mark.parametrize("fault", [Status(503), TooManyRequests(), Reset("after_effect")], ids=["503", "429", "reset"])
async def test_one_attempt_of_a_create(fake: FakeHarness, connect: Connect, fault: Any) -> None:
    """A create with `max_attempts=1` sends one POST."""
    fake.faults.add(fault)
    with pytest.raises(HarnessError):
        await connect(retry=ONCE).organizations.create("fresh", "Fresh")
    assert [request.method for request in fake.requests].count("POST") == 1


async def test_retry_statuses(fake: FakeHarness, connect: Connect) -> None:
    """The policy selects the statuses to retry."""
    client = connect(retry=quick(3, retry_statuses={404}))
    fake.faults.add(Status(503), path="*/default")
    for name, attempts in (("nobody", 3), ("default", 1)):
        with pytest.raises(APIStatusError) as caught:
            await client.organizations.get(name)
        assert len(caught.value.attempts) == attempts


@pytest.mark.parametrize("moment", ["after_effect", "after_head"])
async def test_repeated_delete(fake: FakeHarness, client: HarnessClient, moment: Any) -> None:
    """A delete that is repeated after its response was lost, and then finds nothing, returns None."""
    fake.faults.add(Reset(moment), times=1)
    assert await client.projects.delete("labs", "rockets") is None
    assert ("labs", "rockets") not in fake.project_objects


@pytest.mark.parametrize("status", [408, 500])
async def test_delete_after_a_server_error(fake: FakeHarness, client: HarnessClient, status: int) -> None:
    """A 404 after a failure that may have taken effect returns None."""
    fake.faults.add(Status(status), times=1)
    assert await client.projects.delete("labs", "nobody") is None


async def test_delete_that_was_not_sent(fake: FakeHarness, connect: Connect) -> None:
    """A 404 after an attempt that sent nothing is an error."""
    attempts = 0

    async def fail(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise aiohttp.ConnectionTimeoutError("made up")
        return await handler(request)

    async with aiohttp.ClientSession(middlewares=(fail,)) as http:
        with pytest.raises(NotFoundError):
            await connect(http_session=http).projects.delete("labs", "nobody")
    assert (attempts, len(fake.requests)) == (2, 1)
