"""The key is sent to the server and nowhere else: a canary is searched for wherever it could appear."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import attrs
import pytest

from harness_async import (
    ConfigurationError,
    Event,
    HarnessClient,
    HarnessError,
    RateLimit,
    RatePacer,
    Response,
    Timeouts,
)
from harness_async.config import resolve_settings
from harness_async.http.rate_limit import RateLimiter
from harness_async.testing import (
    Body,
    CompressedZeros,
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
from tests.support.http import Serve, quick, response

SECRET = "canary0secret"
KEY = f"pat.Ab1Cd2Ef3Gh4Ij5Kl6Mn7O.canary0token.{SECRET}"

LOGGERS = ("harness_async", "aiohttp", "aiohttp.client", "aiohttp.internal", "aiohttp.websocket", "asyncio")


def parts(value: object, seen: set[int], depth: int = 0) -> Iterator[object]:
    """Yield a value and everything reachable from it: causes, contexts, attributes, items."""
    if id(value) in seen or depth > 8 or isinstance(value, type | HarnessClient | FakeHarness):
        return
    seen.add(id(value))
    yield value
    if isinstance(value, str | bytes | int | float | None):
        return
    below: list[object] = []
    if isinstance(value, BaseException):
        below += [value.__cause__, value.__context__, value.args, getattr(value, "__notes__", ())]
    if isinstance(value, dict):
        below += [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        below += value
    elif isinstance(value, BaseException) or attrs.has(type(value)):
        below += [getattr(value, "__dict__", {})]
        below += [getattr(value, name, None) for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    for item in below:
        yield from parts(item, seen, depth + 1)


def texts(value: object) -> Iterator[bytes]:
    """Yield every text in which a part of a value can be shown or sent."""
    for part in parts(value, set()):
        yield part if isinstance(part, bytes) else repr(part).encode()
        if not isinstance(part, bytes):
            yield str(part).encode()
        if isinstance(part, BaseException):
            yield "".join(traceback.format_exception(part)).encode()
        if isinstance(part, HarnessError):
            yield pickle.dumps(part)


def leaks(value: object) -> list[bytes]:
    """Return the texts of a value that contain the key."""
    return [text for text in texts(value) if SECRET.encode() in text]


class Watch:
    """Provokes failures and keeps everything that a program can see of them."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog
        self.events: list[Event] = []
        self.errors: list[BaseException] = []
        self.others: list[object] = []

    def connect(self, url: str, **options: Any) -> HarnessClient:
        """Create a client whose key is the canary."""
        options = {
            "retry": quick(3),
            "timeouts": Timeouts(connect=5.0, read=0.1, deadline=5.0),
            "pacer": RatePacer(
                limiter=RateLimiter(RateLimit(100_000, 1.0), cooldowns=(0.001,), outage_pauses=(0.001,))
            ),
            "on_event": self.events.append,
            **options,
        }
        return HarnessClient(KEY, base_url=url, **options)

    async def fails(self, call: Awaitable[object]) -> None:
        """Await a call that must fail, and keep its error."""
        with pytest.raises(HarnessError) as caught:
            await call
        self.errors.append(caught.value)

    def check(self) -> None:
        """Assert that neither what was kept nor the log contains the key."""
        for thing in (*self.errors, *self.events, *self.others):
            assert not leaks(thing), type(thing).__name__
        for record in self.caplog.records:
            assert not leaks(record.getMessage()), record.name
            assert not leaks(record.exc_info[1] if record.exc_info else None), record.name
        assert not leaks(self.caplog.text)


@pytest.fixture
def watch(caplog: pytest.LogCaptureFixture) -> Watch:
    """Watch a test, including its log at DEBUG."""
    for name in LOGGERS:
        caplog.set_level(logging.DEBUG, logger=name)
    return Watch(caplog)


@pytest.fixture
async def server() -> AsyncIterator[FakeHarness]:
    """A server whose key is the canary."""
    fake = FakeHarness(api_key=KEY)
    fake.add_organization("default")
    fake.add_project("default", "payments")
    fake.add_executions("default", "payments", 3)
    async with fake:
        yield fake


def test_leaks_finds_the_key() -> None:
    """The search finds the key in texts, attributes, causes and responses."""
    error = HarnessError("harmless")
    assert not leaks(error)
    error.__cause__ = ValueError(f"key {KEY}")
    assert leaks(error)
    with_attribute = HarnessError("harmless")
    with_attribute.extra = {"headers": [KEY.encode()]}  # type: ignore[attr-defined]
    assert leaks(with_attribute)
    assert leaks(f"/x?key={KEY}")
    assert leaks(Response(status=200, headers=None, body=KEY.encode(), attempts=()))  # type: ignore[arg-type]


ENVELOPES: tuple[Any, ...] = ("goa", "v1", "legacy", "failure", "html", "text", "empty")
FINAL: list[Any] = [
    *(Status(status, envelope=envelope) for status in (400, 429, 503) for envelope in ENVELOPES),
    *(Status(status) for status in (401, 403, 404, 409, 412, 415, 422, 423, 500)),
    TooManyRequests(retry_after=999),
]
RETRIED: list[Any] = [
    TooManyRequests(retry_after=20),
    Status(503, headers={"Retry-After": "60"}),
    SignInPage(),
    *(Body(body) for body in (b"", b"null", b"{}", b"[", b"\xff", b"[null]")),
    *(Redirect(location) for location in ("http://elsewhere.example/", "/v1/orgs/default", "")),
    *(Reset(moment) for moment in ("before", "head", "after_head", "after_effect")),
    CutBody(),
    Delay(3600),
    SlowBody(chunk_size=1, pause=0.2),
]


@pytest.mark.parametrize(("faults", "attempts"), [(FINAL, 1), (RETRIED, 2)], ids=["final", "retried"])
async def test_failures(watch: Watch, server: FakeHarness, faults: list[Any], attempts: int) -> None:
    """No kind of failure shows the key in errors, their causes and pickles, events, statistics or logs."""
    policy = quick(attempts)
    for fault in faults:
        server.faults.clear()
        server.faults.add(fault)
        async with watch.connect(server.url, retry=policy) as client:
            await watch.fails(client.organizations.get("default"))
            watch.others += [client, client.stats, repr(client._session), repr(client._session.sender)]
    assert len(watch.errors) == len(faults)
    watch.check()


async def test_failures_without_a_response(watch: Watch, server: FakeHarness) -> None:
    """A refused connection, refused TLS and an oversized response do not show the key."""
    for url in ("http://127.0.0.1:9", server.url.replace("http:", "https:")):
        async with watch.connect(url) as client:
            await watch.fails(client.organizations.get("default"))
    server.faults.add(CompressedZeros(2_000_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness_async.http.transport.MAX_BODY", 1000)
        async with watch.connect(server.url) as client:
            await watch.fails(client.organizations.get("default"))
    watch.check()


async def test_bulk_runs(watch: Watch, server: FakeHarness) -> None:
    """The report, the outcomes and the progress of a bulk run do not show the key."""
    server.deny("default", "payments")
    async with watch.connect(server.url) as client, client.executions.bulk() as run:
        watch.others += [row async for row in run]
        watch.others += [run.report, str(run.report), dict(run.report.outcomes), run.progress, run]
        with pytest.raises(HarnessError) as failures:
            run.report.raise_for_failures()
    server.faults.add(Status(401))
    async with watch.connect(server.url) as client:
        with pytest.raises(HarnessError) as unauthorized:
            async with client.executions.bulk() as run:
                watch.others += [row async for row in run]
    watch.errors += [failures.value, unauthorized.value]
    watch.others.append(unauthorized.value.report)
    watch.check()


async def test_lists(watch: Watch, server: FakeHarness) -> None:
    """Pagers, pages, walks and their reports do not show the key."""
    async with watch.connect(server.url) as client:
        pager = client.executions.list("default", "payments", limit=2)
        async with pager.walk() as walk:
            watch.others += [pager, walk, await walk.read_page(), walk.report]
        watch.others += [client.paginate("/v1/orgs"), client.projects.list_all(), repr(client.with_options())]
        watch.others += [repr(await client.request("GET", "/v1/orgs")), client._session.sender.transport]
        watch.others += [repr(client), repr(client.executions), repr(client.executions.bulk(["default/payments"]))]
        watch.others += [repr(resolve_settings(KEY, None, None, {})), f"{client._session.sender.credentials}"]
    watch.check()


async def test_task_repr(watch: Watch, server: FakeHarness) -> None:
    """A task that waits for a response does not show the key in its `repr`."""
    server.faults.add(Delay(3600))
    async with watch.connect(server.url, timeouts=Timeouts(deadline=None, read=None)) as client:
        task = asyncio.create_task(client.organizations.get("default"))
        while not server.requests:
            await asyncio.sleep(0)
        watch.others += [repr(task), repr(task.get_coro())]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    watch.check()


async def test_observer_that_raises(watch: Watch, server: FakeHarness) -> None:
    """The log of an exception in `on_event` does not show the key."""

    def observe(event: Event) -> None:
        raise ValueError(repr(event))

    async with watch.connect(server.url, on_event=observe) as client:
        await client.organizations.get("default")
    watch.check()


def head(request: bytes) -> str:
    """Return the head of a request, which a server may echo."""
    return request.partition(b"\r\n\r\n")[0].decode()


ECHOES: dict[str, Callable[[bytes], bytes]] = {
    "text-body": lambda request: response(head(request), status="400 Bad"),
    "html-body": lambda request: response(f"<html>{head(request)}</html>", status="403 No", kind="text/html"),
    "html-success": lambda request: response(f"<html>{head(request)}</html>", kind="text/html"),
    "goa-message": lambda request: response(
        f'{{"name":"bad","id":"i","message":{json.dumps(head(request))}}}', status="400 Bad"
    ),
    "goa-id": lambda _: response(f'{{"name":"bad","id":"{KEY}","message":"m"}}', status="400 Bad"),
    "code": lambda _: response(f'{{"code":"{KEY}","message":"m"}}', status="400 Bad"),
    "field-errors": lambda _: response(
        f'{{"message":"m","code":"c","errors":[{{"field_name":"{KEY}","message":"{KEY}"}}]}}', status="400 Bad"
    ),
    "correlation-id": lambda _: response(
        f'{{"status":"ERROR","code":"c","message":"m","correlationId":"{KEY}"}}', status="500 Bad"
    ),
    "header": lambda _: response("no", f"X-Echo: {KEY}", status="400 Bad"),
    "header-name": lambda _: response("no", f"{KEY}: x", status="400 Bad"),
    "request-id-header": lambda _: response("no", f"X-Request-Id: {KEY}", status="400 Bad"),
    "correlation-header": lambda _: response("no", f"x-harness-correlation-id: {KEY}", status="503 Bad"),
    "request-id-of-a-success": lambda _: response("{}", f"X-Request-Id: {KEY}"),
    "reason": lambda _: response("no", status=f"400 {KEY}"),
    "garbled-success": lambda request: response(f"oops {head(request)}"),
    "half-json": lambda request: response(f'{{"org": {json.dumps(head(request))}'),
    "not-utf-8": lambda _: response("").replace(b": 0", b": %d" % (len(KEY) + 1)) + KEY.encode() + b"\xff",
    "list-for-an-object": lambda _: response(f'["{KEY}"]'),
    "unknown-member": lambda _: response(f'{{"{KEY}": "{KEY}"}}'),
    "member-of-the-wrong-type": lambda _: response(f'{{"org": {{"identifier": ["{KEY}"]}}}}'),
    "redirect-elsewhere": lambda _: response(KEY, f"Location: http://elsewhere.example/?{KEY}", status="302 Found"),
    "redirect-here": lambda _: response(KEY, f"Location: /v1/orgs/x?key={KEY}", status="302 Found"),
    "retry-after": lambda _: response("no", f"Retry-After: {KEY}", status="503 Bad"),
    "bad-header-line": lambda _: f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n".encode(),
    "bad-header-value": lambda _: f"HTTP/1.1 200 OK\r\nX-Echo: {KEY}\x00\r\n\r\n".encode(),
    "bad-content-length": lambda _: f"HTTP/1.1 200 OK\r\nContent-Length: {KEY}\r\n\r\n".encode(),
    "bad-content-encoding": lambda _: response("zz", "Content-Encoding: gzip", f"X-Echo: {KEY}"),
    "cut": lambda request: response(head(request), "Connection: close", length=10_000),
    "bad-chunk": lambda _: f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n".encode(),
    "not-http": lambda _: f"{KEY}\r\n\r\n".encode(),
}


@pytest.mark.parametrize("name", ECHOES)
async def test_echoes(watch: Watch, serve: Serve, name: str) -> None:
    """Whatever a server echoes of the key and the headers, the resulting error does not show the key."""
    async with watch.connect(await serve(ECHOES[name])) as client:
        await watch.fails(client.organizations.get("default"))
        await watch.fails(client.organizations.create("fresh", "Fresh"))
        watch.others += [client, client.stats]
    watch.check()


@pytest.mark.parametrize(
    "name", ["garbled-success", "half-json", "not-utf-8", "list-for-an-object", "text-body", "bad-header-line"]
)
async def test_echoes_in_lists(watch: Watch, serve: Serve, name: str) -> None:
    """An echo in a page of a list shows neither in its error nor in the report of a bulk run."""
    async with watch.connect(await serve(ECHOES[name])) as client:
        await watch.fails(client.executions.list("default", "payments").collect())
        async with client.executions.bulk(["default/payments"]) as run:
            assert [row async for row in run] == []
        watch.others += [run.report, [outcome.error for outcome in run.report.outcomes.values()]]
    watch.check()


async def test_echo_in_a_member_of_the_wrong_type(watch: Watch, serve: Serve) -> None:
    """The warning about a member that counts as missing does not show the key that it contains."""
    body = response(f'{{"org": {{"identifier": "a", "description": ["{KEY}"], "tags": {{"{KEY}": 1}}}}}}')
    async with watch.connect(await serve(lambda _: body)) as client:
        assert (await client.organizations.get("a")).tags == {}
    watch.check()


async def test_echo_that_is_not_json(watch: Watch, serve: Serve) -> None:
    """The error of `Response.json` does not show the key, although the body contains it."""
    async with watch.connect(await serve(ECHOES["garbled-success"])) as client:
        echo = await client.request("GET", "/v1/blob")
        with pytest.raises(HarnessError) as caught:
            echo.json()
        watch.errors.append(caught.value)
    watch.check()


async def test_echo_before_the_deadline(watch: Watch, serve: Serve) -> None:
    """The error of the deadline, which quotes the last attempt, does not show the key."""
    async with watch.connect(
        await serve(ECHOES["bad-header-line"]), retry=quick(), timeouts=Timeouts(deadline=0.05)
    ) as client:
        await watch.fails(client.organizations.get("default"))
    watch.check()


@pytest.mark.parametrize(
    "arguments",
    [
        {"api_key": KEY + "\n"},
        {"api_key": " " + KEY},
        {"api_key": KEY + "é"},
        {"api_key": KEY + "\x00"},
        {"api_key": KEY.encode()},
        {"api_key": SECRET},
        {"api_key": KEY, "account_id": ""},
        {"api_key": KEY, "base_url": f"https://user:{SECRET}@h.example?x=1"},
        {"api_key": KEY, "base_url": "ftp://h.example"},
        {"api_key": KEY, "max_in_flight": 0},
        {},
    ],
    ids=["line-break", "space", "letter", "null", "bytes", "no-account", "empty-account", "in-the-url", "scheme",
         "max-in-flight", "environment"],
)  # fmt: skip
def test_refused_settings(watch: Watch, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]) -> None:
    """The refusal of an argument or a variable at construction does not repeat the key."""
    for name in ("HARNESS_PLATFORM_API_KEY", "HARNESS_ACCOUNT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HARNESS_API_KEY", f"{KEY}\r\n")
    with pytest.raises((ConfigurationError, TypeError)) as caught:
        HarnessClient(**arguments)
    watch.errors.append(caught.value)
    watch.check()
