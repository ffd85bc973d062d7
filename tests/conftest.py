"""Fixtures of all tests: a small server, clients of it, a raw server, and the check that nothing stays open."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import pytest

from harness_async import HarnessClient, RateLimit, RatePacer, RetryPolicy
from harness_async.http.rate_limit import RateLimiter
from harness_async.testing import FakeHarness

RawHandler: TypeAlias = Callable[[bytes], bytes | None]
"""Receives a raw request and returns the raw response; b"" stays silent, None closes the connection."""


@pytest.fixture(scope="session", autouse=True)
def _cheap_collections() -> None:
    """Exclude imported modules from the garbage collections after each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_proxies() -> None:
    """Send requests to servers on this machine without the proxies of its environment."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]


@pytest.fixture(autouse=True)
def _nothing_left_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves tasks, errors of callbacks, connections or files behind."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_clean_loop")
    yield
    # What is still open now warns when it is collected, and warnings are errors.
    gc.collect()
    # What is left is used on, such as modules imported meanwhile: the next collection does not have to visit it.
    gc.freeze()


@pytest.fixture
async def _clean_loop() -> AsyncIterator[None]:
    """Fail a test whose loop has tasks left at its end, or errors that were not handled."""
    loop = asyncio.get_running_loop()
    unhandled: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: unhandled.append(context))
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    loop.set_exception_handler(None)
    assert not left, f"tasks left: {left}"
    assert not unhandled, f"errors that were not handled: {unhandled}"


@pytest.fixture
async def fake() -> AsyncIterator[FakeHarness]:
    """A running server with two organizations, three projects and three executions."""
    server = FakeHarness()
    server.add_organization("default", "Default", description="The first", tags={"team": "core"})
    server.add_organization("labs", "Labs")
    server.add_project("default", "payments", "Payments", color="#0063f7", modules=["CD", "IACM"])
    server.add_project("default", "billing", "Billing")
    server.add_project("labs", "rockets", "Rockets")
    for number, status in enumerate(("success", "failure", "none")):
        server.add_execution(
            "default",
            "payments",
            created=1_700_000_000_000 + number,
            status=status,
            pipeline_execution_id=f"run{number}",
            pipeline_stage_id="stage",
        )
    async with server:
        yield server


@pytest.fixture
def quick() -> RetryPolicy:
    """A policy that retries almost at once."""
    return RetryPolicy(initial_backoff=0.001, max_backoff=0.002)


@pytest.fixture
def make_pacer() -> Callable[[], RatePacer]:
    """Return a function that creates pacers whose gate closes for a hundredth of a second."""

    def make() -> RatePacer:
        return RatePacer(limiter=RateLimiter(RateLimit(100_000, 1.0), cooldowns=(0.01,), outage_pauses=(0.01,)))

    return make


@pytest.fixture
async def connect(
    fake: FakeHarness, quick: RetryPolicy, make_pacer: Callable[[], RatePacer]
) -> AsyncIterator[Callable[..., HarnessClient]]:
    """Return a function that creates clients of the server, or of another address; they are closed after the test."""
    clients: list[HarnessClient] = []

    def make(url: str | None = None, **options: Any) -> HarnessClient:
        options = {"api_key": fake.api_key, "retry": quick, "pacer": make_pacer(), **options}
        client = HarnessClient(base_url=fake.url if url is None else url, **options)
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
def client(connect: Callable[..., HarnessClient]) -> HarnessClient:
    """A client of the server."""
    return connect()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Serve the bytes that a function returns for each request, for what no proper server sends. Returns the URL."""
    servers: list[asyncio.Server] = []
    handlers: set[asyncio.Task[Any]] = set()

    async def start(handle_request: RawHandler, *, tls: ssl.SSLContext | None = None) -> str:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            handlers.add(task)
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = re.search(rb"(?i)content-length: (\d+)", head)
                    response = handle_request(head + await reader.readexactly(int(length[1]) if length else 0))
                    if response is None:
                        break
                    writer.write(response)
                    await writer.drain()
                    if b"connection: close" in response.partition(b"\r\n\r\n")[0].lower():
                        break
            except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                pass  # the client went away, or the test is over
            finally:
                writer.close()
                handlers.discard(task)

        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
        servers.append(server)
        host, port = server.sockets[0].getsockname()
        return f"{'http' if tls is None else 'https'}://{host}:{port}"

    yield start
    for server in servers:
        server.close()
    tasks = list(handlers)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for server in servers:
        await server.wait_closed()
    for _ in range(3):  # closed connections are let go in the next turns of the loop
        await asyncio.sleep(0)
