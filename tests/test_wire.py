"""The wires: what goes out, byte by byte, which connections stay open, and which wire a client gets."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import aiohttp
import pytest
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from harness_async import APIStatusError, HarnessClient, RatePacer, RequestTimeoutError, RetryPolicy, Timeouts
from harness_async.direct import KEPT_OPEN, DirectWire, knows_aiohttp
from harness_async.testing import Body, Delay, FakeHarness
from harness_async.throttling import Throttle
from harness_async.transport import make_wire
from harness_async.wire import USER_AGENT, Request, SessionWire
from tests.connections import anonymous_tls, connections_in_use, open_connections
from tests.virtual import run_jumping

Connect: TypeAlias = Callable[..., HarnessClient]
Serve: TypeAlias = Callable[..., Awaitable[str]]

ORG = b'{"org":{"identifier":"default","name":"Default"}}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(ORG), ORG)


# -- what goes out -----------------------------------------------------------------------------------------------------


async def test_a_request_as_it_goes_out(connect: Connect, serve: Serve) -> None:
    """Line, host, headers, an empty line, and the body: nothing else."""
    sent: list[bytes] = []

    def answer(request: bytes) -> bytes:
        sent.append(request)
        return ANSWER

    url = await serve(answer)
    client = connect(f"{url}/gateway", api_key="pat.Acc.id.secret")
    await client.request("GET", "/v1/orgs", params={"search_term": "a b"})
    await client.request("PUT", "/v1/orgs/x", json={"name": "é"})
    unpacked = aiohttp.ClientRequest.DEFAULT_HEADERS[hdrs.ACCEPT_ENCODING]
    head = (
        f"Host: {URL(url).host}:{URL(url).port}\r\n%s"
        f"User-Agent: {USER_AGENT}\r\nAccept-Encoding: {unpacked}\r\n"
        "Accept: application/json\r\nx-api-key: pat.Acc.id.secret\r\nHarness-Account: Acc\r\n%s\r\n"
    )
    body = '{"name":"\\u00e9"}'
    assert sent[0].decode() == "GET /gateway/v1/orgs?search_term=a%20b HTTP/1.1\r\n" + head % ("", "")
    assert sent[1].decode() == "PUT /gateway/v1/orgs/x HTTP/1.1\r\n" + (
        head % (f"Content-Length: {len(body)}\r\n", "Content-Type: application/json\r\n") + body
    )


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("GET", {"params": {"limit": 5}}),
        ("HEAD", {}),
        ("POST", {"json": {"name": "é" * 50}}),
        ("POST", {}),
        ("PUT", {"json": [], "headers": {"If-Match": "3", "accept": "text/plain"}}),
        ("PATCH", {}),
        ("DELETE", {}),
        ("OPTIONS", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "plain",
)
async def test_both_wires_send_the_same(
    fake: FakeHarness, connect: Connect, monkeypatch: pytest.MonkeyPatch, method: str, options: dict[str, Any]
) -> None:
    """What arrives does not depend on the wire: neither the address nor a header nor the body."""
    arrived: list[object] = []
    for direct in (True, False):
        monkeypatch.setattr("harness_async.transport.knows_aiohttp", lambda direct=direct: direct)
        client = connect()
        fake.faults.add(Body(b"{}"), times=1)
        await client.request(method, "/v1/orgs/default", **options)
        assert isinstance(client._session.sender.transport.at_home().wire, DirectWire if direct else SessionWire)
        came = fake.requests[-1]
        headers = sorted((name.lower(), value) for name, value in came.headers.items())
        arrived.append((came.method, came.path, came.query, headers, came.body))
    assert arrived[0] == arrived[1]


@pytest.mark.parametrize("value", ["a\r\nX-More: b", "a\n", "a\r", "a\0"])
@pytest.mark.parametrize("place", ["name", "value"])
async def test_a_header_that_would_end_itself_does_not_go_out(value: str, place: str) -> None:
    """A line break in a header is refused, and the error does not quote what may be the key."""
    headers = {value: "v"} if place == "name" else {"X-Note": value}
    wire = DirectWire(asyncio.get_running_loop())
    with pytest.raises(ValueError, match="line break") as caught:
        wire._write(Request("GET", URL("http://localhost"), "/", headers), "localhost")
    assert value not in str(caught.value)


@pytest.mark.parametrize("target", ["/a b", "/a\r\nHost: b", "/é", "/\0", "/a\tb"])
async def test_a_target_that_is_not_encoded_does_not_go_out(target: str) -> None:
    """What would end the request line is refused."""
    wire = DirectWire(asyncio.get_running_loop())
    with pytest.raises(ValueError, match="encoded"):
        wire._write(Request("GET", URL("http://localhost"), target, {}), "localhost")


# -- what comes back ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_wire")
@pytest.mark.parametrize("interim", ["100 Continue", "103 Early Hints\r\nLink: </x>; rel=preload"])
async def test_an_answer_on_the_way_is_not_the_answer(connect: Connect, serve: Serve, interim: str) -> None:
    """Informational answers are passed over, however many come."""
    client = connect(await serve(lambda _: 2 * f"HTTP/1.1 {interim}\r\n\r\n".encode() + ANSWER))
    for _ in range(2):
        assert (await client.organizations.get("default")).name == "Default"
    assert client.stats.requests == 2


@pytest.mark.usefixtures("each_wire")
async def test_another_protocol_is_an_error(connect: Connect, serve: Serve) -> None:
    """A server that switches to another protocol, which nobody asked for, has not answered."""
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    client = connect(await serve(lambda _: answer))
    with pytest.raises(APIStatusError) as caught:
        await client.organizations.get("default")
    assert caught.value.status == 101
    assert not connections_in_use(client)


async def test_https(connect: Connect, serve: Serve) -> None:
    """Requests go over TLS as well, one after the other over one connection."""
    client = connect(await serve(lambda _: ANSWER, tls=anonymous_tls(ssl.PROTOCOL_TLS_SERVER)))
    wire = client._session.sender.transport.at_home().wire
    assert isinstance(wire, DirectWire)
    await wire.connector.close()
    wire.connector = aiohttp.TCPConnector(ssl=anonymous_tls(ssl.PROTOCOL_TLS_CLIENT))
    used: set[Any] = set()
    for _ in range(3):
        assert (await client.organizations.get("default")).name == "Default"
        used |= open_connections(client)
    assert [one.transport.get_extra_info("cipher") is not None for one in used] == [True]


@pytest.mark.usefixtures("each_wire")
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_server_that_cannot_be_reached_in_time(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Where no connection comes about in time nothing was sent: any request is tried again, and is not ambiguous."""

    async def hang(*_: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", hang)
    client = connect(
        timeouts=Timeouts(connect=0.01), retry=RetryPolicy(initial_backoff=0.001, max_backoff=0.002, max_attempts=2)
    )
    with pytest.raises(RequestTimeoutError, match="No connection in time") as caught:
        await client.request(method, "/v1/orgs")
    assert len(caught.value.attempts) == 2
    assert not caught.value.ambiguous


async def test_a_connection_that_is_lost_before_it_is_used(
    fake: FakeHarness, client: HarnessClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that breaks before the request went out costs another attempt, even of a POST, and no doubt."""
    fake.faults.add(Body(b"{}"))
    connect = aiohttp.TCPConnector.connect
    broken: list[object] = []

    async def connect_and_lose(self: aiohttp.TCPConnector, *args: Any, **options: Any) -> Any:
        connection = await connect(self, *args, **options)
        if not broken:
            broken.append(connection)
            assert connection.transport is not None
            connection.transport.abort()
            await asyncio.sleep(0)
        return connection

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect_and_lose)
    response = await client.request("POST", "/v1/orgs", json={})
    assert [attempt.status for attempt in response.attempts] == [None, 200]
    assert len(fake.requests) == 1
    assert not connections_in_use(client)


# -- which connections stay open ---------------------------------------------------------------------------------------


@asynccontextmanager
async def running() -> AsyncIterator[tuple[FakeHarness, HarnessClient]]:
    """Run a server and a client of it, without pacing."""
    async with FakeHarness() as fake:
        fake.add_organization("default")
        async with HarnessClient(fake.api_key, base_url=fake.url, pacer=RatePacer(throttle=Throttle(None))) as client:
            yield fake, client


def test_a_connection_that_nobody_uses_is_closed_after_a_while() -> None:
    """Idle connections are closed in time, all of them, and the next call opens another."""

    async def main() -> None:
        async with running() as (fake, client):
            await asyncio.gather(*(client.organizations.get("default") for _ in range(5)))
            first = open_connections(client)
            assert len(first) == 5
            await asyncio.sleep(KEPT_OPEN - 1.0)
            assert open_connections(client) == first
            await asyncio.sleep(KEPT_OPEN + 1.0)
            assert open_connections(client) == set()
            await client.organizations.get("default")
            assert not first & open_connections(client)
            assert len(fake.requests) == 6

    run_jumping(main())


@pytest.mark.parametrize("when", ["with the answer", "later"])
async def test_what_comes_unasked_is_no_answer(connect: Connect, when: str) -> None:
    """What a server sends besides its answer is never taken for the answer to the next request."""
    stray = ANSWER.replace(b"Default", b"Strange")
    writers: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER + stray if when == "with the answer" else ANSWER)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        client = connect("http://{}:{}".format(*server.sockets[0].getsockname()))
        for number in range(3):
            assert (await client.organizations.get("default")).name == "Default"
            if when == "later":
                writers[number].write(stray)
                while not any(protocol.should_close for protocol in open_connections(client)):
                    await asyncio.sleep(0)
        assert len(writers) == client.stats.requests == 3
        await client.close()
        for writer in writers:
            writer.close()
            await writer.wait_closed()


@pytest.mark.usefixtures("each_wire")
async def test_closing_ends_the_calls_under_way(fake: FakeHarness, connect: Connect) -> None:
    """Calls that are under way when their client is closed end at once, and say why."""
    fake.faults.add(Delay(3600))
    client = connect()
    calls = [asyncio.create_task(client.organizations.get("default")) for _ in range(3)]
    while len(fake.requests) < len(calls):
        await asyncio.sleep(0)
    await client.close()
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, RuntimeError)
        assert "closed" in str(outcome)


def test_a_connection_in_use_stays_open() -> None:
    """As long as calls come one goes on being used, and those that a burst needed are closed."""

    async def main() -> None:
        async with running() as (_, client):
            await asyncio.gather(*(client.organizations.get("default") for _ in range(5)))
            used: set[Any] = set()
            for _ in range(10):
                await asyncio.sleep(KEPT_OPEN / 2)
                await client.organizations.get("default")
                used |= open_connections(client)
            assert len(open_connections(client)) == 1
            assert len(used) <= 5

    run_jumping(main())


async def test_a_connection_that_is_too_old_is_not_used(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection idle for longer than servers may keep it is given up rather than tried, timer or not."""
    client = connect()
    await client.organizations.get("default")
    first = open_connections(client)
    monkeypatch.setattr("harness_async.direct.KEPT_OPEN", 0.0)
    await client.organizations.get("default")
    assert not first & open_connections(client)
    assert client.stats.retries == 0


async def test_a_connection_that_the_server_will_close_is_not_kept(connect: Connect, serve: Serve) -> None:
    """Where an answer says that the connection ends with it, no request goes after it into the void."""
    client = connect(await serve(lambda _: ANSWER.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)))
    await client.organizations.get("default")
    assert open_connections(client) == set()


@pytest.mark.usefixtures("each_wire")
async def test_a_connection_that_the_server_has_closed_is_not_used(connect: Connect) -> None:
    """A connection that was closed while nobody used it costs nothing, not even a POST, which cannot be repeated."""

    async def answer_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        writer.close()

    async with await asyncio.start_server(answer_and_hang_up, "127.0.0.1", 0) as server:
        client = connect("http://{}:{}".format(*server.sockets[0].getsockname()))
        for _ in range(3):
            await client.request("POST", "/v1/orgs")
            while any(protocol.is_connected() for protocol in open_connections(client)):
                await asyncio.sleep(0)
        assert client.stats.requests == 3


async def test_a_client_that_is_forgotten_says_so(fake: FakeHarness) -> None:
    """Nothing keeps a client that was not closed from being collected, and its connections warn."""

    async def forget() -> None:
        client = HarnessClient(fake.api_key, base_url=fake.url)
        await client.organizations.get("default")
        del client
        gc.collect()

    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    with pytest.warns(ResourceWarning, match="Unclosed"):
        await forget()
    await asyncio.sleep(0)


# -- which wire a client gets ------------------------------------------------------------------------------------------


def test_the_aiohttp_that_this_was_written_for_is_known() -> None:
    """With aiohttp 3.14 requests go out directly."""
    if aiohttp.__version__.startswith("3.14."):
        assert knows_aiohttp()


def other(self: object, *, timer: object = None) -> None:
    """Take other arguments than what it stands for."""


@pytest.mark.parametrize(
    ("owner", "name"),
    [(ResponseHandler, "set_response_params"), (ResponseHandler, "read"), (aiohttp.TCPConnector, "connect")],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
@pytest.mark.parametrize("change", ["gone", "different"])
async def test_an_aiohttp_that_is_not_known_is_used_by_its_public_names(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, change: str
) -> None:
    """Where one of the inner parts is not as it was, a session of ours does the work."""
    unchecked = knows_aiohttp.__wrapped__
    with monkeypatch.context() as patch:
        if change == "different":
            patch.setattr(owner, name, staticmethod(lambda: None))
        else:
            holder = next(base for base in owner.__mro__ if name in vars(base))
            patch.delattr(holder, name)
        assert not unchecked()
    monkeypatch.setattr("harness_async.transport.knows_aiohttp", lambda: False)
    wire = make_wire(None)
    assert isinstance(wire, SessionWire)
    await wire.close()
    assert wire._http.closed
