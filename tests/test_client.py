"""`HarnessClient`: what is sent, who owns which connection, any other endpoint and list, statistics and pacing."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pickle
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import pytest
from attrs import frozen
from yarl import URL

from harness_async import (
    APIStatusError,
    ConfigurationError,
    Event,
    HarnessClient,
    NotFoundError,
    PageRead,
    RateLimit,
    RatePacer,
    RetryPolicy,
    Timeouts,
    TransportError,
    UnexpectedResponseError,
)
from harness_async.pagination.dialects import Dialect
from harness_async.testing import Body, ClipPages, FakeHarness, Reset, Status, TooManyRequests
from tests.support.connections import connector_of, http_session
from tests.support.http import Connect

EXECUTIONS = "/iacm/api/orgs/default/projects/payments/executions"


@frozen
class Row:
    """A row of `paginate` with two of the members of an execution."""

    pipeline_execution_id: str
    status: str


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HARNESS_")]:
        monkeypatch.delenv(name)


def ids(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the identifiers of plain rows of executions."""
    return [row["pipeline_execution_id"] for row in rows]


async def test_headers_of_every_request(fake: FakeHarness, client: HarnessClient) -> None:
    """Every request has the key, the account, the accepted type and the name of the library."""
    await client.organizations.get("default")
    headers = fake.requests[0].headers
    assert headers["x-api-key"] == fake.api_key
    assert headers["Harness-Account"] == fake.account_id
    assert headers["Accept"] == "application/json"
    assert headers["User-Agent"].startswith("harness_async/")
    assert "Cookie" not in headers
    assert "Authorization" not in headers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_content_type(fake: FakeHarness, client: HarnessClient, method: str) -> None:
    """A request has a content type only if it has a body."""
    fake.faults.add(Body(b"{}"))
    await client.request(method, "/v1/orgs/x")
    await client.request(method, "/v1/orgs/x", json={})
    bare, full = fake.requests
    assert "Content-Type" not in bare.headers
    assert bare.body == b""
    assert full.headers["Content-Type"] == "application/json"
    assert full.body == b"{}"


@pytest.mark.parametrize(
    ("key", "host"), [("HARNESS_PLATFORM_API_KEY", "HARNESS_BASE_URL"), ("HARNESS_API_KEY", "HARNESS_ENDPOINT")]
)
async def test_environment(fake: FakeHarness, monkeypatch: pytest.MonkeyPatch, key: str, host: str) -> None:
    """A client without arguments uses key, account and host of the environment at its construction."""
    with pytest.raises(ConfigurationError, match="No API key"):
        HarnessClient()
    monkeypatch.setenv(key, fake.api_key)
    monkeypatch.setenv(host, fake.url)
    monkeypatch.setenv("HARNESS_ACCOUNT_ID", "cc")
    fake.account_id = "cc"
    async with HarnessClient() as client:
        await client.organizations.get("default")
    headers = fake.requests[0].headers
    assert (headers["x-api-key"], headers["Harness-Account"]) == (fake.api_key, "cc")


@pytest.mark.parametrize("form", [str, URL, lambda url: f"{url}/"], ids=["text", "URL", "slash"])
async def test_path_prefix(connect: Connect, form: Callable[[str], Any]) -> None:
    """Paths are joined behind the path prefix of the base URL, which is text or a `yarl.URL`."""
    async with FakeHarness(prefix="/gateway") as gateway:
        gateway.add_execution("default", "payments")
        client = connect(form(gateway.url), api_key=gateway.api_key)
        assert await client.executions.list("default", "payments").count() == 1
        assert gateway.requests[0].path == f"/gateway{EXECUTIONS}"


def test_construction_without_a_loop() -> None:
    """A client can be created where no loop runs, and its `repr` shows host and account but not the key."""
    client = HarnessClient("pat.aa.token.s3cr3t", "Acc", base_url="https://mine.example/gateway")
    assert http_session(client) is None
    assert "https://mine.example/gateway" in repr(client)
    assert "Acc" in repr(client)
    assert "s3cr3t" not in repr(client)


async def test_close(client: HarnessClient) -> None:
    """A client opens its connections with the first request, and `close`, which may be called twice, closes them."""
    client.executions.list("default", "payments")
    client.projects.list_all()
    client.paginate("/v1/orgs")
    assert http_session(client) is None
    await client.organizations.get("default")
    connector = connector_of(client)
    assert not connector.closed
    await client.close()
    assert connector.closed
    await client.close()


@pytest.mark.parametrize("used", [False, True])
async def test_use_after_close(fake: FakeHarness, client: HarnessClient, used: bool) -> None:
    """A closed client refuses every call and sends nothing."""
    async with client as entered:
        assert entered is client
        if used:
            await client.organizations.get("default")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.organizations.get("default"),
        lambda: client.request("GET", "/v1/orgs"),
        lambda: client.executions.list("default", "payments").collect(),
        lambda: client.with_options().projects.get("default", "payments"),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="closed"):
            await call()
    assert len(fake.requests) == used


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *[(name, [5, b"x"]) for name in ("api_key", "account_id", "base_url", "proxy")],
        *[(name, [3, "x", None]) for name in ("timeouts", "retry", "trust_env", "allow_http")],
        *[(name, [3, "x"]) for name in ("rate_limit", "pacer", "ssl_context", "on_event")],
        ("http_session", [1]),
        ("pacer", [RatePacer]),
    ],
)
def test_arguments_of_a_wrong_type(name: str, values: list[Any]) -> None:
    """An argument of a wrong type is refused at construction, by its name."""
    for value in values:
        with pytest.raises(TypeError, match=f"^{name} must be an? "):
            HarnessClient(**{"api_key": "pat.aa.t.s", name: value})


@pytest.mark.parametrize("copier", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_no_pickling(copier: Callable[[HarnessClient], object]) -> None:
    """A client can be neither pickled nor copied, because it holds connections and a key."""
    with pytest.raises(TypeError, match="cannot be pickled"):
        copier(HarnessClient("pat.aa.t.s"))


async def test_borrowed_session_is_unchanged(fake: FakeHarness, connect: Connect) -> None:
    """A borrowed session is neither closed nor changed; its headers are sent where the client has none of its own."""
    async with aiohttp.ClientSession(headers={"X-Team": "blue", "X-API-Key": "a.b", "accept": "text/html"}) as http:
        before = dict(http.headers), http.timeout, len(http.cookie_jar)
        client = connect(http_session=http)
        await client.organizations.get("default")
        await client.close()
        assert not http.closed
        assert (dict(http.headers), http.timeout, len(http.cookie_jar)) == before
        assert fake.requests[0].headers["X-Team"] == "blue"
        assert fake.requests[0].headers.getall("x-api-key") == [fake.api_key]  # type: ignore[attr-defined]
        assert fake.requests[0].headers["Accept"] == "application/json"
        with pytest.raises(RuntimeError, match="closed"):
            await client.organizations.get("default")
        async with http.get(f"{fake.url}/v1/orgs") as response:
            assert response.status == 401  # the session has none of the client's headers


async def test_middlewares_of_a_borrowed_session(fake: FakeHarness, connect: Connect) -> None:
    """The middlewares of the session see each request, and the client counts one request."""

    async def sign(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        request.headers["X-Signed"] = "yes"
        return await handler(request)

    async with aiohttp.ClientSession(middlewares=(sign,)) as http:
        client = connect(http_session=http)
        await client.organizations.get("default")
    assert [request.headers["X-Signed"] for request in fake.requests] == ["yes"]
    assert client.stats.requests == 1


async def test_two_clients_of_one_session(fake: FakeHarness, connect: Connect) -> None:
    """Clients of one session send their own keys, closing one leaves the other open, and errors stay typed."""
    async with aiohttp.ClientSession(raise_for_status=True) as http:
        first, second = connect(http_session=http), connect(http_session=http, account_id="somebody")
        await first.organizations.get("default")
        await first.close()
        with pytest.raises(NotFoundError):
            await second.organizations.get("default")
    assert [request.headers["Harness-Account"] for request in fake.requests] == [fake.account_id, "somebody"]


async def test_with_options(fake: FakeHarness, client: HarnessClient) -> None:
    """A client with other options shares connections, pacer and statistics, and leaves the first one unchanged."""
    events: list[Event] = []
    options: dict[str, Any] = {"timeouts": Timeouts(deadline=7.0), "retry": RetryPolicy(max_attempts=1)}
    other = client.with_options(**options, on_event=events.append)
    fake.faults.add(Status(503), times=1)
    with pytest.raises(APIStatusError):
        await other.with_options().organizations.get("default")
    fake.faults.add(Status(503), times=1)
    await client.organizations.get("default")
    first, second = client._session.sender, other._session.sender
    assert second.transport is first.transport
    assert second.pacer is first.pacer
    assert client.stats == other.stats
    assert client.stats.requests == 3
    assert len(events) == 2  # sent and received, of its own call
    assert (first.timeouts, second.timeouts) == (Timeouts(), options["timeouts"])


async def test_close_with_options(client: HarnessClient) -> None:
    """A client with other options lives until the first client is closed; closing it closes nothing."""
    async with client.with_options() as other:
        await other.organizations.get("default")
    await client.organizations.get("default")
    await other.organizations.get("default")
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await other.organizations.get("default")


async def test_response(fake: FakeHarness, client: HarnessClient) -> None:
    """A response has status, headers in any case, body, parsed body and attempts."""
    fake.faults.add(Status(503), times=1)
    response = await client.request("get", EXECUTIONS, params={"page": 1, "limit": 2, "status": None})
    assert response.status == 200
    assert response.headers["X-TOTAL-ITEMS"] == response.headers["x-total-items"] == "3"
    assert response.body.startswith(b"[{")
    assert ids(response.json()) == ["run2", "run1"]
    assert [attempt.status for attempt in response.attempts] == [503, 200]
    assert "run2" not in repr(response)
    assert fake.requests[0].query_string == "page=1&limit=2"


async def test_paths(fake: FakeHarness, client: HarnessClient) -> None:
    """A path is encoded where necessary, and its encoded parts are unchanged; the query is encoded whole."""
    fake.faults.add(Body(b"{}"))
    await client.request("GET", "/v1/orgs/a b%2Fc", params={"q": ["a%20", "é&"], "on": True})
    assert (fake.requests[0].path, fake.requests[0].query_string) == (
        "/v1/orgs/a%20b%2Fc", "q=a%2520&q=%C3%A9%26&on=true",
    )  # fmt: skip


@pytest.mark.parametrize(("accept", "content_type"), [("Accept", "Content-Type"), ("accept", "content-type")])
async def test_request_headers(fake: FakeHarness, client: HarnessClient, accept: str, content_type: str) -> None:
    """Headers of a request replace the defaults, in any case, for this request only."""
    fake.faults.add(Body(b"{}"))
    own = {"X-Note": "hello", accept: "application/problem+json", content_type: "application/json"}
    await client.request("POST", "/v1/orgs", headers=own, json={})
    await client.request("GET", "/v1/orgs")
    first: Any = fake.requests[0].headers
    assert first["X-Note"] == "hello"
    assert first.getall("Accept") == ["application/problem+json"]
    assert first.getall("Content-Type") == ["application/json"]
    assert fake.requests[1].headers["Accept"] == "application/json"


@pytest.mark.parametrize(
    "json", [{"name": "é"}, [1, 2], 0, False, "", "x" * (1024 * 1024 + 1)], ids=lambda json: repr(json)[:20]
)
async def test_json_bodies(fake: FakeHarness, client: HarnessClient, json: Any) -> None:
    """Any JSON value is sent as the body: empty, false, or larger than a mebibyte."""
    fake.faults.add(Body(b"{}"))
    await client.request("POST", "/v1/anything", json=json)
    assert fake.requests[0].json == json


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b""), (201, b""), (204, b""), (200, b"{"), (200, b"\xff\xfe"), (200, b"NaN"), (200, b"[" * 100_000)],
    ids=["200", "201", "204", "cut", "bytes", "nan", "deep"],
)  # fmt: skip
async def test_responses_that_are_not_json(fake: FakeHarness, client: HarnessClient, status: int, body: bytes) -> None:
    """A response need not be JSON; `json()` is a typed error then."""
    fake.faults.add(Body(body, "application/octet-stream", status=status))
    response = await client.request("POST", f"{EXECUTIONS}/run/stage/audit-event", json={"audit": {"hash": "h"}})
    assert (response.status, response.body) == (status, body)
    with pytest.raises(UnexpectedResponseError) as caught:
        response.json()
    assert (caught.value.status, len(caught.value.attempts)) == (status, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.organizations.get("default"),
        lambda client: client.organizations.create("fresh", "Fresh"),
        lambda client: client.organizations.delete("default"),
        lambda client: client.request("GET", "/ng/api/projects"),
        lambda client: client.paginate("/ng/api/projects").collect(),
        lambda client: client.executions.list("default", "payments").collect(),
    ],
    ids=["get", "create", "delete", "request", "paginate", "list"],
)
async def test_errors_with_status_200(
    fake: FakeHarness, client: HarnessClient, call: Callable[[HarnessClient], Awaitable[object]]
) -> None:
    """A body that reports an error is an error of the API in spite of its status 200, and is not retried."""
    fake.faults.add(Status(200, envelope="legacy", code="INVALID_REQUEST", message="page is too large"))
    with pytest.raises(APIStatusError, match="200 INVALID_REQUEST: page is too large") as caught:
        await call(client)
    assert (caught.value.status, caught.value.ambiguous, len(fake.requests)) == (200, False, 1)


@pytest.mark.parametrize(
    ("method", "repeatable", "requests"),
    [
        *[(method, None, 2) for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS")],
        *[(method, None, 1) for method in ("POST", "PATCH")],
        *[(method, True, 2) for method in ("POST", "PATCH")],
        *[(method, False, 1) for method in ("GET", "PUT")],
    ],
)
@pytest.mark.parametrize("fault", [Status(503), Reset()], ids=["503", "reset"])
async def test_repeatable(
    fake: FakeHarness, client: HarnessClient, fault: Any, method: str, repeatable: bool | None, requests: int
) -> None:
    """The method decides whether a request is repeated, unless `repeatable` does; otherwise its error is ambiguous."""
    fake.faults.add(fault, times=1)
    fake.faults.add(Body(b"{}"))
    try:
        await client.request(method, "/v1/anything", repeatable=repeatable)
        ambiguous = False
    except (APIStatusError, TransportError) as error:
        ambiguous = error.ambiguous
    assert len(fake.requests) == requests
    assert ambiguous == (requests == 1)


async def test_plain_rows(fake: FakeHarness, client: HarnessClient) -> None:
    """Without a class, rows are the received dicts of all pages; the pager sets `page` and `limit`."""
    rows = await client.paginate(EXECUTIONS, params={"status": "success,none"}, limit=1).collect()
    assert ids(rows) == ["run2", "run0"]
    assert rows[0] == fake.executions("default", "payments")[0]
    # No total ends a list at a full page.
    expected = [f"limit=1&page={page}&status=success%2Cnone" for page in (1, 2, 3)]
    assert [request.query_string for request in fake.requests] == expected


async def test_rows_of_a_class(client: HarnessClient) -> None:
    """With `into`, rows are objects of an attrs class, which may omit members."""
    rows = await client.paginate(EXECUTIONS, into=Row).collect()
    assert rows == [Row("run2", "none"), Row("run1", "failure"), Row("run0", "success")]


SCOPED = "accountIdentifier={account}&orgIdentifier=default&projectIdentifier=payments"
PROJECT = {"org": "default", "project": "payments"}
SUMMARY = "/pipeline/api/pipelines/execution/summary"


@pytest.mark.parametrize(
    ("path", "options", "query"),
    [
        ("/v1/orgs/default/projects", {}, "limit=2&page={page}"),
        ("/v1/orgs/default/projects", {"dialect": "v1_large"}, "limit=2&page={page}"),
        ("/ng/api/projects", {"org": "default"}, f"pageSize=2&pageIndex={{page}}&{SCOPED.rpartition('&')[0]}"),
        ("/ng/api/servicesV2", {"dialect": "ng_page", **PROJECT}, f"size=2&page={{page}}&{SCOPED}"),
        (SUMMARY, {"method": "post", **PROJECT}, f"size=2&page={{page}}&{SCOPED}"),
        (SUMMARY, {"method": "POST", "json": {"filterType": "PipelineExecution", "status": ["Success"]}, **PROJECT},
         f"size=2&page={{page}}&{SCOPED}"),
    ],
    ids=["v1", "v1-large", "ng", "ng-page", "pipeline", "pipeline-body"],
)  # fmt: skip
async def test_dialects(
    fake: FakeHarness, client: HarnessClient, path: str, options: dict[str, Any], query: str
) -> None:
    """A list of any dialect is read completely and once, by its own parameters, scope and body."""
    for number in range(3):
        fake.add_project("default", f"p{number}")
        fake.add_service("default", "payments", identifier=f"s{number}")
    fake.add_pipeline_executions("default", "payments", 5, status="Success")
    pager = client.paginate(path, limit=2, **options)
    rows = await pager.collect()
    assert len({repr(row) for row in rows}) == len(rows) == await pager.count() == (3 if "services" in path else 5)
    pages = [*range(-(-len(rows) // 2)), 0]
    sent = [request.query_string for request in fake.requests]
    assert sent[:-1] == [query.format(page=page, account=fake.account_id) for page in pages[:-1]]
    assert [request.json if request.body else None for request in fake.requests] == [options.get("json")] * len(pages)


async def test_own_dialect(fake: FakeHarness, client: HarnessClient) -> None:
    """A dialect of the caller says where page, size, rows and totals are."""
    pages = [{"n": 3, "things": [{"id": 1}, {"id": 2}]}, {"n": 3, "things": [{"id": 3}]}]
    for number, page in enumerate(pages):
        body = Body(json.dumps(page).encode())
        fake.faults.add(body, when=lambda request, wanted=number + 5: request.query["at"] == [str(wanted)])  # type: ignore[misc]
    dialect = Dialect(page="at", size="per", rows="things", total_items="n", max_limit=2, default_limit=2)
    pager = client.paginate("/pm/api/v1/things", dialect=dialect, first_page=5, params={"q": "x"})
    assert [row["id"] for row in await pager.collect()] == [1, 2, 3]
    assert await pager.count() == 3
    assert [request.query_string for request in fake.requests] == ["per=2&at=5&q=x", "per=2&at=6&q=x", "per=1&at=5&q=x"]


@pytest.mark.parametrize(("dialect", "name"), [("v1", "page"), ("v1", "limit"), ("pipeline", "size")])
def test_parameters_of_the_pager(client: HarnessClient, dialect: Any, name: str) -> None:
    """The parameters that the pager sets are refused by their name."""
    with pytest.raises(ValueError, match=name):
        client.paginate("/v1/orgs", params={name: 7}, dialect=dialect)


async def test_key(fake: FakeHarness, client: HarnessClient) -> None:
    """With `key`, a row that is received twice is yielded once; without it every row is yielded."""

    def arrive(_: object) -> None:  # a new row moves the last row of a page to the next page
        fake.add_execution("default", "payments", created=1_800_000_000_000 + len(fake.requests))

    fake.before_request = arrive
    plain = ids(await client.paginate(EXECUTIONS, limit=2).collect())
    keyed = ids(await client.paginate(EXECUTIONS, limit=2, key=lambda row: row["pipeline_execution_id"]).collect())
    assert len(plain) > len(set(plain))
    assert len(keyed) == len(set(keyed))


async def test_stats(fake: FakeHarness, connect: Connect) -> None:
    """Requests, retries, 429s, pages, rows and bytes are counted exactly, in snapshots that do not change."""
    pages: list[PageRead] = []
    client = connect(on_event=lambda event: pages.append(event) if isinstance(event, PageRead) else None)
    before = client.stats
    fake.faults.add(Status(503, body=b"abc"), times=1)
    fake.faults.add(TooManyRequests(html=False), times=1)
    fake.faults.add(ClipPages(2))
    rows = await client.executions.list("default", "payments").collect()
    stats = client.stats
    assert len(rows) == 3
    assert before.requests == 0
    assert stats.requests == len(fake.requests) == 4
    assert (stats.retries, stats.throttled, stats.pages, stats.rows) == (2, 1, 2, 3)
    bodies = [(await client.request("GET", EXECUTIONS, params={"limit": 2, "page": page})).body for page in (1, 2)]
    refusal = TooManyRequests(html=False).build().body
    assert stats.bytes_received == sum(map(len, bodies)) + len(b"abc") + len(refusal)
    assert [(page.page, page.rows, page.total_items) for page in pages] == [(1, 2, 3), (2, 1, 3)]
    assert min(stats.queued, stats.paced, stats.backoff, stats.decoding) >= 0
    assert stats.network > 0


class CountingPacer:
    """A pacer of the caller."""

    def __init__(self) -> None:
        self.acquired = 0
        self.pauses: list[float] = []

    async def acquire(self) -> None:
        self.acquired += 1

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


async def test_pacer(fake: FakeHarness, connect: Connect) -> None:
    """The caller's pacer is acquired before every request, retries included, and paused after a 429."""
    pacer = CountingPacer()
    client = connect(pacer=pacer)
    fake.faults.add(Reset(), times=1)
    fake.faults.add(Status(503), times=1)
    await client.organizations.get("default")
    assert (pacer.acquired, pacer.pauses) == (len(fake.requests), []) == (3, [])
    fake.faults.add(TooManyRequests(retry_after=30), times=1)
    with pytest.raises(APIStatusError):
        await client.with_options(retry=RetryPolicy(max_attempts=1)).organizations.get("default")
    await asyncio.sleep(0)
    assert pacer.pauses == [pytest.approx(30, abs=1)]


async def test_no_rate_limit(fake: FakeHarness, connect: Connect) -> None:
    """With `rate_limit=None` requests are not paced."""
    client = connect(pacer=None, rate_limit=None)
    await asyncio.gather(*(client.organizations.get("default") for _ in range(50)))
    assert len(fake.requests) == 50
    assert client._session.sender.pacer.limiter.limit is None


async def test_rate_limit(fake: FakeHarness, connect: Connect) -> None:
    """A request that the rate limit does not allow before the deadline is not sent."""
    client = connect(pacer=None, rate_limit=RateLimit(1, 3600.0), timeouts=Timeouts(deadline=60.0))
    await client.organizations.get("default")
    with pytest.raises(TimeoutError):
        await client.organizations.get("default")
    assert len(fake.requests) == 1
