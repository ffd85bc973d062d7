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
import zlib
from collections.abc import Callable
from email.utils import formatdate
from typing import Any
from urllib.parse import quote, unquote

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
    RateLimitError,
    RequestError,
    RequestTimeoutError,
    RetryPolicy,
    Timeouts,
    TransportError,
    UnexpectedResponseError,
)
from harness_async.testing import FakeHarness, Interim, Reset, SlowBody, SlowHead, Status, TooManyRequests
from tests.support import virtual
from tests.support.http import KEY, ONCE, Serve, client_of, everything, response


class RecordingPacer:
    """A pacer of the caller that records pauses."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def acquire(self) -> None:
        pass

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.mark.parametrize("value", ["1795000000", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"], ids=["s", "huge", "date"])
@pytest.mark.parametrize("status", [429, 503])
def test_huge_retry_after(value: str, status: int) -> None:
    """A wait beyond `max_retry_after` ends the call, and other calls and a shared pacer wait for a short time only."""

    async def main() -> float:
        pacer = RecordingPacer()
        async with FakeHarness() as fake, HarnessClient(fake.api_key, base_url=fake.url, pacer=pacer) as client:
            fake.faults.add(Status(status, headers={"Retry-After": value}), times=1)
            with pytest.raises(APIStatusError) as caught:
                await client.request("GET", "/v1/orgs")
            assert caught.value.status == status
            await client.request("GET", "/v1/orgs")
        assert all(seconds < 10 for seconds in pacer.pauses)
        return asyncio.get_running_loop().time()

    assert virtual.run_jumping(main()) < 1010


@pytest.mark.parametrize("status", [503, 429])
@pytest.mark.parametrize("ahead", [0.0, 3600.0, -3600.0])
def test_retry_after_date_without_date(ahead: float, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Retry-After date is compared with the server's clock, whatever the local clock says meanwhile."""
    now = time.time()
    headers = {"Retry-After": formatdate(now + 30, usegmt=True), "Date": ""}

    async def main() -> float:
        async with FakeHarness() as fake, HarnessClient(fake.api_key, base_url=fake.url, rate_limit=None) as client:
            await client.request("GET", "/v1/orgs")
            monkeypatch.setattr("harness_async.http.sender.wall_time", lambda: now + ahead)
            monkeypatch.setattr("harness_async.http.call.time.time", lambda: now + ahead)
            fake.faults.add(Status(status, headers=headers), times=1)
            await client.request("GET", "/v1/orgs")
            return asyncio.get_running_loop().time()

    assert 1020 < virtual.run_jumping(main()) < 1040


GARBLED = {
    "header of 70 kB": response(b"[]", f"X-Long: {'x' * 70_000}"),
    "bad status line": b"HTTP/1.1 abc\r\n\r\n",
    "bad header": response(b"[]", "no colon here"),
    "not gzip": response(b"[]", "Content-Encoding: gzip"),
    "brotli": response(b"[]", "Content-Encoding: br"),
    "two encodings": response(gzip.compress(b"[]"), "Content-Encoding: gzip, gzip"),
    "bad chunk": response(b"zz\r\n[]\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
}


@pytest.mark.parametrize("response", GARBLED.values(), ids=GARBLED)
async def test_garbled(serve: Serve, response: bytes) -> None:
    """The same parse failure twice is permanent: two requests, and an error that is not a timeout."""
    requests: list[bytes] = []

    def respond(request: bytes) -> bytes:
        requests.append(request)
        return response

    async with client_of(await serve(respond)) as client:
        with pytest.raises((TransportError, UnexpectedResponseError)) as caught:
            await client.request("GET", "/v1/orgs")
    assert len(requests) == len(caught.value.attempts) == 2
    assert not isinstance(caught.value, TimeoutError)


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
    url = await serve(lambda _: response(body, f"Content-Encoding: {encoding}"))
    async with client_of(url) as client:
        assert (await client.request("GET", "/v1/orgs")).body == b'["a"]'


@pytest.mark.parametrize("name", ["gzip", "two members", "zlib", "raw deflate"])
async def test_cut_compressed_bodies(serve: Serve, name: str) -> None:
    """A compressed body that ends too early is a failure whatever its length says, never part of the bytes."""
    body, encoding = ENCODED[name]
    responses = iter([response(body[:-3], f"Content-Encoding: {encoding}"), response(b'["b"]')])
    async with client_of(await serve(lambda _: next(responses))) as client:
        assert (await client.request("GET", "/v1/orgs")).body == b'["b"]'


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


def test_connect_bounds_tls() -> None:
    """A TLS handshake that hangs is ended by `connect`, and a POST that ends in it is not ambiguous."""

    async def main() -> float:
        ended = asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            ended.set()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        timeouts = Timeouts(connect=3.0, deadline=None)
        async with server, client_of(url, timeouts=timeouts, retry=ONCE) as client:
            with pytest.raises(RequestTimeoutError, match=r"(?i)no connection in time"):
                await client.request("GET", "/v1/orgs")
            await ended.wait()
            ended.clear()
            with pytest.raises(DeadlineExceededError) as caught:
                await client.request("POST", "/v1/orgs", timeout=2.0)
            assert not caught.value.ambiguous
            await ended.wait()
        return asyncio.get_running_loop().time()

    assert 1004.9 < virtual.run_jumping(main()) < 1006


@pytest.mark.parametrize(
    ("fault", "leading", "status"),
    [
        (Status(503, message="try later"), "503 Service Unavailable after ", 503),
        (Status(502, envelope="text"), "502 Bad Gateway after ", 502),
        (TooManyRequests(), "429 Too Many Requests after ", 429),
        (Reset("before"), "", None),
    ],
    ids=["503", "502", "429", "reset"],
)
def test_deadline_names_the_reason(fault: Any, leading: str, status: int | None) -> None:
    """The error of a call that ran out of time begins with the last response, which is its cause."""

    async def main() -> DeadlineExceededError:
        timeouts = Timeouts(deadline=20.0)
        async with FakeHarness() as fake, client_of(fake.url, api_key=fake.api_key, timeouts=timeouts) as client:
            fake.faults.add(fault)
            with pytest.raises(DeadlineExceededError) as caught:
                await client.with_options(retry=RetryPolicy()).request("GET", "/v1/orgs")
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
                connection.sendall(response())
                if number == 0:
                    connection.shutdown(socket.SHUT_RDWR)
            closed.set()

    thread = threading.Thread(target=serve_twice)
    thread.start()
    async with client_of(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
        await client.request("GET", "/v1/orgs")
        closed.wait()  # blocks the loop, as a long computation does
        found = await client.request("POST", "/v1/orgs", json={})
    thread.join()
    listener.close()
    assert (found.status, len(found.attempts), len(requests)) == (200, 1, 2)


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
    "JSON in UTF-16": lambda key: "".join(f"\\u{ord(c):04x}" for c in key).encode("utf-16"),
    "URL, three times": lambda key: quote(quote(quote(key, safe=""), safe=""), safe="").encode(),
    "HTML, twice": lambda key: html.escape(html.escape(key)).encode(),
    "octal": lambda key: "".join(f"\\{ord(c):03o}" for c in key).encode(),
}


@pytest.mark.parametrize("status", ["400 Bad Request", "200 OK"])
@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
async def test_echoed_key(serve: Serve, echo: Callable[[str], bytes], status: str) -> None:
    """A key that a server echoes, escaped or not, shows in no error."""
    async with client_of(await serve(lambda _: response(echo(KEY), f"X-Echo: {KEY}", status=status))) as client:
        with pytest.raises(HarnessError) as caught:
            await client.organizations.list().collect()
    shown = everything(caught.value)
    for _ in range(3):
        shown = html.unescape(unquote(shown))
    assert "s3cr3t" not in shown
    assert "\\163\\063" not in shown
    assert "\\u0073" not in shown.replace("\0", "")


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": "CONNECT"},
        {"path": "https://elsewhere.example/v1/orgs"},
        {"params": {"q": 1j}},
        {"headers": {"X-Api-Key": "k"}},
        {"json": 1j},
        {"json": float("nan")},
        {"headers": {"X-Note": "\ud800"}},
        {"headers": {"X-Note\ud800": "a"}},
        {"params": {"q": "\ud800"}},
        {"content": 5},
        {"content": "\ud800"},
        {"params": [("q", "a")]},
        {"headers": [("X-Note", "a")]},
        {"repeatable": "no"},
        {"timeout": 10**400},
        {"json": {}, "content": b"x"},
        {"timeout": -1},
    ],
)
async def test_unusable_arguments(client: HarnessClient, fake: FakeHarness, arguments: dict[str, Any]) -> None:
    """Arguments that cannot be sent fail before anything is sent, and no frame of the error holds the key."""
    with pytest.raises((TypeError, ValueError)) as caught:
        await client.request(**{"method": "POST", "path": "/v1/orgs", **arguments})
    assert not isinstance(caught.value, UnicodeError)
    assert not fake.requests
    assert fake.api_key not in everything(caught.value)


CODES = [
    (400, "RESOURCE_NOT_FOUND_EXCEPTION", NotFoundError),
    (400, "DUPLICATE_FIELD", ConflictError),
    (400, "INVALID_TOKEN", AuthenticationError),
    (200, "RESOURCE_NOT_FOUND", NotFoundError),
    (500, "RESOURCE_NOT_FOUND", NotFoundError),
    (404, "NO_AVAILABLE_DELEGATES", APIStatusError),
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


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("message", ["slow", "s" * 5000, "s" * 100_000], ids=["short", "long", "huge"])
def test_throttled_with_another_status(status: int, message: str) -> None:
    """An error of another status with the code of a rate limit closes the gate and is retried as one."""

    async def main() -> None:
        async with FakeHarness() as fake, client_of(fake.url, api_key=fake.api_key) as client:
            fault = Status(status, envelope="legacy", code="TOO_MANY_REQUESTS", message=message)
            fake.faults.add(fault, times=2)
            begin = asyncio.get_running_loop().time()
            await client.request("GET", "/v1/orgs")
            assert (client.stats.throttled, client.stats.requests) == (2, 3)
            assert asyncio.get_running_loop().time() - begin > 10

    virtual.run_jumping(main())


async def test_unrecognized_code_of_a_rate_limit(serve: Serve) -> None:
    """A rate limit that the gate does not recognize is raised, not repeated without a wait."""
    url = await serve(lambda _: response('{"code":"TOO_MANY\\u005fREQUESTS","message":"m"}', status="400 Bad Request"))
    async with client_of(url) as client:
        with pytest.raises(RateLimitError):
            await client.request("GET", "/v1/orgs")
        assert client.stats.requests == 1


async def test_text_of_the_parser(serve: Serve) -> None:
    """The error of a response that cannot be parsed names no status, because the server sent none."""
    url = await serve(lambda _: b"HTTP/2 200 OK\r\n\r\n")
    async with client_of(url) as client:
        with pytest.raises(TransportError, match=r"^The response cannot be parsed: Bad status line"):
            await client.request("GET", "/v1/orgs")


async def test_key_in_a_broken_head(serve: Serve) -> None:
    """A key that the parser of responses quotes shows in no error, and in no variable of its frames."""
    url = await serve(lambda _: f"HTTP/1.1 200 OK\r\nX Y: {KEY}\r\n\r\n".encode())
    async with client_of(url) as client:
        with pytest.raises(TransportError) as caught:
            await client.request("GET", "/v1/orgs")
    assert KEY not in everything(caught.value)


async def test_key_in_a_redirect(serve: Serve) -> None:
    """A redirect with the key in its target shows the key nowhere, whether it is followed or not."""
    for origin, status in (("http://elsewhere.example", "302 Found"), ("", "302 Found"), ("", "404 Not Found")):
        first = response(b"", f"Location: {origin}/v1/orgs?key={KEY}", status="302 Found")
        then = response(b"{}", f"Location: /v1/orgs?key={KEY}", status=status)
        url = await serve(lambda request, first=first, then=then: then if b"?key=" in request else first)
        async with client_of(url, retry=ONCE) as client:
            with pytest.raises(RequestError) as caught:
                await client.request("GET", "/v1/orgs")
        assert KEY not in everything(caught.value)


TEXTS: list[tuple[dict[str, Any], list[str], list[tuple[str, str]]]] = [
    ({"errors": [{"fieldId": "identifier", "error": "too long"}]}, ["invalid fields"], [("identifier", "too long")]),
    ({"message": "no", "errors": [{"field_name": "a", "message": "b"}]}, ["no"], [("a", "b")]),
    ({"message": "no", "errors": {"name": ["taken", "long"]}}, ["no"], [("name", "taken"), ("name", "long")]),
    ({"message": "no", "errors": ["first", "second"]}, ["no", "first", "second"], []),
    ({"responseMessages": [{"message": None}, {"message": "why"}], "message": "what"}, ["what", "why"], []),
    ({"responseMessages": None, "message": "what", "detailedMessage": "how"}, ["what", "how"], []),
    ({"error": {"code": "E", "message": "inner"}}, ["inner"], []),
    ({"error": "plain"}, ["plain"], []),
    ({"error": "plain", "code": 500, "responseMessages": "why"}, ["plain", "why"], []),
    ({"error": ["first", "second"]}, ["first", "second"], []),
    ({"message": ["first", "second"], "error": "Bad Request"}, ["first", "second"], []),
    ({"message": {"text": "odd"}}, ["odd"], []),
    ({"errors": "plain"}, ["plain"], []),
    ({"errors": [["nested"], [{"field": "a", "message": "b"}]]}, ["nested"], [("a", "b")]),
    ({"errors": {"name": {"message": "taken"}}}, ["invalid fields"], [("name", "taken")]),
    ({"message": None, "code": "E", "errors": [None, 5, {"field": "f"}]}, ["no message"], []),
]


@pytest.mark.parametrize(("body", "texts", "fields"), TEXTS)
async def test_every_text_is_shown(
    serve: Serve, body: dict[str, Any], texts: list[str], fields: list[tuple[str, str]]
) -> None:
    """Every text of an error body is in the message, and its fields in `field_errors`, whatever the shape."""
    url = await serve(lambda _: response(json.dumps(body).encode(), status="400 Bad Request"))
    async with client_of(url) as client:
        with pytest.raises(APIStatusError) as caught:
            await client.request("GET", "/v1/orgs")
    assert all(text in str(caught.value) for text in texts)
    assert [(each.field, each.message) for each in caught.value.field_errors] == fields
    assert all(text in str(caught.value) for _, text in fields)


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


@pytest.mark.parametrize("reason", ["cancelled", "deadline"])
async def test_close_leaves_no_unsent_body(reason: str) -> None:
    """A connection with a body that the server does not read is closed with the client."""
    arrived, ended = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, client_of(url, timeouts=Timeouts(deadline=0.5 if reason == "deadline" else None)) as client:
        call = asyncio.create_task(client.request("POST", "/v1/orgs", content=bytes(50_000_000)))
        await arrived.wait()
        (connection,) = client._session.sender.transport._sockets
        if reason == "cancelled":
            call.cancel()
        with pytest.raises((asyncio.CancelledError, DeadlineExceededError)):
            await call
        await client.close()
        for _ in range(10):
            await asyncio.sleep(0)
        ended.set()  # before the check: the server waits for its handlers
        assert connection.fileno() == -1


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "fault",
    [SlowBody(chunk_size=1, pause=100.0), SlowHead(chunk_size=1, pause=100.0), TooManyRequests(retry_after=100)],
    ids=["body", "head", "gate"],
)
def test_close_during_calls(fault: Any, method: str) -> None:
    """Calls that read, wait or queue end when the client is closed, also without a time limit."""

    async def main() -> None:
        timeouts, begin = Timeouts(read=None, deadline=None), asyncio.get_running_loop().time()
        async with (
            FakeHarness() as fake,
            client_of(fake.url, api_key=fake.api_key, timeouts=timeouts, max_in_flight=1) as client,
        ):
            fake.faults.add(fault)
            calls = [asyncio.create_task(client.request(method, "/v1/orgs")) for _ in range(3)]
            await asyncio.sleep(50)
            await client.close()
            for error in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(error, RuntimeError)
                assert "closed during a request" in str(error)
                assert fake.api_key not in everything(error)
            assert asyncio.get_running_loop().time() - begin < 51

    virtual.run_jumping(main())


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
