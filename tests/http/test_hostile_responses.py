"""Responses that no healthy server sends: none is lost in silence, none holds a call or a client for ever."""

from __future__ import annotations

import asyncio
import gzip
import html
import json
import pickle
import socket
import threading
import time
import traceback
import zlib
from collections.abc import Awaitable, Callable, Iterator
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver

from harness_async import (
    APIStatusError,
    AuthenticationError,
    ConflictError,
    DeadlineExceededError,
    HarnessClient,
    HarnessError,
    NotFoundError,
    PermissionDeniedError,
    RateLimit,
    RateLimitError,
    RequestTimeoutError,
    RetryPolicy,
    Timeouts,
    TransportError,
    UnexpectedResponseError,
)
from harness_async.testing import FakeHarness, Interim, SlowHead, Status, TooManyRequests
from tests.support import virtual

KEY = "pat.acc.tokenid.s3cr3t/+&<key>"
Serve = Callable[..., Awaitable[str]]


def http(body: bytes = b"[]", *, status: str = "200 OK", head: str = "", kind: str = "application/json") -> bytes:
    """Build a response."""
    length = "" if "Transfer-Encoding" in head else f"Content-Length: {len(body)}\r\n"
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{length}{head}\r\n".encode() + body


def client_of(url: str, **options: Any) -> HarnessClient:
    quick = RetryPolicy(initial_backoff=0.001, max_backoff=0.002)
    return HarnessClient(**{"api_key": KEY, "base_url": url, "retry": quick, "rate_limit": None, **options})


# -- numbers of the server that must not last ------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1795000000", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_huge_retry_after(value: str) -> None:
    """A wait beyond `max_retry_after` ends the call, and the gate opens again after its own cooldown."""

    async def main() -> float:
        async with FakeHarness() as fake, HarnessClient(fake.api_key, base_url=fake.url) as client:
            fake.faults.add(TooManyRequests(value), times=1)
            with pytest.raises(RateLimitError):
                await client.request("GET", "/v1/orgs")
            began = asyncio.get_running_loop().time()
            await client.request("GET", "/v1/orgs")
            return asyncio.get_running_loop().time() - began

    assert virtual.run_jumping(main()) < 10


@pytest.mark.parametrize("ahead", [0.0, 3600.0])
def test_retry_after_date_without_date(ahead: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A date is compared with the server's clock where any response had one, else with a doubt."""
    now = time.time()
    retry_at = formatdate(now + 30, usegmt=True)

    async def main() -> float:
        async with FakeHarness() as fake, HarnessClient(fake.api_key, base_url=fake.url, rate_limit=None) as client:
            await client.request("GET", "/v1/orgs")
            monkeypatch.setattr("harness_async.http.sender.wall_time", lambda: now + ahead)
            fake.faults.add(Status(503, headers={"Retry-After": retry_at, "Date": ""}), times=1)
            began = asyncio.get_running_loop().time()
            await client.request("GET", "/v1/orgs")
            return asyncio.get_running_loop().time() - began

    assert 20 < virtual.run_jumping(main()) < 40


# -- responses that cannot be parsed ---------------------------------------------------------------------------------

GARBLED = {
    "header of 70 kB": http(head=f"X-Long: {'x' * 70_000}\r\n"),
    "bad status line": b"HTTP/1.1 abc\r\n\r\n",
    "bad header": http(head="no colon here\r\n"),
    "not gzip": http(b"[]", head="Content-Encoding: gzip\r\n"),
    "brotli": http(b"[]", head="Content-Encoding: br\r\n"),
    "two encodings": http(gzip.compress(b"[]"), head="Content-Encoding: gzip, gzip\r\n"),
    "bad chunk": http(b"zz\r\n[]\r\n0\r\n\r\n", head="Transfer-Encoding: chunked\r\n"),
}


@pytest.mark.parametrize("response", GARBLED.values(), ids=GARBLED)
async def test_garbled(serve: Serve, response: bytes) -> None:
    """The same parse failure twice is permanent: two requests, and an error that is not a timeout."""
    requests: list[bytes] = []

    def answer(request: bytes) -> bytes:
        requests.append(request)
        return response

    async with client_of(await serve(answer)) as client:
        with pytest.raises((TransportError, UnexpectedResponseError)) as caught:
            await client.request("GET", "/v1/orgs")
    assert len(requests) == len(caught.value.attempts) == 2
    assert not isinstance(caught.value, TimeoutError)


async def test_garbled_post(serve: Serve) -> None:
    """A POST whose response cannot be parsed is never sent again, and is ambiguous."""
    requests: list[bytes] = []

    def answer(request: bytes) -> bytes:
        requests.append(request)
        return GARBLED["not gzip"]

    async with client_of(await serve(answer)) as client:
        with pytest.raises(TransportError) as caught:
            await client.request("POST", "/v1/orgs", json={})
    assert len(requests) == 1
    assert caught.value.ambiguous


async def test_bulk_of_garbled_responses(serve: Serve) -> None:
    """A run whose projects all fail in the same permanent way ends after twenty of them."""
    async with client_of(await serve(lambda _: GARBLED["bad header"])) as client:
        run = client.executions.bulk([("org", f"p{number}") for number in range(60)], concurrency=1)
        with pytest.raises(HarnessError) as caught:
            async with run:
                async for _ in run:
                    pass
    assert caught.value.report is not None
    assert caught.value.report.failed <= 20
    assert caught.value.report.pending >= 40


ENCODED = {
    "gzip": (gzip.compress(b'["a"]'), "gzip"),
    "two members": (gzip.compress(b'["') + gzip.compress(b'a"]'), "gzip"),
    "padding": (gzip.compress(b'["a"]') + b"\0" * 8, "gzip"),
    "x-gzip": (gzip.compress(b'["a"]'), "X-GZIP"),
    "zlib": (zlib.compress(b'["a"]'), "deflate"),
    "raw deflate": (zlib.compress(b'["a"]')[2:-4], "deflate"),
    "identity": (b'["a"]', "identity"),
    "not an encoding": (b'["a"]', "utf-8"),
}


@pytest.mark.parametrize(("body", "encoding"), ENCODED.values(), ids=ENCODED)
async def test_encodings(serve: Serve, body: bytes, encoding: str) -> None:
    """Compressed bodies are read, with any number of members, also where the server names no real encoding."""
    url = await serve(lambda _: http(body, head=f"Content-Encoding: {encoding}\r\n"))
    async with client_of(url) as client:
        assert (await client.request("GET", "/v1/orgs")).body == b'["a"]'


@pytest.mark.parametrize("name", ["gzip", "two members", "zlib", "raw deflate"])
async def test_cut_compressed_bodies(serve: Serve, name: str) -> None:
    """A compressed body that ends too early is a failure whatever its length says, never part of the bytes."""
    body, encoding = ENCODED[name]
    responses = iter([http(body[:-3], head=f"Content-Encoding: {encoding}\r\n"), http(b'["b"]')])
    async with client_of(await serve(lambda _: next(responses))) as client:
        assert (await client.request("GET", "/v1/orgs")).body == b'["b"]'


# -- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Interim(102, count=5), SlowHead(chunk_size=8, pause=0.5)], ids=["102", "slow head"])
def test_slow_heads_are_life(fault: Any) -> None:
    """Interim responses, and a head that arrives in pieces, are no silence of the server."""

    async def main() -> int:
        timeouts = Timeouts(read=2.0, deadline=None)
        async with FakeHarness() as fake, HarnessClient(fake.api_key, base_url=fake.url, timeouts=timeouts) as client:
            fake.faults.add(fault, times=1)
            await client.request("GET", "/v1/orgs")
            return client.stats.requests

    assert virtual.run_jumping(main()) == 1


def test_connect_bounds_dns() -> None:
    """A resolver that hangs is ended by `connect`, not only by the deadline."""

    class Hanging(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
            await asyncio.sleep(1e6)

        async def close(self) -> None:
            pass

    async def main() -> float:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Hanging())) as session:
            client = HarnessClient(
                KEY,
                base_url="https://harness.test",
                http_session=session,
                timeouts=Timeouts(connect=3.0, deadline=None),
                retry=RetryPolicy(max_attempts=1),
            )
            began = asyncio.get_running_loop().time()
            with pytest.raises(RequestTimeoutError, match=r"(?i)no connection in time"):
                await client.request("GET", "/v1/orgs")
            return asyncio.get_running_loop().time() - began

    assert 2.9 < virtual.run_jumping(main()) < 4


@pytest.mark.parametrize(
    ("response", "leading", "status"),
    [
        (http(b'{"message": "try later"}', status="503 Service Unavailable"), "503 Service Unavailable after ", 503),
        (http(b"bad", status="502 Bad Gateway", kind="text/plain"), "502 Bad Gateway after ", 502),
        (None, "", None),
    ],
    ids=["503", "502", "reset"],
)
def test_deadline_says_why(response: bytes | None, leading: str, status: int | None) -> None:
    """A call that ran out of time begins with the last response, and has it as its cause."""

    async def main() -> DeadlineExceededError:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if response is not None:
                writer.write(response.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with (
            server,
            HarnessClient(KEY, base_url=url, rate_limit=None, timeouts=Timeouts(deadline=8.0)) as client,
        ):
            with pytest.raises(DeadlineExceededError) as caught:
                await client.request("GET", "/v1/orgs")
        return caught.value

    error = virtual.run_jumping(main())
    assert str(error).startswith(leading)
    assert f"{len(error.attempts)} attempts" in str(error)
    assert error.last_status == status == pickle.loads(pickle.dumps(error)).last_status  # noqa: S301
    assert isinstance(error.__cause__, HarnessError)


async def test_blocked_loop_before_post(serve: Serve) -> None:
    """A connection that the server closed while the loop was blocked is not used for a POST."""
    requests: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    closed = threading.Event()

    def serve_twice() -> None:
        for number in range(2):
            connection, _ = listener.accept()
            with connection:
                requests.append(connection.recv(65536))
                connection.sendall(http())
                if number == 0:
                    connection.shutdown(socket.SHUT_RDWR)
            closed.set()

    thread = threading.Thread(target=serve_twice)
    thread.start()
    async with client_of(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
        await client.request("GET", "/v1/orgs")
        closed.wait()  # blocks the loop, as a long computation does
        response = await client.request("POST", "/v1/orgs", json={})
    thread.join()
    listener.close()
    assert (response.status, len(response.attempts), len(requests)) == (200, 1, 2)


# -- the key -------------------------------------------------------------------------------------------------------

ECHOES: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "JSON": lambda key: json.dumps({"message": f"bad key {key}"}).encode(),
    "JSON, every character": lambda key: b'{"message": "%s"}' % "".join(f"\\u{ord(c):04X}" for c in key).encode(),
    "JSON within JSON": lambda key: json.dumps({"message": json.dumps({"key": key})}).encode(),
    "URL": lambda key: quote(key, safe="").encode(),
    "URL, every character": lambda key: "".join(f"%{ord(c):02x}" for c in key).encode(),
    "HTML": lambda key: html.escape(key).encode(),
    "HTML, every character": lambda key: "".join(f"&#{ord(c)};" for c in key).encode(),
    "HTML, hexadecimal": lambda key: "".join(f"&#x{ord(c):X};" for c in key).encode(),
    "UTF-16": lambda key: json.dumps({"message": key}).encode("utf-16"),
    "UTF-16, big end first": lambda key: key.encode("utf-16-be"),
    "UTF-32": lambda key: key.encode("utf-32-le"),
}


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that led to it."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            pending += [each.__cause__, each.__context__]


def everything(error: BaseException) -> str:
    """Collect all that an error shows: texts, attributes, and the variables of its frames."""
    parts: list[str] = []
    for each in chain(error):
        parts += [repr(each), str(each), repr(each.args), repr(getattr(each, "__dict__", {}))]
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if "harness_async" in frame.f_code.co_filename or "aiohttp" in frame.f_code.co_filename:
                parts += [repr(value) for value in frame.f_locals.values()]
        body = getattr(each, "body", b"")
        parts += [body.decode(code, "replace") for code in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")]
    return html.unescape("\n".join(parts))


@pytest.mark.parametrize("status", ["400 Bad Request", "200 OK"])
@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
async def test_echoed_key(serve: Serve, echo: Callable[[str], bytes], status: str) -> None:
    """A key that a server echoes, escaped or not, shows in no error."""
    async with client_of(await serve(lambda _: http(echo(KEY), status=status, head=f"X-Echo: {KEY}\r\n"))) as client:
        with pytest.raises(HarnessError) as caught:
            await client.organizations.list().collect()
    assert "s3cr3t" not in everything(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"json": 1j},
        {"json": float("nan")},
        {"headers": {"X-Note": "\ud800"}},
        {"headers": {"X-Note\ud800": "a"}},
        {"params": {"q": "\ud800"}},
        {"content": 5},
        {"json": {}, "content": b"x"},
        {"timeout": -1},
    ],
)
async def test_unusable_arguments(client: HarnessClient, fake: FakeHarness, arguments: dict[str, Any]) -> None:
    """Arguments that cannot be sent fail before anything is sent, and no frame of the error holds the key."""
    with pytest.raises((TypeError, ValueError)) as caught:
        await client.request("POST", "/v1/orgs", **arguments)
    assert not isinstance(caught.value, UnicodeError)
    assert not fake.requests
    assert fake.api_key not in everything(caught.value)


async def test_lost_connection_has_no_key(serve: Serve) -> None:
    """The errors of aiohttp behind a failure hold no headers."""
    async with client_of(await serve(lambda _: None), retry=RetryPolicy(max_attempts=1)) as client:
        with pytest.raises(TransportError) as caught:
            await client.request("GET", "/v1/orgs")
    assert caught.value.__cause__ is not None
    assert "s3cr3t" not in everything(caught.value)


# -- errors --------------------------------------------------------------------------------------------------------

CODES = [
    (400, "RESOURCE_NOT_FOUND_EXCEPTION", NotFoundError),
    (400, "ENTITY_NOT_FOUND", NotFoundError),
    (400, "DUPLICATE_FIELD", ConflictError),
    (400, "OPTIMISTIC_LOCKING_EXCEPTION", ConflictError),
    (400, "INVALID_TOKEN", AuthenticationError),
    (400, "NG_ACCESS_DENIED", PermissionDeniedError),
    (200, "RESOURCE_NOT_FOUND", NotFoundError),
    (404, "NO_AVAILABLE_DELEGATES", APIStatusError),
    (405, "RESOURCE_NOT_FOUND_EXCEPTION", APIStatusError),
    (418, "SOMETHING_NEW", APIStatusError),
]


@pytest.mark.parametrize(("status", "code", "kind"), CODES)
async def test_class_follows_code(
    client: HarnessClient, fake: FakeHarness, status: int, code: str, kind: type[APIStatusError]
) -> None:
    """The class of an error follows its code before its status, for objects, lists and raw requests."""
    fake.faults.add(Status(status, envelope="legacy", code=code))
    for call in (
        client.organizations.get("default"),
        client.organizations.list().collect(),
        client.request("GET", "/v1/orgs"),
    ):
        with pytest.raises(APIStatusError) as caught:
            await call
        assert type(caught.value) is kind
        assert (caught.value.status, caught.value.code) == (status, code)


async def test_throttled_with_another_status(client: HarnessClient, fake: FakeHarness) -> None:
    """A 400 with the code of a rate limit is retried as one."""
    fake.faults.add(Status(400, envelope="legacy", code="TOO_MANY_REQUESTS"), times=1)
    await client.request("GET", "/v1/orgs")
    assert client.stats.throttled == 1


TEXTS: list[tuple[dict[str, Any], list[str], list[tuple[str, str]]]] = [
    ({"errors": [{"fieldId": "identifier", "error": "too long"}]}, ["invalid fields"], [("identifier", "too long")]),
    ({"message": "no", "errors": [{"field_name": "a", "message": "b"}]}, ["no"], [("a", "b")]),
    ({"message": "no", "errors": {"name": ["taken", "long"]}}, ["no"], [("name", "taken"), ("name", "long")]),
    ({"message": "no", "errors": ["first", "second"]}, ["no", "first", "second"], []),
    ({"responseMessages": [{"message": None}, {"message": "why"}], "message": "what"}, ["what", "why"], []),
    ({"responseMessages": None, "message": "what", "detailedMessage": "how"}, ["what", "how"], []),
    ({"error": {"code": "E", "message": "inner"}}, ["inner"], []),
    ({"error": "plain"}, ["plain"], []),
    ({"message": None, "code": "E", "errors": [None, 5, {"field": "f"}]}, ["no message"], []),
]


@pytest.mark.parametrize(("body", "texts", "fields"), TEXTS)
async def test_every_text_is_shown(
    serve: Serve, body: dict[str, Any], texts: list[str], fields: list[tuple[str, str]]
) -> None:
    """Every text of an error body is in the message, and its fields in `field_errors`, whatever the shape."""
    url = await serve(lambda _: http(json.dumps(body).encode(), status="400 Bad Request"))
    async with client_of(url) as client:
        with pytest.raises(APIStatusError) as caught:
            await client.request("GET", "/v1/orgs")
    assert all(text in str(caught.value) for text in texts)
    assert [(each.field, each.message) for each in caught.value.field_errors] == fields
    assert all(text in str(caught.value) for _, text in fields)


async def test_a_401_is_confirmed(client: HarnessClient, fake: FakeHarness) -> None:
    """A single 401 after successes is not believed: the run goes on, and every row arrives."""
    fake.add_executions("default", "billing", 5)
    await client.organizations.list().collect()
    fake.faults.add(
        Status(401, envelope="legacy"), when=lambda request: request.path.endswith("billing/executions"), times=1
    )
    async with client.executions.bulk() as run:
        rows = [row async for row in run]
    assert len(rows) == len(fake.all_executions())
    assert run.report.failed == 0


async def test_a_second_401_ends_the_run(client: HarnessClient, fake: FakeHarness) -> None:
    """A 401 that is confirmed ends a run after one more request."""
    await client.organizations.list().collect()
    fake.requests.clear()
    fake.faults.add(Status(401, envelope="legacy"), when=lambda request: request.path.endswith("/executions"))
    run = client.executions.bulk(["default/billing", "default/payments"], concurrency=1)
    with pytest.raises(AuthenticationError):
        async with run:
            async for _ in run:
                pass
    assert len(fake.requests) == 2


async def test_a_401_is_confirmed_once_in_a_call(client: HarnessClient, fake: FakeHarness) -> None:
    """Another failure between two 401s does not begin the confirmation again."""
    await client.request("GET", "/v1/orgs")
    fake.requests.clear()
    for status in (401, 503, 401):
        fake.faults.add(Status(status, envelope="legacy"), times=1)
    with pytest.raises(AuthenticationError) as caught:
        await client.request("GET", "/v1/orgs")
    assert [attempt.status for attempt in caught.value.attempts] == [401, 503, 401]
    assert len(fake.requests) == 3


async def test_a_first_401_is_not_repeated(client: HarnessClient, fake: FakeHarness) -> None:
    """A key that was never accepted is refused at once."""
    fake.faults.add(Status(401, envelope="legacy"))
    with pytest.raises(AuthenticationError, match="may have expired"):
        await client.organizations.list().collect()
    assert len(fake.requests) == 1


async def test_401_names_both_accounts(fake: FakeHarness) -> None:
    """Where the key names another account than the client uses, the error says both."""
    async with HarnessClient("pat.other.id.secret", "mine", base_url=fake.url) as client:
        with pytest.raises(AuthenticationError, match=r"'other'.*'mine'"):
            await client.organizations.list().collect()


# -- closing -------------------------------------------------------------------------------------------------------


async def test_close_leaves_no_unsent_body() -> None:
    """A connection with a body that the server does not read is closed with the client."""
    arrived = asyncio.Event()
    gone = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await asyncio.wait_for(gone.wait(), 10)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(100_000_000)
        writer.close()
        done.set()

    done = asyncio.Event()
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        client = client_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        call = asyncio.create_task(client.request("POST", "/v1/orgs", content=b"x" * 50_000_000))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await client.close()
        gone.set()
        await asyncio.wait_for(done.wait(), 10)


@pytest.mark.parametrize("state", ["stopped", "running in a thread"])
def test_close_from_another_loop(state: str) -> None:
    """A client can be closed from another loop than the one that it was used in."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)

    async def use() -> tuple[FakeHarness, HarnessClient]:
        fake = await FakeHarness().__aenter__()
        client = HarnessClient(fake.api_key, base_url=fake.url)
        await client.request("GET", "/v1/orgs")
        return fake, client

    fake, client = loop.run_until_complete(use())
    if state != "stopped":
        thread.start()
    asyncio.run(client.close())
    asyncio.run(client.close())
    if state != "stopped":
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
    loop.run_until_complete(fake.__aexit__(None, None, None))
    loop.close()


async def test_rate_limit_of_the_gate_is_not_a_lasting_state(client: HarnessClient, fake: FakeHarness) -> None:
    """After a gate that a server closed with an absurd wait, other calls go on."""
    fake.faults.add(TooManyRequests(10**9), times=1)
    with pytest.raises(RateLimitError):
        await client.request("GET", "/v1/orgs")
    assert (await client.request("GET", "/v1/orgs")).status == 200


def test_limit_types() -> None:
    """A rate limit is refused where it is not one."""
    with pytest.raises(TypeError, match="rate_limit must be a RateLimit or None, not int"):
        HarnessClient(KEY, rate_limit=1000)  # type: ignore[arg-type]
    HarnessClient(KEY, rate_limit=RateLimit(1000))
