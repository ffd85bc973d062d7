"""The transport: sessions, bodies, connections, and the errors of aiohttp."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
from collections.abc import Iterator
from typing import Any

import aiohttp
import aiohttp.abc
import pytest

from harness_async import (
    HarnessClient,
    RequestTimeoutError,
    RetryPlanned,
    Timeouts,
    TransportError,
    UnexpectedResponseError,
)
from harness_async.testing import Body, CompressedZeros, Delay, FakeHarness, SlowBody, run_in_thread
from tests.support.connections import connections_in_use, is_idle
from tests.support.http import ORG, Connect, Serve, quick, response


@pytest.fixture
def threaded() -> Iterator[FakeHarness]:
    """A server in another thread, for tests with their own loops."""
    fake = FakeHarness()
    fake.add_organization("default")
    with run_in_thread(fake):
        yield fake


async def test_connections_are_used_again(fake: FakeHarness, client: HarnessClient) -> None:
    """Calls one after another go over one connection."""
    used: set[object] = set()
    fake.before_request = lambda _: used.update(connections_in_use(client))
    for _ in range(5):
        await client.organizations.get("default")
    assert len(used) == 1


async def test_cookies_are_not_kept(connect: Connect, serve: Serve) -> None:
    """A cookie of a response is not sent with the next request."""
    seen: list[bytes] = []

    def respond(request: bytes) -> bytes:
        seen.append(request)
        return response(ORG, "Set-Cookie: session=stolen; Path=/")

    url = (await serve(respond)).replace("127.0.0.1", "localhost")  # bare addresses have no cookies anyway
    client = connect(url)
    await client.organizations.get("default")
    await client.organizations.get("default")
    assert len(seen) == 2
    assert not any(b"cookie" in request.lower() for request in seen)


def test_use_from_another_loop(threaded: FakeHarness) -> None:
    """A client belongs to the loop of its first call, and use in another loop is an error."""
    client = HarnessClient(threaded.api_key, base_url=threaded.url)

    async def use() -> None:
        await client.organizations.list().collect()

    with asyncio.Runner() as first:
        first.run(use())
        sent = len(threaded.requests)
        with asyncio.Runner() as second, pytest.raises(RuntimeError, match="another event loop"):
            second.run(use())
        assert len(threaded.requests) == sent
        first.run(use())
        first.run(client.close())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_fork(threaded: FakeHarness) -> None:
    """A forked child that uses its parent's client gets an error with the fix, and the parent continues."""

    async def use(client: HarnessClient) -> None:
        await client.organizations.get("default")

    with asyncio.Runner() as runner:
        client = HarnessClient(threaded.api_key, base_url=threaded.url)
        runner.run(use(client))
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            try:
                asyncio.run(use(client))
            except RuntimeError as error:
                os._exit("create the client in the child process" not in str(error))
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        runner.run(use(client))
        runner.run(client.close())
    assert len(threaded.requests) == 2


@pytest.mark.parametrize(
    ("size", "taken"), [(1000, True), (1001, False), (50_000, False)], ids=["just-fits", "one-more", "far-more"]
)
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
async def test_oversized_body(
    fake: FakeHarness, client: HarnessClient, monkeypatch: pytest.MonkeyPatch, size: int, taken: bool, zipped: bool
) -> None:
    """A body larger than the size limit, counted after decompression, is an error and is not retried."""
    monkeypatch.setattr("harness_async.http.transport.MAX_BODY", 1000)
    fake.faults.add(CompressedZeros(size) if zipped else Body(bytes(size), "application/octet-stream"))
    if taken:
        assert (await client.request("GET", "/v1/blob")).body == bytes(size)
    else:
        with pytest.raises(UnexpectedResponseError, match="exceeds") as caught:
            await client.request("GET", "/v1/blob")
        assert len(caught.value.attempts) == 1
        assert not caught.value.ambiguous
    assert len(fake.requests) == 1
    fake.faults.clear()
    assert (await client.organizations.get("default")).identifier == "default"


async def test_gzip_bomb_is_not_unpacked(
    fake: FakeHarness, client: HarnessClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that decompresses to far more than the size limit is not read to its end."""
    monkeypatch.setattr("harness_async.http.transport.MAX_BODY", 100_000)
    fake.faults.add(CompressedZeros(64 * 1024 * 1024))
    taken: list[int] = []
    readany = aiohttp.StreamReader.readany

    async def counted(self: aiohttp.StreamReader) -> bytes:
        chunk = await readany(self)
        taken.append(len(chunk))
        return chunk

    monkeypatch.setattr(aiohttp.StreamReader, "readany", counted)
    with pytest.raises(UnexpectedResponseError, match="exceeds"):
        await client.request("GET", "/v1/blob")
    assert sum(taken) < 4 * 1024 * 1024


WHOLE = gzip.compress(ORG)


async def test_connections_after_bad_responses(connect: Connect, serve: Serve) -> None:
    """However a request ends, its connection is closed or back in the pool, and its place is free."""
    responses = [
        response(ORG, "Connection: close", length=500),
        response(WHOLE[:40], "Content-Encoding: gzip"),
        b"HTTP/1.1 2OO OK\r\n\r\n",
        response(b"oops", status="500 No"),
    ]
    client = connect(await serve(lambda _: responses.pop(0) if responses else response(ORG)), max_in_flight=1)
    await client.organizations.get("default")
    assert is_idle(client)


class Resolver(aiohttp.abc.AbstractResolver):
    """Resolves every host to this machine, after a few failures."""

    def __init__(self, *failures: int) -> None:
        self.failures = list(failures)
        self.calls = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        """Fail, or return the loopback address."""
        self.calls += 1
        if self.failures:
            raise socket.gaierror(self.failures.pop(0), "made up")
        return [
            {
                "hostname": host,
                "host": "127.0.0.1",
                "port": port,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
        ]

    async def close(self) -> None:
        """Close nothing."""


def named(url: str) -> str:
    """Replace the address of a local server with a name that only a `Resolver` knows."""
    return url.replace("127.0.0.1", "harness.localhost")


async def test_unknown_host(fake: FakeHarness, connect: Connect) -> None:
    """An unknown host fails at once, and is not ambiguous."""
    resolver = Resolver(*[socket.EAI_NONAME] * 5)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver)) as http_session:
        client = connect(named(fake.url), http_session=http_session)
        with pytest.raises(TransportError, match="unknown") as caught:
            await client.organizations.get("default")
        assert len(caught.value.attempts) == 1
        assert not caught.value.ambiguous
    assert resolver.calls == 1


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_name_server_that_is_down_for_now(fake: FakeHarness, connect: Connect, method: str) -> None:
    """A temporary DNS failure is retried for every method, because nothing was sent."""
    fake.faults.add(Body(b"{}"))
    resolver = Resolver(socket.EAI_AGAIN, socket.EAI_AGAIN)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver)) as http_session:
        client = connect(named(fake.url), http_session=http_session)
        response = await client.request(method, "/v1/orgs/x")
    assert [attempt.status for attempt in response.attempts] == [None, None, 200]
    assert len(fake.requests) == 1


def unused_port() -> int:
    """Return a port without a server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_connection_refused(connect: Connect, method: str) -> None:
    """A refused connection is a `TransportError` after all attempts, and is not ambiguous."""
    client = connect(f"http://127.0.0.1:{unused_port()}", retry=quick(3))
    with pytest.raises(TransportError) as caught:
        await client.request(method, "/v1/orgs")
    error = caught.value
    assert not isinstance(error, RequestTimeoutError)
    assert not error.ambiguous
    assert len(error.attempts) == 3
    assert all(attempt.status is None and attempt.error for attempt in error.attempts)
    assert error.method == method
    assert isinstance(error.__cause__, Exception)


async def test_tls_refused(fake: FakeHarness, connect: Connect) -> None:
    """A server without TLS behind an https URL fails at once."""
    planned: list[object] = []
    client = connect(fake.url.replace("http://", "https://"), on_event=planned.append)
    with pytest.raises(TransportError, match="not secure") as caught:
        await client.organizations.get("default")
    assert len(caught.value.attempts) == 1
    assert not any(isinstance(event, RetryPlanned) for event in planned)
    assert fake.requests == []


async def test_read_timeout(fake: FakeHarness, connect: Connect) -> None:
    """A response that does not arrive in time is retried; the last attempt raises `RequestTimeoutError`."""
    fake.faults.add(Delay(3600))
    client = connect(timeouts=Timeouts(read=0.02), retry=quick(2))
    with pytest.raises(RequestTimeoutError) as caught:
        await client.organizations.get("default")
    assert isinstance(caught.value, TimeoutError)
    assert len(caught.value.attempts) == 2
    assert "in time" in str(caught.value.attempts[0].error)


async def test_read_timeout_is_for_the_next_bytes(fake: FakeHarness, connect: Connect) -> None:
    """The read timeout counts from the last bytes, so that a slow response is read to its end."""
    fake.faults.add(SlowBody(chunk_size=40, pause=0.005))
    client = connect(timeouts=Timeouts(read=5.0))
    assert (await client.organizations.get("default")).name == "Default"
    assert len(fake.requests) == 1


async def test_connection_that_was_closed_while_idle(connect: Connect, serve: Serve) -> None:
    """A lost keep-alive connection costs a GET one retry without a wait, and a POST is not sent twice."""
    seen: list[bytes] = []

    def respond(request: bytes) -> bytes | None:
        seen.append(request)
        return response(ORG) if len(seen) % 2 else None  # every second request on a connection finds it closed

    planned: list[Any] = []
    client = connect(await serve(respond), on_event=planned.append)
    await client.organizations.get("default")
    await client.organizations.get("default")
    assert len(seen) == client.stats.requests == 3
    assert [event.wait for event in planned if isinstance(event, RetryPlanned)] == [0.0]
    with pytest.raises(TransportError) as caught:
        await client.request("POST", "/v1/orgs", json={})
    assert caught.value.ambiguous
    assert len(seen) == 4
