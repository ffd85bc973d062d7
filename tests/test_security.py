"""The key goes to the server and nowhere else: a canary that is looked for wherever it could turn up."""

from __future__ import annotations

import asyncio
import logging
import pickle
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import aiohttp
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
    RetryPolicy,
    Timeouts,
)
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

Serve: TypeAlias = Callable[..., Awaitable[str]]

SECRET = "canary0secret"
KEY = f"pat.Ab1Cd2Ef3Gh4Ij5Kl6Mn7O.canary0token.{SECRET}"

LOGGERS = ("harness_async", "aiohttp", "aiohttp.client", "aiohttp.internal", "aiohttp.websocket", "asyncio")


def parts(value: object, seen: set[int], depth: int = 0) -> Iterator[object]:
    """Give a value and all that hangs on it: causes, contexts, attributes, items."""
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


def server_clips(value: object) -> Iterator[bytes]:
    """Give every text in which something of a value could be shown or sent away."""
    for part in parts(value, set()):
        yield part if isinstance(part, bytes) else repr(part).encode()
        if not isinstance(part, bytes):
            yield str(part).encode()
        if isinstance(part, BaseException):
            yield "".join(traceback.format_exception(part)).encode()
        if isinstance(part, HarnessError):
            yield pickle.dumps(part)


def leaks(value: object) -> list[bytes]:
    """Give the surroundings of each place where the key shows."""
    found: list[bytes] = []
    for text in server_clips(value):
        position = text.find(SECRET.encode())
        if position >= 0:
            found.append(text[max(0, position - 80) : position + len(SECRET) + 20])
    return found


class Watch:
    """Provokes failures and keeps all that a program could see of them."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog
        self.events: list[Event] = []
        self.errors: list[BaseException] = []
        self.others: list[object] = []

    def connect(self, url: str, **options: Any) -> HarnessClient:
        """Make a client with the canary for a key."""
        options = {
            "retry": RetryPolicy(initial_backoff=0.001, max_backoff=0.002, max_attempts=3),
            "timeouts": Timeouts(connect=5.0, read=0.1, deadline=5.0),
            "pacer": RatePacer(
                limiter=RateLimiter(RateLimit(100_000, 1.0), cooldowns=(0.001,), outage_pauses=(0.001,))
            ),
            "on_event": self.events.append,
            **options,
        }
        return HarnessClient(KEY, base_url=url, **options)

    async def fails(self, call: Awaitable[object]) -> None:
        """Await what must fail, and keep the error."""
        with pytest.raises(HarnessError) as caught:
            await call
        self.errors.append(caught.value)

    def check(self) -> None:
        """Assert that the key shows nowhere, nor in the log."""
        for thing in (*self.errors, *self.events, *self.others):
            assert not leaks(thing), type(thing).__name__
        for record in self.caplog.records:
            assert not leaks(record.getMessage()), record.name
            assert not leaks(record.exc_info[1] if record.exc_info else None), record.name
        assert not leaks(self.caplog.text)


@pytest.fixture
def watch(caplog: pytest.LogCaptureFixture) -> Watch:
    """Watch a test, its log at DEBUG included."""
    for name in LOGGERS:
        caplog.set_level(logging.DEBUG, logger=name)
    return Watch(caplog)


@pytest.fixture
async def server() -> AsyncIterator[FakeHarness]:
    """A server that takes the canary for its key."""
    fake = FakeHarness(api_key=KEY)
    fake.add_organization("default")
    fake.add_project("default", "payments")
    fake.add_executions("default", "payments", 3)
    async with fake:
        yield fake


def test_the_canary_would_be_found() -> None:
    """The search sees the key wherever it hides: in texts, attributes, causes and pickles."""
    error = HarnessError("harmless")
    assert not leaks(error)
    error.__cause__ = ValueError(f"key {KEY}")
    assert leaks(error)
    noted = HarnessError("harmless")
    noted.extra = {"headers": [KEY.encode()]}  # type: ignore[attr-defined]
    assert leaks(noted)
    assert leaks(f"/x?key={KEY}")
    assert leaks(Response(status=200, headers=None, body=KEY.encode(), attempts=()))  # type: ignore[arg-type]


async def test_every_kind_of_failure(watch: Watch, server: FakeHarness) -> None:
    """No failure of any kind shows the key: not in errors, their causes and pickles, events, statistics or logs."""
    faults: list[Any] = [
        *(Status(status, envelope=envelope) for status in (400, 401, 403, 404, 409, 412, 415, 422, 423, 429, 500, 503)
          for envelope in ("goa", "v1", "legacy", "html", "text", "empty")),
        TooManyRequests(retry_after=999),
        TooManyRequests(retry_after=20),
        Status(503, headers={"Retry-After": "60"}),
        SignInPage(),
        Body(b""),
        Body(b"null"),
        Body(b"{}"),
        Body(b"["),
        Body(b"\xff"),
        Body(b"[null]"),
        Redirect("http://elsewhere.example/"),
        Redirect("/v1/orgs/default"),
        Redirect(""),
        Reset("before"),
        Reset("head"),
        Reset("after_head"),
        Reset("after_effect"),
        CutBody(),
        Delay(3600),
        SlowBody(chunk_size=1, pause=0.2),
    ]  # fmt: skip
    for fault in faults:
        once = isinstance(fault, Status | TooManyRequests) and fault not in faults[-22:]
        policy = RetryPolicy(initial_backoff=0.001, max_backoff=0.002, max_attempts=1 if once else 2)
        server.faults.clear()
        server.faults.add(fault)
        client = watch.connect(server.url, retry=policy)
        async with client:
            await watch.fails(client.organizations.get("default"))
            watch.others += [client, client.stats, repr(client._session), repr(client._session.sender)]
    assert len(watch.errors) == len(faults)
    watch.check()


async def test_bulk_runs(watch: Watch, server: FakeHarness) -> None:
    """Neither report, outcomes nor progress of a bulk run show the key."""
    server.deny("default", "payments")
    async with watch.connect(server.url) as client, client.executions.bulk() as run:
        async for row in run:
            watch.others.append(row)
        watch.others += [run.report, str(run.report), dict(run.report.outcomes), run.progress, run]
        with pytest.raises(HarnessError) as caught:
            run.report.raise_for_failures()
        watch.errors.append(caught.value)
    server.faults.add(Status(401))
    async with watch.connect(server.url) as client:
        with pytest.raises(HarnessError) as record_throttled:
            async with client.executions.bulk() as run:
                async for _ in run:
                    pass
        watch.errors.append(record_throttled.value)
        watch.others.append(record_throttled.value.report)
    watch.check()


async def test_lists(watch: Watch, server: FakeHarness) -> None:
    """Neither pagers, pages, walks nor their reports show the key."""
    async with watch.connect(server.url) as client:
        pager = client.executions.list("default", "payments", limit=2)
        async with pager.walk() as walk:
            watch.others += [pager, walk, await walk.read_page(), walk.report]
        watch.others += [client.paginate("/v1/orgs"), client.projects.list_all(), client.with_options()]
        watch.others += [repr(await client.request("GET", "/v1/orgs")), client._session.sender.transport]
    watch.check()


async def test_no_answer_at_all(watch: Watch, server: FakeHarness) -> None:
    """Neither a refused connection, TLS refused, nor an oversized answer shows the key."""
    async with watch.connect("http://127.0.0.1:9") as client:
        await watch.fails(client.organizations.get("default"))
    async with watch.connect(server.url.replace("http:", "https:")) as client:
        await watch.fails(client.organizations.get("default"))
    server.faults.add(CompressedZeros(2_000_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness_async.http.transport.MAX_BODY", 1000)
        async with watch.connect(server.url) as client:
            await watch.fails(client.organizations.get("default"))
    watch.check()


def head(request: bytes) -> str:
    """Give the head of a request, as a server that echoes it would see it."""
    return request.partition(b"\r\n\r\n")[0].decode()


def reply(body: str = "", *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """Write an answer out."""
    size = len(body.encode()) if length is None else length
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers, "", body]).encode()


def quoted(text: str) -> str:
    """Write a text as JSON would."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\n", "\\n") + '"'


ECHOES: dict[str, Callable[[bytes], bytes]] = {
    "text-body": lambda request: reply(head(request), status="400 Bad"),
    "html-body": lambda request: reply(f"<html>{head(request)}</html>", "Content-Type: text/html", status="403 No"),
    "html-success": lambda request: reply(f"<html>{head(request)}</html>", "Content-Type: text/html"),
    "goa-message": lambda request: reply(
        f'{{"name":"bad","id":"i","message":{quoted(head(request))}}}', status="400 Bad"
    ),
    "goa-id": lambda _: reply(f'{{"name":"bad","id":"{KEY}","message":"m"}}', status="400 Bad"),
    "code": lambda _: reply(f'{{"code":"{KEY}","message":"m"}}', status="400 Bad"),
    "field-errors": lambda _: reply(
        f'{{"message":"m","code":"c","errors":[{{"field_name":"{KEY}","message":"{KEY}"}}]}}', status="400 Bad"
    ),
    "correlation-in-the-body": lambda _: reply(
        f'{{"status":"ERROR","code":"c","message":"m","correlationId":"{KEY}"}}', status="500 Bad"
    ),
    "header": lambda _: reply("no", f"X-Echo: {KEY}", status="400 Bad"),
    "request-id-header": lambda _: reply("no", f"X-Request-Id: {KEY}", status="400 Bad"),
    "correlation-header": lambda _: reply("no", f"x-harness-correlation-id: {KEY}", status="503 Bad"),
    "request-id-of-a-success": lambda _: reply("{}", f"X-Request-Id: {KEY}"),
    "reason": lambda _: reply("no", status=f"400 {KEY}"),
    "garbled-success": lambda request: reply(f"oops {head(request)}"),
    "half-json": lambda request: reply(f'{{"org": {quoted(head(request))}'),
    "not-utf-8": lambda _: reply("").replace(b": 0", b": %d" % (len(KEY) + 1)) + KEY.encode() + b"\xff",
    "text-where-an-object-should-be": lambda _: reply(f'"{KEY}"'),
    "list-where-an-object-should-be": lambda _: reply(f'["{KEY}"]'),
    "unknown-member": lambda _: reply(f'{{"{KEY}": "{KEY}"}}'),
    "member-of-the-wrong-kind": lambda _: reply(f'{{"org": {{"identifier": ["{KEY}"]}}}}'),
    "tag": lambda _: reply(f'{{"org": {{"identifier": "a", "tags": {{"{KEY}": 1}}}}}}'),
    "redirect-elsewhere": lambda _: reply("", f"Location: http://elsewhere.example/?{KEY}", status="302 Found"),
    "redirect-here": lambda _: reply("", f"Location: /v1/orgs/x?key={KEY}", status="302 Found"),
    "retry-after": lambda _: reply("no", f"Retry-After: {KEY}", status="503 Bad"),
    "bad-header-line": lambda _: f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n".encode(),
    "bad-header-name": lambda _: f"HTTP/1.1 200 OK\r\nx y {KEY}: 1\r\n\r\n".encode(),
    "bad-header-value": lambda _: f"HTTP/1.1 200 OK\r\nX-Echo: {KEY}\x00\r\n\r\n".encode(),
    "bad-status-line": lambda _: f"HTTP/1.1 {KEY}\r\n\r\n".encode(),
    "bad-content-length": lambda _: f"HTTP/1.1 200 OK\r\nContent-Length: {KEY}\r\n\r\n".encode(),
    "bad-content-encoding": lambda _: reply("zz", "Content-Encoding: gzip", f"X-Echo: {KEY}"),
    "cut": lambda request: reply(head(request), "Connection: close", length=10_000),
    "bad-chunk": lambda _: f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n".encode(),
    "garbled-without-an-echo": lambda _: b"HTTP/1.1 2OO OK\r\n\r\n",
    "not-http": lambda _: f"{KEY}\r\n\r\n".encode(),
}


@pytest.mark.parametrize("name", ECHOES)
async def test_server_that_echoes(watch: Watch, serve: Serve, name: str) -> None:
    """Whatever a server makes of our key and headers in its answer, the error it leads to does not show the key."""
    async with watch.connect(await serve(ECHOES[name])) as client:
        await watch.fails(client.organizations.get("default"))
        await watch.fails(client.organizations.create("fresh", "Fresh"))
        watch.others += [client, client.stats]
    watch.check()


@pytest.mark.parametrize("name", ["garbled-success", "half-json", "not-utf-8", "tag", "text-body", "bad-header-line"])
async def test_list_that_echoes(watch: Watch, serve: Serve, name: str) -> None:
    """The same for the pages of lists, and for the report of a bulk run."""
    async with watch.connect(await serve(ECHOES[name])) as client:
        await watch.fails(client.executions.list("default", "payments").collect())
        async with client.executions.bulk(["default/payments"]) as run:
            async for _ in run:
                pass
        watch.others += [run.report, [outcome.error for outcome in run.report.outcomes.values()]]
    watch.check()


async def test_response_that_is_not_json(watch: Watch, serve: Serve) -> None:
    """A raw answer is the caller's own, but the error of its `json` does not show the key."""
    async with watch.connect(await serve(ECHOES["garbled-success"])) as client:
        response = await client.request("GET", "/v1/blob")
        with pytest.raises(HarnessError) as caught:
            response.json()
        watch.errors.append(caught.value)
    watch.check()


async def test_deadline_after_an_echo(watch: Watch, serve: Serve) -> None:
    """The last words of an attempt, which the deadline's error repeats, do not show the key."""
    async with watch.connect(
        await serve(ECHOES["bad-header-line"]),
        retry=RetryPolicy(initial_backoff=0.001, max_backoff=0.002),
        timeouts=Timeouts(deadline=0.05),
    ) as client:
        await watch.fails(client.organizations.get("default"))
    watch.check()


async def test_observer_that_raises(watch: Watch, server: FakeHarness) -> None:
    """What is logged of an observer's failure does not show the key."""

    def observe(event: Event) -> None:
        raise ValueError(repr(event))

    async with watch.connect(server.url, on_event=observe) as client:
        await client.organizations.get("default")
    watch.check()


@pytest.mark.parametrize(
    "arguments",
    [
        {"api_key": KEY + "\n"},
        {"api_key": " " + KEY},
        {"api_key": KEY + "é"},
        {"api_key": SECRET},
        {"api_key": KEY, "account_id": ""},
        {"api_key": KEY, "base_url": f"https://user:{SECRET}@h.example"},
        {"api_key": KEY, "base_url": "ftp://h.example"},
        {"api_key": KEY, "max_in_flight": 0},
    ],
    ids=["line-break", "space", "letter", "no-account", "empty-account", "in-the-url", "scheme", "places"],
)
def test_refused_settings(watch: Watch, arguments: dict[str, Any]) -> None:
    """A refusal of the settings does not repeat the key."""
    with pytest.raises(ConfigurationError) as caught:
        HarnessClient(**arguments)
    assert not leaks(caught.value)
    watch.errors.append(caught.value)
    watch.check()


def test_refused_environment(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal of what the environment holds does not repeat the key."""
    monkeypatch.delenv("HARNESS_PLATFORM_API_KEY", raising=False)
    monkeypatch.setenv("HARNESS_API_KEY", f"{KEY}\r\n")
    with pytest.raises(ConfigurationError, match="HARNESS_API_KEY") as caught:
        HarnessClient()
    watch.errors.append(caught.value)
    watch.check()


async def test_key_goes_to_no_other_host(watch: Watch, server: FakeHarness) -> None:
    """However a server asks for it, no other host is sent the key, nor anything else."""
    async with FakeHarness(api_key=KEY) as thief:
        authority = thief.url.removeprefix("http://")
        for location in (thief.url, f"//{authority}/v1/orgs", f"{server.url}@{authority}/", f"\\\\{authority}\\"):
            for status in (301, 302, 303, 307, 308):
                server.faults.clear()
                server.faults.add(Redirect(location, status))
                async with watch.connect(server.url) as client:
                    await watch.fails(client.organizations.get("default"))
                    await watch.fails(client.organizations.update("default", name="N"))
        assert thief.requests == []
    watch.check()


async def test_key_is_not_left_in_a_borrowed_session(watch: Watch, server: FakeHarness) -> None:
    """A borrowed session neither keeps the key nor sends it with its own requests."""
    async with aiohttp.ClientSession() as http:
        async with watch.connect(server.url, http_session=http) as client:
            await client.organizations.get("default")
        assert not re.search(re.escape(SECRET), repr(dict(http.headers)))
        async with http.get(f"{server.url}/v1/orgs") as response:
            assert response.status == 401
    assert "x-api-key" not in server.requests[-1].headers
    watch.check()


async def test_tasks_do_not_tell(watch: Watch, server: FakeHarness) -> None:
    """A task that waits for an answer does not show the key in its `repr`."""
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
