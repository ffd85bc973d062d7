"""Sending: bad replies become typed errors, failures are retried or not, deadlines hold, and observers see it all."""

from __future__ import annotations

import asyncio
import logging
import pickle
import ssl
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any, TypeAlias

import aiohttp
import pytest

from harness_async import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    DeadlineExceededError,
    DecodeError,
    Event,
    FieldError,
    GateClosed,
    GateOpened,
    HarnessClient,
    HarnessError,
    LockedError,
    NotFoundError,
    PageRead,
    PermissionDeniedError,
    PreconditionFailedError,
    RateLimitError,
    RequestSent,
    RequestTimeoutError,
    ResponseReceived,
    RetryPlanned,
    RetryPolicy,
    ServerError,
    Timeouts,
    TransportError,
    UnexpectedResponseError,
    UnprocessableEntityError,
    UnsupportedMediaTypeError,
)
from harness_async.testing import (
    Body,
    CutBody,
    Delay,
    FakeHarness,
    Redirect,
    Reset,
    SignInPage,
    SlowBody,
    Status,
    TooManyRequests,
)
from tests.support.connections import anonymous_tls, free_places, is_idle

Connect: TypeAlias = Callable[..., HarnessClient]
Serve: TypeAlias = Callable[..., Awaitable[str]]

ORG = b'{"org":{"identifier":"default","name":"Default"}}'

ONCE = RetryPolicy(max_attempts=1)


def quick(attempts: int | None = None, **options: Any) -> RetryPolicy:
    """Make a policy that retries almost at once."""
    return RetryPolicy(initial_backoff=0.001, max_backoff=0.002, max_attempts=attempts, **options)


# -- answers that are not the API's ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type", "sends", "error"),
    [
        pytest.param(b"<html>Sign in</html>", "text/html", 1, UnexpectedResponseError, id="html"),
        pytest.param(b"\n <!doctype html>", "application/json", 1, UnexpectedResponseError, id="html-as-json"),
        pytest.param(b"Sign in", "text/html; charset=utf-8", 1, UnexpectedResponseError, id="text-as-html"),
        pytest.param(b"null", "application/json", 1, DecodeError, id="null"),
        pytest.param(b"{}", "application/json", 1, DecodeError, id="empty-object"),
        pytest.param(b"[]", "application/json", 1, DecodeError, id="array"),
        pytest.param(b'"default"', "application/json", 1, DecodeError, id="text"),
        pytest.param(b"17", "application/json", 1, DecodeError, id="number"),
        pytest.param(b"true", "application/json", 1, DecodeError, id="boolean"),
        pytest.param(b"", "application/json", 3, UnexpectedResponseError, id="empty"),
        pytest.param(b"  \n", "application/json", 3, UnexpectedResponseError, id="blank"),
        pytest.param(ORG[:-1], "application/json", 3, UnexpectedResponseError, id="unfinished"),
        pytest.param(ORG + b"}", "application/json", 3, UnexpectedResponseError, id="too-much"),
        pytest.param(b'{"org":\xff}', "application/json", 3, UnexpectedResponseError, id="not-utf-8"),
        pytest.param(ORG.decode().encode("utf-16"), "application/json", 3, UnexpectedResponseError, id="utf-16"),
        pytest.param(b'{"created":NaN}', "application/json", 3, UnexpectedResponseError, id="nan"),
        pytest.param(b"[" * 200_000, "application/json", 3, UnexpectedResponseError, id="deep"),
        pytest.param(b'{"created":' + b"9" * 5000 + b"}", "application/json", 1, DecodeError, id="huge"),
        pytest.param(b"OK", "text/plain", 3, UnexpectedResponseError, id="plain-text"),
    ],
)
async def test_success_that_is_none(
    fake: FakeHarness, client: HarnessClient, body: bytes, content_type: str, sends: int, error: type[HarnessError]
) -> None:
    """A success that is not the API's is a typed error: asked for again where it may be an accident, twice at most."""
    fake.faults.add(Body(body, content_type))
    with pytest.raises(UnexpectedResponseError) as caught:
        await client.organizations.get("default")
    assert type(caught.value) is error
    assert (caught.value.status, caught.value.body) == (200, body[: 64 * 1024])
    assert (caught.value.method, caught.value.url) == ("GET", f"{fake.url}/v1/orgs/default")
    assert len(caught.value.attempts) == len(fake.requests) == sends
    assert all(attempt.status == 200 and attempt.error for attempt in caught.value.attempts)
    assert not caught.value.ambiguous
    assert is_idle(client)


@pytest.mark.parametrize("status", [200, 201, 204])
async def test_nothing_where_an_object_should_be(fake: FakeHarness, client: HarnessClient, status: int) -> None:
    """An empty success is a typed error where an object was asked for."""
    fake.faults.add(Body(b"", status=status))
    with pytest.raises(UnexpectedResponseError, match="not JSON") as caught:
        await client.organizations.get("default")
    assert caught.value.status == status


@pytest.mark.parametrize("times", [1, 2])
async def test_garbled_success_that_passes(fake: FakeHarness, client: HarnessClient, times: int) -> None:
    """A body that is garbled once or twice costs no more than the tries."""
    fake.faults.add(Body(b'{"org":'), times=times)
    assert (await client.organizations.get("default")).name == "Default"
    assert len(fake.requests) == times + 1


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_garbled_success_of_a_write(fake: FakeHarness, client: HarnessClient, method: str) -> None:
    """A write that succeeded with a garbled answer is not sent again."""
    fake.faults.add(Body(b'{"org":'))
    with pytest.raises(UnexpectedResponseError):
        await (
            client.organizations.update("default", name="N")
            if method == "PUT"
            else client.organizations.delete("default")
        )
    assert [request.method for request in fake.requests] == [method]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(ORG, "text/plain", id="plain"),
        pytest.param(ORG, "text/html", id="html"),
        pytest.param(ORG, "application/octet-stream", id="bytes"),
        pytest.param(ORG, "application/vnd.harness+json; charset=utf-8", id="vendor"),
        pytest.param(ORG, "application/json; charset=latin-1", id="wrong-charset"),
        pytest.param(b"\xef\xbb\xbf" + ORG, "application/json", id="byte-order-mark"),
        pytest.param(b"\n\t " + ORG + b"\n", "application/json", id="blanks"),
    ],
)
async def test_good_json_is_taken(fake: FakeHarness, client: HarnessClient, body: bytes, content_type: str) -> None:
    """An answer that fits is taken, whatever type it claims to be."""
    fake.faults.add(Body(body, content_type))
    assert (await client.organizations.get("default")).name == "Default"
    assert len(fake.requests) == 1


async def test_kept_body_is_bounded(fake: FakeHarness, client: HarnessClient) -> None:
    """An error keeps no more than the beginning of a large answer."""
    fake.faults.add(Body(b"x" * 1_000_000, "text/plain", status=400))
    with pytest.raises(BadRequestError) as caught:
        await client.organizations.get("default")
    assert caught.value.body == b"x" * 64 * 1024
    assert len(str(caught.value)) < 1000


# -- redirects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/v1/orgs/labs", "labs", "{url}/v1/orgs/labs", "?a=b"], ids=str)
async def test_redirect_within_the_origin(fake: FakeHarness, client: HarnessClient, status: int, location: str) -> None:
    """A redirect to the same scheme, host and port is followed, with the same headers."""
    fake.faults.add(Redirect(location.format(url=fake.url), status), times=1)
    fake.faults.add(Body(b"{}"))
    response = await client.request("GET", "/v1/orgs/default")
    assert response.status == 200
    assert [attempt.status for attempt in response.attempts] == [status, 200]
    first, second = fake.requests
    assert f"{second.path}?{second.query_string}".rstrip("?") == (
        "/v1/orgs/default?a=b" if location == "?a=b" else "/v1/orgs/labs"
    )
    assert second.headers["x-api-key"] == first.headers["x-api-key"] == fake.api_key
    assert client.stats.requests == 2


@pytest.mark.parametrize(
    "location",
    [
        "{other}/v1/orgs/default",
        "//{authority}/v1/orgs/default",
        "http://localhost:{port}/v1/orgs/default",
        "https://127.0.0.1:{port}/v1/orgs/default",
        "http://127.0.0.1:{port}@{authority}/v1/orgs/default",
        "\\\\{authority}/v1/orgs/default",
        "http://[broken/",
        "file:///etc/passwd",
        "data:text/plain,x",
        "mailto:x@y.z",
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_elsewhere(fake: FakeHarness, client: HarnessClient, status: int, location: str) -> None:
    """A redirect to another scheme, host or port is a typed error, and nothing is ever sent there."""
    async with FakeHarness(api_key=fake.api_key) as other:
        other.add_organization("default")
        authority = other.url.removeprefix("http://")
        target = location.format(other=other.url, authority=authority, port=fake.url.rpartition(":")[2])
        fake.faults.add(Redirect(target, status))
        with pytest.raises(HarnessError) as caught:
            await client.organizations.get("default")
        assert other.requests == []
    # A backslash is a character of a path to one reader and the begin of a host to another; ours stays here.
    if not location.startswith("\\"):
        assert type(caught.value) is UnexpectedResponseError
        assert len(fake.requests) == 1
        assert "another host" in str(caught.value)
        assert caught.value.status == status


async def test_redirect_downgrade(fake: FakeHarness, connect: Connect, serve: Serve) -> None:
    """A redirect from https to plain http is a typed error, and the key never goes out in the clear."""
    reply = f"HTTP/1.1 302 Found\r\nLocation: {fake.url}/v1/orgs/default\r\nContent-Length: 0\r\n\r\n".encode()
    url = await serve(lambda _: reply, tls=anonymous_tls(ssl.PROTOCOL_TLS_SERVER))
    connector = aiohttp.TCPConnector(ssl=anonymous_tls(ssl.PROTOCOL_TLS_CLIENT))
    async with aiohttp.ClientSession(connector=connector) as http:
        with pytest.raises(UnexpectedResponseError, match="another host"):
            await connect(url, http_session=http).organizations.get("default")
        await asyncio.sleep(0)
    assert fake.requests == []


async def test_redirect_loop(fake: FakeHarness, client: HarnessClient) -> None:
    """A redirect in circles ends after a few rounds with a typed error that has every one of them."""
    fake.faults.add(Redirect("/v1/orgs/default"))
    with pytest.raises(UnexpectedResponseError, match="too often") as caught:
        await client.organizations.get("default")
    assert len(fake.requests) == len(caught.value.attempts) == 6
    assert {attempt.status for attempt in caught.value.attempts} == {302}
    assert is_idle(client)


@pytest.mark.parametrize("reply", [Status(304, body=b""), Redirect(""), Status(300, body=b"choose")], ids=str)
async def test_redirect_without_a_target(fake: FakeHarness, client: HarnessClient, reply: Any) -> None:
    """A redirect that does not say whereto is a typed error."""
    fake.faults.add(reply)
    with pytest.raises(UnexpectedResponseError, match="without a target"):
        await client.organizations.get("default")
    assert len(fake.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_redirect_that_would_change_the_request(
    fake: FakeHarness, client: HarnessClient, method: str, status: int
) -> None:
    """A redirect that would make a GET of a write is not followed."""
    fake.faults.add(Redirect("/v1/orgs/labs", status))
    with pytest.raises(UnexpectedResponseError, match="change the request"):
        await client.request(method, "/v1/orgs/default", json={})
    assert len(fake.requests) == 1


@pytest.mark.parametrize("status", [307, 308])
async def test_redirect_of_a_write(fake: FakeHarness, client: HarnessClient, status: int) -> None:
    """A redirect that keeps method and body is followed with both."""
    fake.faults.add(Redirect("/v1/orgs", status), path="/v1/elsewhere")
    body = {"org": {"identifier": "fresh", "name": "Fresh"}}
    assert (await client.request("POST", "/v1/elsewhere", json=body)).status == 201
    assert [(request.method, request.json) for request in fake.requests] == [("POST", body)] * 2


async def test_retries_go_on_at_the_target(fake: FakeHarness, client: HarnessClient) -> None:
    """After a redirect a failure is retried where the redirect led."""
    fake.faults.add(Redirect("/v1/orgs/labs"), path="*/default")
    fake.faults.add(Status(503), times=1, path="*/labs")
    assert (await client.organizations.get("default")).identifier == "labs"
    assert [request.path for request in fake.requests] == ["/v1/orgs/default", "/v1/orgs/labs", "/v1/orgs/labs"]


# -- error statuses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (402, APIStatusError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (405, APIStatusError),
        (408, APIStatusError),
        (409, ConflictError),
        (410, APIStatusError),
        (412, PreconditionFailedError),
        (415, UnsupportedMediaTypeError),
        (422, UnprocessableEntityError),
        (423, LockedError),
        (429, RateLimitError),
        (499, APIStatusError),
        (500, ServerError),
        (501, ServerError),
        (502, ServerError),
        (503, ServerError),
        (504, ServerError),
        (505, ServerError),
        (520, ServerError),
        (599, ServerError),
    ],
)
async def test_status_to_error(fake: FakeHarness, connect: Connect, status: int, error: type[APIStatusError]) -> None:
    """Each error status has its class, which carries the whole answer and what was tried."""
    fake.faults.add(Status(status, headers={"X-Trace": "t1"}, message="no luck"))
    client = connect(retry=ONCE)
    with pytest.raises(APIStatusError) as caught:
        await client.organizations.get("default")
    found = caught.value
    assert type(found) is error
    assert found.status == status
    assert found.message.startswith("no luck")
    assert found.code
    assert found.correlation_id
    assert found.field_errors == ()
    assert found.headers["x-trace"] == found.headers["X-TRACE"] == "t1"
    assert b"no luck" in found.body
    assert (found.method, found.url) == ("GET", f"{fake.url}/v1/orgs/default")
    assert [(attempt.status, attempt.error) for attempt in found.attempts] == [(status, found.message)]
    assert found.retry_after is None
    assert all(word in str(found) for word in (str(status), found.code, "no luck", found.url, found.correlation_id))
    again = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own
    assert (type(again), str(again), again.attempts, again.body) == (error, str(found), found.attempts, found.body)
    assert again.headers["x-trace"] == "t1"


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        pytest.param(
            b'{"name":"bad_request","id":"3Fq1c9aB","message":"limit","temporary":false,"timeout":false,"fault":false}',
            "application/vnd.goa.error",
            ("bad_request", "limit", (), "3Fq1c9aB"),
            id="goa",
        ),
        pytest.param(
            b'{"message":"bad","code":"INVALID_ARGUMENT","errors":[{"field_name":"org","message":"long"}],'
            b'"error_metadata":null}',
            "application/json",
            ("INVALID_ARGUMENT", "bad", (FieldError("org", "long"),), None),
            id="v1",
        ),
        pytest.param(
            b'{"status":"ERROR","code":"INVALID_REQUEST","message":"no","correlationId":"c-1","responseMessages":[],'
            b'"metadata":null}',
            "application/json",
            ("INVALID_REQUEST", "no", (), "c-1"),
            id="legacy",
        ),
        pytest.param(
            b'{"code":17,"message":null}', "application/json", ("17", "no message", (), None), id="number-code"
        ),
        pytest.param(b"<html>Forbidden</html>", "text/html", (None, "HTML page", (), None), id="html"),
        pytest.param(b"no healthy upstream", "text/plain", (None, "no healthy upstream", (), None), id="text"),
        pytest.param(b"", None, (None, "empty response", (), None), id="empty"),
        pytest.param(b"[1]", "application/json", (None, "[1]", (), None), id="array"),
        pytest.param(b"\xff\xfe", "application/json", (None, "", (), None), id="bytes"),
        pytest.param(b"{" * 100_000, "application/json", (None, "{{{", (), None), id="deep"),
    ],
)
async def test_error_envelopes(
    fake: FakeHarness,
    client: HarnessClient,
    body: bytes,
    content_type: str | None,
    expected: tuple[str | None, str, tuple[FieldError, ...], str | None],
) -> None:
    """Whichever shape an error has, code, message, fields and what to quote to support are found."""
    fake.faults.add(Body(body, content_type or "application/json", status=400))
    with pytest.raises(BadRequestError) as caught:
        await client.organizations.get("default")
    code, message, fields, correlation = expected
    assert caught.value.code == code
    assert message in caught.value.message
    assert caught.value.field_errors == fields
    assert caught.value.correlation_id == correlation


@pytest.mark.parametrize("name", ["X-Request-Id", "x-harness-correlation-id"])
async def test_correlation_id_of_the_headers(fake: FakeHarness, client: HarnessClient, name: str) -> None:
    """Where the body has no id to quote, one of the headers serves."""
    fake.faults.add(Status(400, envelope="html", headers={name: "r-1"}))
    with pytest.raises(BadRequestError) as caught:
        await client.organizations.get("default")
    assert caught.value.correlation_id == "r-1"


async def test_repeated_headers_of_an_error(connect: Connect, serve: Serve) -> None:
    """Of a header that comes twice an error keeps the first value, as a response does."""
    head = "X-Via: first\r\nX-Via: second\r\nContent-Length: 2\r\n\r\n{}"
    replies = {b"/good": f"HTTP/1.1 200 OK\r\n{head}".encode(), b"/bad": f"HTTP/1.1 400 No\r\n{head}".encode()}
    client = connect(await serve(lambda request: replies[request.split()[1]]))
    assert (await client.request("GET", "/good")).headers["x-via"] == "first"
    with pytest.raises(BadRequestError) as caught:
        await client.request("GET", "/bad")
    assert caught.value.headers["x-via"] == "first"


# -- retries -----------------------------------------------------------------------------------------------------------

RETRIED = (408, 499, 500, 502, 503, 504, 507, 520, 524, 599)
FINAL = (400, 401, 402, 403, 404, 405, 409, 410, 412, 415, 418, 422, 423, 451, 501, 505)


@pytest.mark.parametrize("status", RETRIED)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_statuses_that_pass(fake: FakeHarness, client: HarnessClient, method: str, status: int) -> None:
    """What may pass is tried again where twice does no harm."""
    fake.faults.add(Status(status), times=2)
    fake.faults.add(Body(b"{}"))
    response = await client.request(method, "/v1/anything")
    assert [attempt.status for attempt in response.attempts] == [status, status, 200]
    assert client.stats.retries == 2


@pytest.mark.parametrize("status", RETRIED)
async def test_statuses_that_pass_for_a_post(fake: FakeHarness, client: HarnessClient, status: int) -> None:
    """A POST is not sent again after a failure of the server, which may have come after its effect."""
    fake.faults.add(Status(status), times=1)
    with pytest.raises(APIStatusError) as caught:
        await client.request("POST", "/v1/anything", json={})
    assert caught.value.ambiguous
    assert len(fake.requests) == 1


@pytest.mark.parametrize("status", FINAL)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_statuses_that_stay(fake: FakeHarness, client: HarnessClient, method: str, status: int) -> None:
    """What will not change by asking again is raised after one send, and nothing about it is ambiguous."""
    fake.faults.add(Status(status))
    with pytest.raises(APIStatusError) as caught:
        await client.request(method, "/v1/anything")
    assert len(fake.requests) == 1
    assert not caught.value.ambiguous


@pytest.mark.parametrize("options", [{"temporary": True}, {"timeout": True}], ids=str)
async def test_refusals_called_temporary(fake: FakeHarness, client: HarnessClient, options: dict[str, Any]) -> None:
    """A refusal that calls itself temporary is tried again, twice at most."""
    fake.faults.add(Status(400, **options), times=2)
    assert (await client.organizations.get("default")).name == "Default"
    fake.faults.clear()
    fake.faults.add(Status(400, **options))
    with pytest.raises(BadRequestError) as caught:
        await client.organizations.get("default")
    assert len(caught.value.attempts) == 3


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
async def test_refusal_by_rate(fake: FakeHarness, client: HarnessClient, method: str) -> None:
    """After a 429 anything goes again, for nothing has happened; it is counted apart."""
    fake.faults.add(TooManyRequests(), times=2)
    fake.faults.add(Body(b"{}"))
    response = await client.request(method, "/v1/anything")
    assert [attempt.status for attempt in response.attempts] == [429, 429, 200]
    assert (client.stats.throttled, client.stats.requests) == (2, 3)


@pytest.mark.parametrize(
    "fault",
    [Reset("before"), Reset("head"), Reset("after_head"), Reset("after_effect"), CutBody(), CutBody(0.0)],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_broken_connections(fake: FakeHarness, client: HarnessClient, method: str, fault: Any) -> None:
    """A connection that breaks twice costs two tries where twice does no harm."""
    fake.faults.add(fault, times=2)
    fake.faults.add(Body(b"{}"))
    response = await client.request(method, "/v1/orgs")
    assert response.status == 200
    assert len(fake.requests) == client.stats.requests == 3
    assert [attempt.status for attempt in response.attempts] == [None, None, 200]
    assert is_idle(client)


@pytest.mark.parametrize(
    "fault",
    [Reset("before"), Reset("head"), Reset("after_head"), Reset("after_effect"), CutBody(), Delay(3600)],
    ids=str,
)
async def test_a_post_is_never_sent_twice(fake: FakeHarness, connect: Connect, fault: Any) -> None:
    """Once bytes of a POST went out, only a 429 may let it go again."""
    fake.faults.add(fault, times=1)
    client = connect(timeouts=Timeouts(read=0.05))
    with pytest.raises(HarnessError) as caught:
        await client.request("POST", "/v1/orgs", json={"org": {"identifier": "fresh", "name": "Fresh"}})
    assert isinstance(caught.value, TransportError | UnexpectedResponseError)
    assert caught.value.ambiguous
    assert len(fake.requests) == client.stats.requests == 1
    assert is_idle(client)


@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
async def test_max_attempts(fake: FakeHarness, connect: Connect, attempts: int) -> None:
    """No call makes more attempts than allowed, and the error has each of them."""
    fake.faults.add(Status(503))
    client = connect(retry=quick(attempts))
    with pytest.raises(ServerError) as caught:
        await client.organizations.get("default")
    assert len(caught.value.attempts) == len(fake.requests) == attempts
    assert client.stats.retries == attempts - 1


@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_max_attempts_counts_lost_connections(fake: FakeHarness, connect: Connect, attempts: int) -> None:
    """A send that aiohttp repeats by itself is an attempt like any other: no more go out than allowed."""
    fake.faults.add(Reset("before"))
    with pytest.raises(TransportError) as caught:
        await connect(retry=quick(attempts)).organizations.get("default")
    assert len(caught.value.attempts) == len(fake.requests) == attempts


async def test_max_attempts_spares_refusals_by_rate(fake: FakeHarness, connect: Connect) -> None:
    """A refusal by rate is no attempt, unless there is to be only one."""
    fake.faults.add(TooManyRequests(), times=4)
    assert (await connect(retry=quick(2)).organizations.get("default")).name == "Default"
    fake.faults.clear()
    fake.faults.add(TooManyRequests(), times=1)
    before = len(fake.requests)
    with pytest.raises(RateLimitError):
        await connect(retry=quick(1)).organizations.get("default")
    assert len(fake.requests) == before + 1


async def test_retry_statuses_of_ones_own(fake: FakeHarness, connect: Connect) -> None:
    """Which statuses are tried again is the policy's to say."""
    client = connect(retry=quick(3, retry_statuses={404}))
    with pytest.raises(NotFoundError) as caught:
        await client.organizations.get("nobody")
    assert len(caught.value.attempts) == 3
    fake.faults.add(Status(503))
    with pytest.raises(ServerError) as record_failure:
        await client.organizations.get("default")
    assert len(record_failure.value.attempts) == 1


@pytest.mark.parametrize("moment", ["after_effect", "after_head"])
async def test_delete_that_finds_nothing_the_second_time(fake: FakeHarness, client: HarnessClient, moment: Any) -> None:
    """A delete sent again after its answer was lost, that then finds nothing, gives None."""
    fake.faults.add(Reset(moment), times=1)
    assert await client.projects.delete("labs", "rockets") is None
    assert ("labs", "rockets") not in fake.project_objects


@pytest.mark.parametrize("status", [408, 499, 500, 502, 504])
async def test_delete_that_finds_nothing_after_a_failure(fake: FakeHarness, client: HarnessClient, status: int) -> None:
    """A delete that the server gave up on, and that then finds nothing, gives None: it may have worked."""
    fake.faults.add(Status(status), times=1)
    assert await client.projects.delete("labs", "nobody") is None


async def test_delete_that_never_went_out_finds_nothing(fake: FakeHarness, connect: Connect) -> None:
    """Where nothing was sent nothing can have been deleted: a 404 afterwards is an error."""
    record_throttled = True

    async def fail(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        nonlocal record_throttled
        if record_throttled:
            record_throttled = False
            raise aiohttp.ConnectionTimeoutError("made up")
        return await handler(request)

    async with aiohttp.ClientSession(middlewares=(fail,)) as http:
        with pytest.raises(NotFoundError):
            await connect(http_session=http).projects.delete("labs", "nobody")
    assert len(fake.requests) == 1


# -- Retry-After -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", ["0", "0.01", "0.02"])
async def test_retry_after_is_never_undercut(fake: FakeHarness, connect: Connect, seconds: str) -> None:
    """The wait before the next attempt is at least what the server asked for."""
    events: list[Event] = []
    fake.faults.add(Status(503, headers={"Retry-After": seconds}), times=3)
    await connect(on_event=events.append).organizations.get("default")
    waits = [event.wait for event in events if isinstance(event, RetryPlanned)]
    assert len(waits) == 3
    assert all(wait >= float(seconds) for wait in waits)


@pytest.mark.parametrize("seconds", ["0", "0.03"])
async def test_retry_after_of_a_refusal_by_rate(fake: FakeHarness, connect: Connect, seconds: str) -> None:
    """The gate stays closed for at least what the server asked for, and for everyone."""
    events: list[Event] = []
    arrivals: list[float] = []
    fake.before_request = lambda _: arrivals.append(asyncio.get_running_loop().time())
    fake.faults.add(TooManyRequests(retry_after=seconds), times=1)
    client = connect(on_event=events.append)
    await asyncio.gather(client.organizations.get("default"), client.organizations.get("labs"))
    assert sum(isinstance(event, GateClosed) for event in events) == 1
    record_throttled, *later = arrivals
    assert len(later) == 2
    assert max(later) - record_throttled >= float(seconds)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({"Retry-After": "60"}, 60.0, id="seconds"),
        pytest.param({"Retry-After": " 90.5 "}, 90.5, id="fraction"),
        pytest.param({"retry-after": "60"}, 60.0, id="lower-case"),
        pytest.param(
            {"Retry-After": formatdate(1_700_000_060, usegmt=True), "Date": formatdate(1_700_000_000, usegmt=True)},
            60.0,
            id="date-by-the-servers-clock",
        ),
        pytest.param(
            {"Retry-After": formatdate(1_700_000_060), "Date": formatdate(1_700_000_000)}, 60.0, id="numeric-zone"
        ),
    ],
)
@pytest.mark.parametrize("status", [503, 500, 408])
async def test_wait_that_cannot_fit_the_deadline(
    fake: FakeHarness, connect: Connect, headers: dict[str, str], expected: float, status: int
) -> None:
    """A wait that would end beyond the deadline is not waited for: the call fails at once and says why."""
    events: list[Event] = []
    fake.faults.add(Status(status, headers=headers))
    client = connect(timeouts=Timeouts(deadline=30.0), on_event=events.append)
    with pytest.raises(DeadlineExceededError) as caught:
        await client.organizations.get("default")
    cause = caught.value.__cause__
    assert isinstance(cause, APIStatusError)
    assert cause.retry_after == expected
    assert [attempt.status for attempt in caught.value.attempts] == [status]
    assert not any(isinstance(event, RetryPlanned) for event in events)
    assert client.stats.backoff == 0
    assert len(fake.requests) == 1


async def test_refusal_by_rate_that_cannot_fit_the_deadline(fake: FakeHarness, connect: Connect) -> None:
    """A gate that stays closed beyond the deadline fails at once, for the call that met it and for the next."""
    fake.faults.add(TooManyRequests(retry_after=60), times=1)
    client = connect(timeouts=Timeouts(deadline=30.0))
    with pytest.raises(DeadlineExceededError) as caught:
        await client.organizations.get("default")
    assert [attempt.status for attempt in caught.value.attempts] == [429]
    with pytest.raises(DeadlineExceededError, match="nothing was sent") as second:
        await client.organizations.get("default")
    assert second.value.attempts == ()
    assert len(fake.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_beyond_what_we_obey(fake: FakeHarness, connect: Connect, status: int) -> None:
    """A Retry-After beyond `max_retry_after` raises the error itself, with the seconds on it."""
    fake.faults.add(Status(status, headers={"Retry-After": "3600"}))
    client = connect(retry=quick(max_retry_after=5.0))
    with pytest.raises(APIStatusError) as caught:
        await client.organizations.get("default")
    assert caught.value.status == status
    assert caught.value.retry_after == 3600.0
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "text", ["soon", "", "-5", "1e3", "5,5", "0x10", "٣", "nan", "inf", "Thu, 99 Foo 2020"], ids=repr
)
async def test_retry_after_that_says_nothing(fake: FakeHarness, client: HarnessClient, text: str) -> None:
    """A Retry-After that cannot be read is as good as none."""
    headers = {"Retry-After": text.encode().decode("latin-1")}
    fake.faults.add(Status(503, headers=headers), times=1)
    assert (await client.organizations.get("default")).name == "Default"
    fake.faults.clear()
    fake.faults.add(Status(400, headers=headers))
    with pytest.raises(BadRequestError) as caught:
        await client.organizations.get("default")
    assert caught.value.retry_after is None


async def test_retry_after_in_the_past(fake: FakeHarness, client: HarnessClient) -> None:
    """A date that has passed asks for no wait."""
    fake.faults.add(Status(400, headers={"Retry-After": formatdate(0, usegmt=True)}))
    with pytest.raises(BadRequestError) as caught:
        await client.organizations.get("default")
    assert caught.value.retry_after == 0.0


# -- deadlines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Delay(3600), SlowBody(chunk_size=1, pause=0.02)], ids=["silence", "drip"])
async def test_deadline_ends_a_slow_answer(fake: FakeHarness, connect: Connect, fault: Any) -> None:
    """An answer that does not come, or that comes byte by byte, is cut short by the deadline."""
    fake.faults.add(fault)
    client = connect(timeouts=Timeouts(read=60.0, deadline=0.05))
    with pytest.raises(DeadlineExceededError) as caught:
        await client.organizations.get("default")
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert [(attempt.status, attempt.error) for attempt in error.attempts] == [(None, "cut short by the deadline")]
    assert not error.ambiguous
    assert (error.method, error.url) == ("GET", f"{fake.url}/v1/orgs/default")
    assert is_idle(client)


async def test_deadline_ends_a_post(fake: FakeHarness, connect: Connect) -> None:
    """A POST that the deadline cuts short may have worked, and the error says so."""
    fake.faults.add(Delay(3600))
    with pytest.raises(DeadlineExceededError) as caught:
        await connect(timeouts=Timeouts(deadline=0.05)).organizations.create("fresh", "Fresh")
    assert caught.value.ambiguous


async def test_deadline_covers_queueing(fake: FakeHarness, connect: Connect) -> None:
    """Time spent waiting for a place counts, and a call that got none sent nothing."""
    fake.faults.add(Delay(3600))
    client = connect(max_in_flight=1)
    first = asyncio.create_task(client.organizations.get("default"))
    while not fake.requests:
        await asyncio.sleep(0)
    with pytest.raises(DeadlineExceededError) as caught:
        await client.with_options(timeouts=Timeouts(deadline=0.02)).organizations.get("default")
    assert caught.value.attempts == ()
    assert not caught.value.ambiguous
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert len(fake.requests) == 1
    assert is_idle(client)


async def test_deadline_covers_retries(fake: FakeHarness, connect: Connect) -> None:
    """Failures are retried until the deadline, and then the error has them all and their last words."""
    fake.faults.add(Status(503), times=2)
    fake.faults.add(Status(503, message="down", headers={"Retry-After": "60"}))
    client = connect(timeouts=Timeouts(deadline=30.0))
    with pytest.raises(DeadlineExceededError, match="down") as caught:
        await client.organizations.get("default")
    assert len(fake.requests) == len(caught.value.attempts) == 3
    assert is_idle(client)


async def test_no_deadline(fake: FakeHarness, connect: Connect) -> None:
    """Without a deadline a call goes on as long as it takes."""
    fake.faults.add(Status(503), times=30)
    client = connect(timeouts=Timeouts(deadline=None))
    assert (await client.organizations.get("default")).name == "Default"
    assert len(fake.requests) == 31


async def test_deadline_during_a_resend(fake: FakeHarness, connect: Connect, serve: Serve) -> None:
    """A pause that begins while aiohttp is about to send again, and ends beyond the deadline, is named as such."""
    seen: list[bytes] = []

    def answer(request: bytes) -> None:
        seen.append(request)
        client._session.sender.pacer.pause(3600)  # what a refusal of another call does

    client = connect(await serve(answer), timeouts=Timeouts(deadline=30.0))
    with pytest.raises(DeadlineExceededError) as caught:
        await client.organizations.get("default")
    assert len(seen) == len(caught.value.attempts) == 1


# -- cancellation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["place", "pace", "network", "backoff", "body"])
async def test_cancellation(fake: FakeHarness, connect: Connect, place: str) -> None:
    """A call cancelled anywhere ends as cancelled, and leaves no place taken and no connection out."""
    client = connect(max_in_flight=1, timeouts=Timeouts(deadline=None, read=None))
    sender = client._session.sender
    holder: asyncio.Task[object] | None = None
    if place == "place":
        fake.faults.add(Delay(3600))
        holder = asyncio.create_task(client.organizations.get("labs"))
        while not fake.requests:
            await asyncio.sleep(0)
    elif place == "pace":
        sender.pacer.pause(3600)
    elif place == "network":
        fake.faults.add(Delay(3600))
    elif place == "backoff":
        fake.faults.add(Status(503, headers={"Retry-After": "100"}))
    elif place == "body":
        fake.faults.add(SlowBody(chunk_size=1, pause=0.05))
    expected = len(fake.requests) + (place not in {"place", "pace"})
    task = asyncio.create_task(client.organizations.get("default"))
    while len(fake.requests) < expected or (place == "backoff" and not sender.backing_off):
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if holder is not None:
        holder.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holder
    assert free_places(client) == 1
    assert sender.pacer.waiting == 0
    if place != "pace":
        assert is_idle(client)
        fake.faults.clear()
        assert (await client.organizations.get("default")).name == "Default"


async def test_cancelled_probe_makes_way(fake: FakeHarness, client: HarnessClient) -> None:
    """When the request that probes after a refusal is cancelled, another becomes the probe."""
    fake.faults.add(TooManyRequests(), times=1)
    fake.faults.add(Delay(3600), when=lambda _: len(fake.requests) == 2)
    probe = asyncio.create_task(client.organizations.get("default"))
    while len(fake.requests) < 2:
        await asyncio.sleep(0.001)
    waiting = asyncio.create_task(client.organizations.get("labs"))
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert (await waiting).identifier == "labs"


async def test_time_out_of_the_caller(fake: FakeHarness, client: HarnessClient) -> None:
    """A caller's own `asyncio.timeout` is the caller's `TimeoutError`, none of ours."""
    fake.faults.add(Delay(3600))
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.02):
            await client.organizations.get("default")
    assert not isinstance(caught.value, HarnessError)
    assert is_idle(client)


# -- attempts ----------------------------------------------------------------------------------------------------------


async def test_attempts_tell_the_story(fake: FakeHarness, client: HarnessClient) -> None:
    """Each attempt says when it was sent, how long it took, what came back and how long it had waited."""
    fake.faults.add(Status(503, message="down", headers={"Retry-After": "0.02"}), times=1)
    fake.faults.add(TooManyRequests(html=False), times=1)
    first, second, third = (await client.request("GET", "/v1/orgs")).attempts
    assert (first.status, first.error, second.status, third.status, third.error) == (503, "down", 429, 200, None)
    assert first.started <= second.started <= third.started
    assert all(attempt.elapsed > 0 for attempt in (first, second, third))
    assert second.waited >= 0.02
    assert 0 <= first.waited < second.waited


async def test_a_backoff_is_told_once(fake: FakeHarness, client: HarnessClient) -> None:
    """A backoff belongs to the attempt it came before, not to the one that aiohttp sends at once thereafter too."""
    fake.faults.add(Status(503, headers={"Retry-After": "0.2"}), times=1)
    fake.faults.add(Reset("before"), times=1)
    record_failure, lost, answered = (await client.request("GET", "/v1/orgs")).attempts
    assert (record_failure.status, lost.status, answered.status) == (503, None, 200)
    assert lost.waited >= 0.2
    assert answered.waited < 0.2


# -- what observers see ------------------------------------------------------------------------------------------------


def kinds(events: list[Event]) -> list[str]:
    """Give the names of the kinds of events."""
    return [type(event).__name__ for event in events]


async def test_events_of_a_plain_call(fake: FakeHarness, connect: Connect) -> None:
    """A call that goes well is a request sent and a response received, with all there is to say of them."""
    events: list[Event] = []
    await connect(on_event=events.append).organizations.get("default")
    sent, received = events
    url = f"{fake.url}/v1/orgs/default"
    assert sent == RequestSent(method="GET", url=url, attempt=1)
    assert isinstance(received, ResponseReceived)
    assert (received.method, received.url, received.attempt, received.status) == ("GET", url, 1, 200)
    assert received.elapsed > 0
    assert received.size_bytes > 0
    assert received.correlation_id is None


async def test_events_of_a_list(fake: FakeHarness, connect: Connect) -> None:
    """A page that was read says its number, rows and total."""
    events: list[Event] = []
    await connect(on_event=events.append).executions.list("default", "payments", limit=2).collect()
    assert kinds(events) == ["RequestSent", "ResponseReceived", "PageRead"] * 2
    pages = [event for event in events if isinstance(event, PageRead)]
    assert [(page.page, page.rows, page.total_items) for page in pages] == [(1, 2, 3), (2, 1, 3)]
    assert pages[1].url.endswith("limit=2&page=2")


async def test_events_of_a_retry(fake: FakeHarness, connect: Connect) -> None:
    """A retry says which attempt failed and why, and the attempts are numbered."""
    events: list[Event] = []
    fake.faults.add(Status(503, message="down", headers={"X-Request-Id": "r-1"}), times=1)
    await connect(on_event=events.append).organizations.get("default")
    assert kinds(events) == ["RequestSent", "ResponseReceived", "RetryPlanned", "RequestSent", "ResponseReceived"]
    record_failure, planned, again = events[1], events[2], events[3]
    assert isinstance(record_failure, ResponseReceived)
    assert isinstance(planned, RetryPlanned)
    assert isinstance(again, RequestSent)
    assert (record_failure.status, record_failure.correlation_id) == (503, "r-1")
    assert (planned.method, planned.attempt) == ("GET", 1)
    assert "down" in planned.reason
    assert 0 <= planned.wait <= 0.002
    assert again.attempt == 2


async def test_events_of_a_resend(fake: FakeHarness, connect: Connect) -> None:
    """What aiohttp sends again by itself is seen too, as the attempt it is."""
    events: list[Event] = []
    fake.faults.add(Reset("before"), times=1)
    await connect(on_event=events.append).organizations.get("default")
    assert [event.attempt for event in events if isinstance(event, RequestSent)] == [1, 2]
    assert isinstance(events[-1], ResponseReceived)
    assert events[-1].attempt == 2


async def test_events_of_a_gate(fake: FakeHarness, connect: Connect) -> None:
    """A refusal by rate closes the gate, and the answer to the probe opens it."""
    events: list[Event] = []
    fake.faults.add(TooManyRequests(html=False), times=1)
    await connect(on_event=events.append).organizations.get("default")
    assert sorted(kinds(events)[1:4]) == ["GateClosed", "ResponseReceived", "RetryPlanned"]
    assert kinds(events)[0] == kinds(events)[4] == "RequestSent"
    assert sorted(kinds(events)[5:]) == ["GateOpened", "ResponseReceived"]
    closed = next(event for event in events if isinstance(event, GateClosed))
    opened = next(event for event in events if isinstance(event, GateOpened))
    assert "rate" in closed.reason
    assert 0 < closed.wait <= 0.0111
    assert opened.rate is not None
    assert opened.rate > 0


async def test_events_of_an_outage(fake: FakeHarness, connect: Connect) -> None:
    """When most answers are failures the gate closes once for all, and says that it is an outage."""
    events: list[Event] = []
    fake.faults.add(Status(503), times=20)
    await connect(on_event=events.append).organizations.get("default")
    closed = [event for event in events if isinstance(event, GateClosed)]
    assert closed
    assert {event.reason for event in closed} == {"outage"}
    assert sum(isinstance(event, GateOpened) for event in events) == 1


@pytest.mark.parametrize("error", [ValueError("made up"), KeyError("x"), TimeoutError(), HarnessError("x")], ids=repr)
async def test_observer_that_raises(
    fake: FakeHarness, connect: Connect, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """What an observer raises is logged and breaks nothing, retries and gates included."""

    def observe(_: Event) -> None:
        raise error

    fake.faults.add(Status(503), times=1)
    fake.faults.add(TooManyRequests(), times=1)
    fake.faults.add(Reset(), times=1)
    client = connect(on_event=observe)
    assert (await client.organizations.get("default")).name == "Default"
    assert is_idle(client)
    logged = [record for record in caplog.records if record.name == "harness_async.http"]
    assert logged
    assert all(record.levelno == logging.ERROR and record.exc_info for record in logged)


async def test_observer_is_told_while_it_happens(fake: FakeHarness, connect: Connect) -> None:
    """Events come from the task of the call, before the call goes on."""
    tasks: set[object] = set()
    client = connect(on_event=lambda _: tasks.add(asyncio.current_task()))
    await client.organizations.get("default")
    assert tasks == {asyncio.current_task()}


# -- outages, many calls at once ---------------------------------------------------------------------------------------


async def test_many_calls_through_trouble(fake: FakeHarness, connect: Connect) -> None:
    """Many calls at once through every kind of trouble all get their answer, and nothing stays taken."""
    client = connect(max_in_flight=8)
    fake.faults.add(Status(503), every=5)
    fake.faults.add(Reset("before"), every=7)
    fake.faults.add(TooManyRequests(), every=31)
    fake.faults.add(CutBody(), every=11)
    names = ["default", "labs"] * 40
    found = await asyncio.gather(*(client.organizations.get(name) for name in names))
    assert [org.identifier for org in found] == names
    assert client.stats.requests == len(fake.requests)
    assert is_idle(client)


async def test_refused_key_among_many(fake: FakeHarness, connect: Connect) -> None:
    """A refused key is `AuthenticationError` for every call, after one send each."""
    client = connect(api_key="pat.Ab1Cd2Ef3Gh4Ij5Kl6Mn7O.wrong.secret")
    results = await asyncio.gather(*(client.organizations.get("default") for _ in range(5)), return_exceptions=True)
    assert all(isinstance(result, AuthenticationError) for result in results)
    assert len(fake.requests) == 5


async def test_sign_in_page_with_an_error_status(fake: FakeHarness, client: HarnessClient) -> None:
    """A page for people with an error status is that status's error, and says what it is."""
    fake.faults.add(SignInPage(status=403))
    with pytest.raises(PermissionDeniedError, match="HTML page") as caught:
        await client.organizations.get("default")
    assert caught.value.code is None


async def test_errors_pickle(fake: FakeHarness, connect: Connect, serve: Serve) -> None:
    """Every error of a call pickles and comes back with all it said."""
    fake.faults.add(Delay(3600), path="*/slow")
    fake.faults.add(Body(b"{}"), path="*/odd")
    fake.faults.add(SignInPage(), path="*/page")
    client = connect(timeouts=Timeouts(read=0.02), retry=ONCE)
    silent = connect(await serve(lambda _: b""), timeouts=Timeouts(deadline=0.02))
    errors: list[Any] = []
    for made in (client.organizations.get(name) for name in ("slow", "odd", "page", "nobody")):
        with pytest.raises(HarnessError) as caught:
            await made
        errors.append(caught.value)
    with pytest.raises(HarnessError) as caught:
        await silent.organizations.get("default")
    errors.append(caught.value)
    assert [type(error) for error in errors] == [
        RequestTimeoutError,
        DecodeError,
        UnexpectedResponseError,
        NotFoundError,
        DeadlineExceededError,
    ]
    for error in errors:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        assert (type(again), str(again)) == (type(error), str(error))
        assert (again.method, again.url, again.attempts) == (error.method, error.url, error.attempts)
