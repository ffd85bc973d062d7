"""`HarnessClient`: what reaches the wire, whose connections are whose, and the way to any other endpoint."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import aiohttp
import pytest
from attrs import frozen
from yarl import URL

from harness_async import (
    APIStatusError,
    ConfigurationError,
    ConflictError,
    DecodeError,
    Event,
    HarnessClient,
    NotFoundError,
    PageRead,
    RateLimit,
    RatePacer,
    RetryPolicy,
    Timeouts,
    UnexpectedResponseError,
)
from harness_async.testing import Body, ClipPages, FakeHarness, Reset, SignInPage, Status, TooManyRequests
from tests.support.connections import connector_of, free_places, http_session

Connect: TypeAlias = Callable[..., HarnessClient]

EXECUTIONS = "/iacm/api/orgs/default/projects/payments/executions"
VARIABLES = (
    "HARNESS_PLATFORM_API_KEY",
    "HARNESS_API_KEY",
    "HARNESS_ACCOUNT_ID",
    "HARNESS_BASE_URL",
    "HARNESS_ENDPOINT",
)


@frozen
class Row:
    """What `paginate` makes of an execution."""

    pipeline_execution_id: str
    status: str


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


# -- what reaches the wire ---------------------------------------------------------------------------------------------


async def test_every_request_is_authenticated(fake: FakeHarness, client: HarnessClient) -> None:
    """Key, account and accepted type go with each request, and the library says its name."""
    await client.organizations.get("default")
    headers = fake.requests[0].headers
    assert headers["x-api-key"] == fake.api_key
    assert headers["Harness-Account"] == fake.account_id
    assert headers["Accept"] == "application/json"
    assert headers["User-Agent"].startswith("harness_async/")
    assert "Cookie" not in headers
    assert "Authorization" not in headers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_content_type_only_with_a_body(fake: FakeHarness, client: HarnessClient, method: str) -> None:
    """A request without a body declares no content type, one with a body declares JSON."""
    fake.faults.add(Body(b"{}"))
    await client.request(method, "/v1/orgs/x")
    await client.request(method, "/v1/orgs/x", json={})
    bare, full = fake.requests
    assert "Content-Type" not in bare.headers
    assert bare.body == b""
    assert full.headers["Content-Type"] == "application/json"
    assert full.body == b"{}"


@pytest.mark.parametrize(
    ("environment", "arguments", "expected"),
    [
        pytest.param({"HARNESS_PLATFORM_API_KEY": "pat.aa.t.s"}, {}, ("pat.aa.t.s", "aa"), id="platform-key"),
        pytest.param({"HARNESS_API_KEY": "sat.aa.t.s"}, {}, ("sat.aa.t.s", "aa"), id="other-key"),
        pytest.param(
            {"HARNESS_PLATFORM_API_KEY": "pat.aa.t.s", "HARNESS_API_KEY": "pat.bb.t.s"},
            {},
            ("pat.aa.t.s", "aa"),
            id="platform-key-first",
        ),
        pytest.param(
            {"HARNESS_API_KEY": "pat.aa.t.s", "HARNESS_ACCOUNT_ID": "cc"}, {}, ("pat.aa.t.s", "cc"), id="account"
        ),
        pytest.param(
            {"HARNESS_API_KEY": "pat.aa.t.s", "HARNESS_ACCOUNT_ID": "cc"},
            {"api_key": "pat.dd.t.s", "account_id": "ee"},
            ("pat.dd.t.s", "ee"),
            id="arguments-win",
        ),
    ],
)
async def test_credentials_reach_the_wire(
    fake: FakeHarness,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    arguments: dict[str, Any],
    expected: tuple[str, str],
) -> None:
    """What an argument leaves open comes from the environment, and is what the server sees."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fake.api_key, fake.account_id = expected
    async with HarnessClient(base_url=fake.url, rate_limit=None, **arguments) as client:
        await client.organizations.get("default")
    headers = fake.requests[0].headers
    assert (headers["x-api-key"], headers["Harness-Account"]) == expected


@pytest.mark.parametrize("name", ["HARNESS_BASE_URL", "HARNESS_ENDPOINT"])
async def test_host_from_the_environment(fake: FakeHarness, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The address comes from the environment where no argument says it."""
    monkeypatch.setenv(name, fake.url)
    async with HarnessClient(fake.api_key, rate_limit=None) as client:
        assert (await client.organizations.get("default")).name == "Default"


@pytest.mark.parametrize("ending", ["", "/"])
async def test_path_prefix(connect: Connect, ending: str) -> None:
    """Paths are joined behind the prefix of the base URL."""
    async with FakeHarness(prefix="/gateway") as gateway:
        gateway.add_execution("default", "payments")
        client = connect(gateway.url + ending, api_key=gateway.api_key)
        assert await client.executions.list("default", "payments").count() == 1
        assert gateway.requests[0].path == f"/gateway{EXECUTIONS}"


async def test_base_url_as_an_object(fake: FakeHarness) -> None:
    """The base URL may be a `yarl.URL`."""
    async with HarnessClient(fake.api_key, base_url=URL(fake.url)) as client:
        assert (await client.organizations.get("labs")).identifier == "labs"


# -- construction, loops, ends -----------------------------------------------------------------------------------------


def test_construction_needs_no_loop_and_opens_nothing() -> None:
    """A client can be made where no loop runs; its HTTP session comes with the first call."""
    client = HarnessClient("pat.aa.t.s")
    assert http_session(client) is None


async def test_construction_in_a_loop_opens_nothing(client: HarnessClient) -> None:
    """Making a client in a running loop opens nothing either, nor does making its lists."""
    client.executions.list("default", "payments")
    client.projects.list_all()
    client.paginate("/v1/orgs")
    assert http_session(client) is None


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        pytest.param({"api_key": ""}, "api_key", id="empty-key"),
        pytest.param({"api_key": "pat.aa.t.s\n"}, "line break", id="line-break"),
        pytest.param({"api_key": "opaque"}, "account", id="no-account"),
        pytest.param({"api_key": "pat.aa.t.s", "base_url": "ftp://harness.io"}, "https", id="scheme"),
        pytest.param({"api_key": "pat.aa.t.s", "base_url": "http://harness.io"}, "allow_http", id="plain-http"),
        pytest.param({"api_key": "pat.aa.t.s", "max_in_flight": 0}, "max_in_flight", id="no-places"),
    ],
)
def test_bad_settings_are_refused_at_construction(arguments: dict[str, Any], word: str) -> None:
    """What cannot work is refused when the client is made, with a message that says which it is."""
    with pytest.raises(ConfigurationError, match=word):
        HarnessClient(**arguments)


async def test_own_connections_are_closed(client: HarnessClient) -> None:
    """Closing closes the connections that the client made, and closing twice is fine."""
    await client.organizations.get("default")
    connector = connector_of(client)
    assert not connector.closed
    await client.close()
    assert connector.closed
    await client.close()


async def test_context_manager_closes(connect: Connect) -> None:
    """Leaving `async with` closes the client, and gives the client itself on the way in."""
    client = connect()
    async with client as entered:
        assert entered is client
        await client.organizations.get("default")
    with pytest.raises(RuntimeError, match="closed"):
        await client.organizations.get("default")


@pytest.mark.parametrize("used", [False, True])
async def test_use_after_close(fake: FakeHarness, client: HarnessClient, used: bool) -> None:
    """A closed client refuses every call and sends nothing, used before or not."""
    if used:
        await client.organizations.get("default")
    await client.close()
    before = len(fake.requests)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.organizations.get("default"),
        lambda: client.request("GET", "/v1/orgs"),
        lambda: client.executions.list("default", "payments").collect(),
        lambda: client.with_options().projects.get("default", "payments"),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="closed"):
            await call()
    assert len(fake.requests) == before


async def test_repr_without_the_key(fake: FakeHarness, client: HarnessClient) -> None:
    """`repr` shows where the client goes and for whom, never with what."""
    text = repr(client)
    assert fake.url in text
    assert fake.account_id in text
    assert fake.api_key not in text
    assert "fake0secret" not in text


@pytest.mark.parametrize("copier", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_no_pickling(copier: Callable[[HarnessClient], object]) -> None:
    """A client is neither pickled nor copied: it holds connections and a key."""
    with pytest.raises(TypeError, match="cannot be pickled"):
        copier(HarnessClient("pat.aa.t.s"))


# -- borrowed sessions -------------------------------------------------------------------------------------------------


async def test_borrowed_session_stays_open_and_as_it_was(fake: FakeHarness, connect: Connect) -> None:
    """A session handed in is used, never closed and never changed; its own default headers go along."""
    async with aiohttp.ClientSession(headers={"X-Team": "blue"}) as http:
        before = dict(http.headers), http.timeout, len(http.cookie_jar)
        client = connect(http_session=http)
        await client.organizations.get("default")
        await client.close()
        assert not http.closed
        assert (dict(http.headers), http.timeout, len(http.cookie_jar)) == before
        assert fake.requests[0].headers["X-Team"] == "blue"
        assert fake.requests[0].headers["x-api-key"] == fake.api_key
        with pytest.raises(RuntimeError, match="closed"):
            await client.organizations.get("default")
        async with http.get(f"{fake.url}/v1/orgs") as response:
            assert response.status == 401  # none of the client's headers stayed with the session


async def test_headers_of_a_borrowed_session_do_not_replace_ours(fake: FakeHarness, connect: Connect) -> None:
    """The client's key goes out even where the session has another one among its defaults."""
    async with aiohttp.ClientSession(headers={"X-API-Key": "pat.other.t.s", "accept": "text/html"}) as http:
        await connect(http_session=http).organizations.get("default")
    assert fake.requests[0].headers.getall("x-api-key") == [fake.api_key]  # type: ignore[attr-defined]
    assert fake.requests[0].headers["Accept"] == "application/json"


async def test_middlewares_of_a_borrowed_session_work(fake: FakeHarness, connect: Connect) -> None:
    """The session's middlewares see each request, in their order, and the client still counts its sends."""
    seen: list[str] = []

    async def outer(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        seen.append("outer")
        request.headers["X-Signed"] = "yes"
        return await handler(request)

    async def inner(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        seen.append("inner")
        return await handler(request)

    async with aiohttp.ClientSession(middlewares=(outer, inner)) as http:
        client = connect(http_session=http)
        await client.organizations.get("default")
    assert seen == ["outer", "inner"]
    assert fake.requests[0].headers["X-Signed"] == "yes"
    assert client.stats.requests == 1


async def test_a_borrowed_session_that_raises_for_status(fake: FakeHarness, connect: Connect) -> None:
    """Error statuses stay typed errors even where the session would raise its own."""
    async with aiohttp.ClientSession(raise_for_status=True) as http:
        with pytest.raises(NotFoundError):
            await connect(http_session=http).organizations.get("nobody")


async def test_two_clients_over_one_session(fake: FakeHarness, connect: Connect) -> None:
    """Clients that share a session have their own keys, and closing one leaves the other working."""
    async with aiohttp.ClientSession() as http:
        first, second = connect(http_session=http), connect(http_session=http, account_id="somebody")
        await first.organizations.get("default")
        await first.close()
        with pytest.raises(NotFoundError):
            await second.organizations.get("default")
    assert [request.headers["Harness-Account"] for request in fake.requests] == [fake.account_id, "somebody"]


# -- other options over the same connections ---------------------------------------------------------------------------


async def test_with_options_shares(fake: FakeHarness, client: HarnessClient, quick: RetryPolicy) -> None:
    """A client with other options has the same connections, pacer, key and statistics."""
    events: list[Event] = []
    other = client.with_options(
        timeouts=Timeouts(deadline=7.0), retry=RetryPolicy(max_attempts=1), on_event=events.append
    )
    await client.organizations.get("default")
    await other.organizations.get("default")
    ours, theirs = client._session.sender, other._session.sender
    assert theirs.transport is ours.transport
    assert theirs.pacer is ours.pacer
    assert client.stats == other.stats
    assert client.stats.requests == 2
    assert len(events) == 2  # its own call: sent, received
    assert (theirs.timeouts, theirs.retry.max_attempts) == (Timeouts(deadline=7.0), 1)
    assert (ours.timeouts, ours.retry) == (Timeouts(), quick)


async def test_with_options_keeps_what_is_left_out(connect: Connect, quick: RetryPolicy) -> None:
    """Options that are not named stay as they were."""
    events: list[Event] = []
    other = connect(timeouts=Timeouts(read=3.0), on_event=events.append).with_options()
    await other.organizations.get("default")
    assert other._session.sender.timeouts == Timeouts(read=3.0)
    assert other._session.sender.retry == quick
    assert len(events) == 2


async def test_closing_a_client_with_options_closes_nothing(client: HarnessClient) -> None:
    """Only the first client owns the connections; the others live as long as it does."""
    async with client.with_options() as other:
        await other.organizations.get("default")
    await client.organizations.get("default")
    await other.organizations.get("default")
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await other.organizations.get("default")


async def test_retry_options_of_one_call(fake: FakeHarness, client: HarnessClient) -> None:
    """A policy given by `with_options` is the one in force for its calls, and for those alone."""
    fake.faults.add(Status(503), times=1)
    with pytest.raises(APIStatusError):
        await client.with_options(retry=RetryPolicy(max_attempts=1)).organizations.get("default")
    fake.faults.clear()
    fake.faults.add(Status(503), times=1)
    assert (await client.organizations.get("default")).identifier == "default"


# -- any other endpoint ------------------------------------------------------------------------------------------------


async def test_request_gives_the_whole_answer(fake: FakeHarness, client: HarnessClient) -> None:
    """The answer has status, headers in any case, body, parsed body and attempts."""
    fake.faults.add(Status(503), times=1)
    response = await client.request("get", EXECUTIONS, params={"page": 1, "limit": 2})
    assert response.status == 200
    assert response.headers["X-TOTAL-ITEMS"] == response.headers["x-total-items"] == "3"
    assert response.body.startswith(b"[{")
    assert [row["pipeline_execution_id"] for row in response.json()] == ["run2", "run1"]
    assert [attempt.status for attempt in response.attempts] == [503, 200]
    assert "run2" not in repr(response)


@pytest.mark.parametrize(
    ("params", "query"),
    [
        pytest.param(None, "", id="none"),
        pytest.param({}, "", id="empty"),
        pytest.param({"a": None, "b": "x y"}, "b=x%20y", id="none-left-out"),
        pytest.param({"a": True, "b": False}, "a=true&b=false", id="booleans"),
        pytest.param({"a": 3, "b": 1.5}, "a=3&b=1.5", id="numbers"),
        pytest.param({"a": ["x", "y&z"]}, "a=x&a=y%26z", id="sequence"),
        pytest.param({"a": "1+1=2/é"}, "a=1%2B1%3D2%2F%C3%A9", id="reserved"),
    ],
)
async def test_request_params(fake: FakeHarness, client: HarnessClient, params: Any, query: str) -> None:
    """The query goes out as it was given: None left out, a sequence repeated, everything encoded once."""
    fake.faults.add(Body(b"{}"))
    await client.request("GET", "/v1/anything", params=params)
    assert fake.requests[0].query_string == query


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        pytest.param("/v1/orgs/a b", "/v1/orgs/a%20b", id="space"),
        pytest.param("/v1/orgs/a%2Fb", "/v1/orgs/a%2Fb", id="encoded-stays"),
        pytest.param("/v1/orgs/é", "/v1/orgs/%C3%A9", id="letters"),
        pytest.param("/v1/orgs/a:b@c", "/v1/orgs/a:b@c", id="allowed"),
        pytest.param("/v1/orgs/a\r\nHost: evil", "/v1/orgs/a%0D%0AHost:%20evil", id="line-break"),
    ],
)
async def test_request_path(fake: FakeHarness, client: HarnessClient, path: str, raw: str) -> None:
    """A path is encoded where it needs to be and left alone where it was encoded."""
    fake.faults.add(Body(b"{}"))
    await client.request("GET", path)
    assert fake.requests[0].path == raw


@pytest.mark.parametrize(
    ("path", "error"),
    [
        pytest.param("https://elsewhere.example/v1/orgs", ValueError, id="absolute"),
        pytest.param("//elsewhere.example/v1/orgs", ValueError, id="host"),
        pytest.param("/\\elsewhere.example", ValueError, id="backslash"),
        pytest.param("v1/orgs", ValueError, id="no-slash"),
        pytest.param("", ValueError, id="empty"),
        pytest.param("/v1/orgs?limit=1", ValueError, id="query"),
        pytest.param("/v1/orgs#top", ValueError, id="fragment"),
        pytest.param("/v1/../gateway", ValueError, id="climbing"),
        pytest.param("/v1/%2e%2E/gateway", ValueError, id="climbing-encoded"),
        pytest.param("/v1/./orgs", ValueError, id="dot"),
        pytest.param(None, TypeError, id="none"),
        pytest.param(b"/v1/orgs", TypeError, id="bytes"),
    ],
)
async def test_request_refuses_paths(
    fake: FakeHarness, client: HarnessClient, path: Any, error: type[Exception]
) -> None:
    """A path that would leave the base URL, or is none, is refused before anything is sent."""
    with pytest.raises(error):
        await client.request("GET", path)
    with pytest.raises(error):
        client.paginate(path)
    assert fake.requests == []


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "GET /", "", None, 1])
async def test_request_refuses_methods(fake: FakeHarness, client: HarnessClient, method: Any) -> None:
    """A method that the platform does not have is refused before anything is sent."""
    with pytest.raises(ValueError, match="method"):
        await client.request(method, "/v1/orgs")
    assert fake.requests == []


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        pytest.param({"x-api-key": "k"}, ValueError, id="key"),
        pytest.param({"X-Api-Key": "k"}, ValueError, id="key-in-another-case"),
        pytest.param({"harness-account": "a"}, ValueError, id="account"),
        pytest.param({"Host": "evil"}, ValueError, id="host"),
        pytest.param({"Content-Length": "5"}, ValueError, id="length"),
        pytest.param({"Transfer-Encoding": "chunked"}, ValueError, id="encoding"),
        pytest.param({"X-Note": "a\r\nx-api-key: b"}, ValueError, id="line-break"),
        pytest.param({"X-No\nte": "a"}, ValueError, id="line-break-in-name"),
        pytest.param({"": "a"}, ValueError, id="no-name"),
        pytest.param({"X-Note": 5}, TypeError, id="number"),
    ],
)
async def test_request_refuses_headers(
    fake: FakeHarness, client: HarnessClient, headers: Any, error: type[Exception]
) -> None:
    """Headers that are the client's to set, and those no header can be, are refused before anything is sent."""
    with pytest.raises(error):
        await client.request("GET", "/v1/orgs", headers=headers)
    assert fake.requests == []


@pytest.mark.parametrize("name", ["Accept", "accept"])
async def test_request_headers(fake: FakeHarness, client: HarnessClient, name: str) -> None:
    """More headers go along; one that we set by default is replaced, in whatever case it is written."""
    await client.request("GET", "/v1/orgs", headers={"X-Note": "hello", name: "application/problem+json"})
    headers: Any = fake.requests[0].headers
    assert headers["X-Note"] == "hello"
    assert headers.getall("Accept") == ["application/problem+json"]
    await client.request("GET", "/v1/orgs")
    assert fake.requests[1].headers["Accept"] == "application/json"  # nothing stays behind


@pytest.mark.parametrize("name", ["Content-Type", "content-type"])
async def test_request_declares_one_content_type(fake: FakeHarness, client: HarnessClient, name: str) -> None:
    """A body has one content type, whoever sets it."""
    fake.faults.add(Body(b"{}"))
    await client.request("PUT", "/v1/orgs/x", json={}, headers={name: "application/json"})
    headers: Any = fake.requests[0].headers
    assert headers.getall("Content-Type") == ["application/json"]


@pytest.mark.parametrize("json", [{"name": "é"}, [1, 2], "text", 0, False, ""], ids=repr)
async def test_request_json(fake: FakeHarness, client: HarnessClient, json: Any) -> None:
    """A body goes out as JSON, the empty and the false included."""
    fake.faults.add(Body(b"{}"))
    await client.request("POST", "/v1/anything", json=json)
    assert fake.requests[0].json == json


@pytest.mark.parametrize(
    ("json", "error"),
    [(float("nan"), ValueError), ({"a": {1, 2}}, TypeError)],
    ids=["nan", "set"],
)
async def test_request_refuses_what_is_not_json(
    fake: FakeHarness, client: HarnessClient, json: Any, error: type[Exception]
) -> None:
    """What JSON cannot say is refused before anything is sent."""
    with pytest.raises(error):
        await client.request("POST", "/v1/anything", json=json)
    assert fake.requests == []


async def test_large_body(fake: FakeHarness, client: HarnessClient) -> None:
    """A body of more than a mebibyte goes out without a warning."""
    fake.faults.add(Body(b"{}"))
    await client.request("PUT", "/v1/anything", json="x" * (1024 * 1024 - 3))
    await client.request("PUT", "/v1/anything", json="x" * (1024 * 1024 + 1))
    assert len(fake.requests[1].json) == 1024 * 1024 + 1


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_empty_success(fake: FakeHarness, client: HarnessClient, status: int) -> None:
    """A success without a body is a success; asking for its JSON is a typed error."""
    fake.faults.add(Body(b"", status=status))
    response = await client.request("POST", f"{EXECUTIONS}/run/stage/audit-event", json={"audit": {"hash": "h"}})
    assert (response.status, response.body) == (status, b"")
    with pytest.raises(UnexpectedResponseError) as caught:
        response.json()
    assert caught.value.status == status
    assert len(caught.value.attempts) == 1


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"NaN", b"[" * 100_000], ids=["cut", "bytes", "nan", "deep"])
async def test_response_that_is_not_json(fake: FakeHarness, client: HarnessClient, body: bytes) -> None:
    """A raw answer need not be JSON; asking for its JSON is then a typed error."""
    fake.faults.add(Body(body, "application/octet-stream"))
    response = await client.request("GET", "/v1/blob")
    assert response.body == body
    with pytest.raises(UnexpectedResponseError):
        response.json()


async def test_request_refuses_a_sign_in_page(fake: FakeHarness, client: HarnessClient) -> None:
    """A page for people is no answer, even where the body is taken raw."""
    fake.faults.add(SignInPage())
    with pytest.raises(UnexpectedResponseError, match="HTML"):
        await client.request("GET", "/v1/blob")


async def test_request_raises_typed_errors(client: HarnessClient) -> None:
    """An error status is the same typed error as everywhere."""
    with pytest.raises(NotFoundError) as caught:
        await client.request("GET", "/v1/orgs/nobody")
    assert caught.value.code == "ENTITY_NOT_FOUND"


@pytest.mark.parametrize(
    ("method", "repeatable", "sends"),
    [
        ("GET", None, 2),
        ("PUT", None, 2),
        ("DELETE", None, 2),
        ("HEAD", None, 2),
        ("OPTIONS", None, 2),
        ("POST", None, 1),
        ("PATCH", None, 1),
        ("POST", True, 2),
        ("PATCH", True, 2),
        ("GET", False, 1),
        ("PUT", False, 1),
    ],
)
async def test_request_repeatable(
    fake: FakeHarness, client: HarnessClient, method: str, repeatable: bool | None, sends: int
) -> None:
    """What may be sent twice is the method's to say, unless the caller says it."""
    fake.faults.add(Status(503), times=1)
    fake.faults.add(Body(b"{}"))
    try:
        await client.request(method, "/v1/anything", repeatable=repeatable)
        ambiguous = False
    except APIStatusError as error:
        ambiguous = error.ambiguous
    assert len(fake.requests) == sends
    assert ambiguous == (sends == 1)


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_not_repeatable_is_not_resent_by_aiohttp(fake: FakeHarness, client: HarnessClient, method: str) -> None:
    """A request declared not repeatable goes out once, though aiohttp would send its method again by itself."""
    fake.faults.add(Reset())
    with pytest.raises(Exception, match="lost") as caught:
        await client.request(method, "/v1/anything", repeatable=False)
    assert len(fake.requests) == 1
    assert getattr(caught.value, "ambiguous", None) is True


# -- any other list ----------------------------------------------------------------------------------------------------


async def test_paginate_gives_plain_rows(fake: FakeHarness, client: HarnessClient) -> None:
    """Rows come as the dicts that were sent, over all pages, with page and limit set by the pager."""
    rows = await client.paginate(EXECUTIONS, params={"status": "success,none"}, limit=1).collect()
    assert [row["pipeline_execution_id"] for row in rows] == ["run2", "run0"]
    assert rows[0] == fake.executions("default", "payments")[0]
    assert [request.query_string for request in fake.requests] == [
        "limit=1&page=1&status=success%2Cnone",
        "limit=1&page=2&status=success%2Cnone",
    ]


async def test_paginate_makes_models(client: HarnessClient) -> None:
    """Rows become objects of the attrs class given, which need not know every member."""
    rows = await client.paginate(EXECUTIONS, into=Row).collect()
    assert rows == [Row("run2", "none"), Row("run1", "failure"), Row("run0", "success")]


@pytest.mark.parametrize(("first_page", "numbers"), [(0, ["0", "1"]), (1, ["1", "2"])])
async def test_paginate_first_page(
    fake: FakeHarness, client: HarnessClient, first_page: int, numbers: list[str]
) -> None:
    """Pages are counted from where the caller says."""
    path = "/v1/orgs" if first_page == 0 else EXECUTIONS
    fake.remove_execution(fake.executions("default", "payments")[0])
    assert len(await client.paginate(path, first_page=first_page, limit=1).collect()) == 2
    assert [request.query["page"][0] for request in fake.requests] == numbers


@pytest.mark.parametrize("first_page", [2, -1, True, None, "1"])
async def test_paginate_refuses_first_pages(client: HarnessClient, first_page: Any) -> None:
    """Lists begin at 0 or 1; anything else is refused at once."""
    with pytest.raises(ValueError, match="first_page"):
        client.paginate("/v1/orgs", first_page=first_page)


@pytest.mark.parametrize("limit", [0, 101, True, None, "5"])
async def test_paginate_refuses_limits(fake: FakeHarness, client: HarnessClient, limit: Any) -> None:
    """A page size out of range is refused before anything is sent."""
    with pytest.raises(ValueError, match="limit"):
        client.paginate("/v1/orgs", limit=limit)
    assert fake.requests == []


async def test_paginate_key_drops_repeated_rows(fake: FakeHarness, client: HarnessClient) -> None:
    """With a key a row that comes twice is delivered once; without one every row is."""

    def arrive(_: object) -> None:  # a new row pushes the last row of a page to the next page
        fake.add_execution("default", "payments", created=1_800_000_000_000 + len(fake.requests))

    fake.before_request = arrive
    plain = await client.paginate(EXECUTIONS, limit=2).collect()
    fake.before_request = None
    names = [row["pipeline_execution_id"] for row in plain]
    assert len(names) > len(set(names))
    fake.before_request = arrive
    keyed = await client.paginate(EXECUTIONS, limit=2, key=lambda row: row["pipeline_execution_id"]).collect()
    names = [row["pipeline_execution_id"] for row in keyed]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("params", [{"page": 7}, {"limit": 7}, {"Page": 1, "page": 2}])
async def test_paginate_refuses_the_pagers_own_params(
    fake: FakeHarness, client: HarnessClient, params: dict[str, int]
) -> None:
    """`page` and `limit` are the pager's: given twice, no one could say what the server makes of them."""
    with pytest.raises(ValueError, match=r"page|limit"):
        await client.paginate("/v1/orgs", params=params).collect()
    assert fake.requests == []


@pytest.mark.parametrize(
    ("body", "path"),
    [(b"{}", "$"), (b'[{"pipeline_execution_id": "a", "status": "b"}, 5]', "$[1]"), (b'"text"', "$"), (b"7", "$")],
)
@pytest.mark.parametrize("into", [None, Row])
async def test_paginate_refuses_what_is_no_list(
    fake: FakeHarness, client: HarnessClient, body: bytes, path: str, into: Any
) -> None:
    """A body that is no list of objects is a typed error that names the place."""
    fake.faults.add(Body(body))
    with pytest.raises(DecodeError) as caught:
        await client.paginate("/v1/things", into=into).collect()
    assert caught.value.path == path
    assert caught.value.body == body


# -- statistics --------------------------------------------------------------------------------------------------------


async def test_stats_count_exactly(fake: FakeHarness, connect: Connect) -> None:
    """Sends, retries, refusals, pages, rows and bytes are counted one by one."""
    pages: list[PageRead] = []
    client = connect(on_event=lambda event: pages.append(event) if isinstance(event, PageRead) else None)
    fake.faults.add(Status(503, body=b"abc"), times=1)
    fake.faults.add(TooManyRequests(html=False), times=1)
    fake.faults.add(ClipPages(2))
    rows = await client.executions.list("default", "payments").collect()
    stats = client.stats
    assert len(rows) == 3
    assert stats.requests == len(fake.requests) == 4
    assert stats.retries == 2
    assert stats.throttled == 1
    assert (stats.pages, stats.rows) == (2, 3)
    bodies = [(await client.request("GET", EXECUTIONS, params={"limit": 2, "page": page})).body for page in (1, 2)]
    refusal = TooManyRequests(html=False).build().body
    assert stats.bytes_received == sum(map(len, bodies)) + len(b"abc") + len(refusal)
    assert [(page.page, page.rows, page.total_items) for page in pages] == [(1, 2, 3), (2, 1, 3)]


async def test_stats_are_a_snapshot(client: HarnessClient) -> None:
    """Statistics once taken do not change, and none of their times is negative."""
    before = client.stats
    await client.executions.list("default", "payments").collect()
    after = client.stats
    assert (before.requests, after.requests) == (0, 1)
    times = (after.queued, after.paced, after.network, after.backoff, after.decoding)
    assert all(seconds >= 0 for seconds in times)
    assert after.network > 0


async def test_resends_of_aiohttp_are_counted(fake: FakeHarness, client: HarnessClient) -> None:
    """A request that aiohttp sends again by itself counts as two sends and one retry, and is among the attempts."""
    fake.faults.add(Reset(), times=1)
    response = await client.request("GET", "/v1/orgs")
    assert len(fake.requests) == client.stats.requests == 2
    assert client.stats.retries == 1
    assert [attempt.status for attempt in response.attempts] == [None, 200]
    assert "lost" in str(response.attempts[0].error)


# -- pacing ------------------------------------------------------------------------------------------------------------


class CountingPacer:
    """A pacer of a caller's own."""

    def __init__(self) -> None:
        self.acquired = 0
        self.pauses: list[float] = []

    async def acquire(self) -> None:
        """Count."""
        self.acquired += 1

    async def pause(self, seconds: float) -> None:
        """Count."""
        self.pauses.append(seconds)


async def test_pacer_of_ones_own(fake: FakeHarness, connect: Connect) -> None:
    """A caller's pacer is asked before every send, resends included."""
    pacer = CountingPacer()
    client = connect(pacer=pacer)
    fake.faults.add(Reset(), times=1)
    fake.faults.add(Status(503), times=1)
    await client.organizations.get("default")
    assert pacer.acquired == len(fake.requests) == 3
    assert pacer.pauses == []


async def test_pacer_of_ones_own_is_told_of_refusals(fake: FakeHarness, connect: Connect) -> None:
    """A caller's pacer is told to pause when the server refuses by rate."""
    pacer = CountingPacer()
    client = connect(pacer=pacer, retry=RetryPolicy(max_attempts=1))
    fake.faults.add(TooManyRequests(retry_after=30), times=1)
    with pytest.raises(APIStatusError):
        await client.organizations.get("default")
    await asyncio.sleep(0)
    assert len(pacer.pauses) == 1
    assert pacer.pauses[0] == pytest.approx(30, abs=1)


async def test_rate_limit_none_switches_pacing_off(fake: FakeHarness, connect: Connect) -> None:
    """Without a rate limit nothing is held back."""
    client = connect(pacer=None, rate_limit=None)
    await asyncio.gather(*(client.organizations.get("default") for _ in range(50)))
    assert len(fake.requests) == 50
    assert client._session.sender.pacer.limiter.limit is None


async def test_rate_limit_is_in_force(fake: FakeHarness, connect: Connect) -> None:
    """A limit that leaves no room before the deadline is obeyed: the second request is not sent."""
    client = connect(pacer=None, rate_limit=RateLimit(1, 3600.0), timeouts=Timeouts(deadline=60.0))
    await client.organizations.get("default")
    with pytest.raises(TimeoutError):
        await client.organizations.get("default")
    assert len(fake.requests) == 1


async def test_a_shared_pacer_is_one_budget(
    fake: FakeHarness, connect: Connect, make_pacer: Callable[[], RatePacer]
) -> None:
    """Clients that share a pacer share what it knows: a refusal of one closes the gate for the other."""
    pacer = make_pacer()
    first = connect(pacer=pacer, retry=RetryPolicy(max_attempts=1))
    second = connect(pacer=pacer, timeouts=Timeouts(deadline=20.0))
    fake.faults.add(TooManyRequests(retry_after=60), times=1)
    with pytest.raises(APIStatusError):
        await first.organizations.get("default")
    with pytest.raises(TimeoutError):
        await second.organizations.get("default")
    assert len(fake.requests) == 1


async def test_max_in_flight(fake: FakeHarness, connect: Connect) -> None:
    """No more requests are under way at once than allowed, and all get their turn."""
    client = connect(max_in_flight=3)
    free: list[int] = []
    fake.before_request = lambda _: free.append(free_places(client))
    await asyncio.gather(*(client.organizations.get("default") for _ in range(12)))
    assert len(fake.requests) == 12
    assert min(free) == 0
    assert free_places(client) == 3


async def test_conflict_is_typed(client: HarnessClient) -> None:
    """A write through `request` that the API refuses as a duplicate is a `ConflictError`."""
    with pytest.raises(ConflictError) as caught:
        await client.request("POST", "/v1/orgs", json={"org": {"identifier": "default", "name": "x"}})
    assert not caught.value.ambiguous
