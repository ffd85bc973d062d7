"""The server: an `Account` on a loopback port, with faults and a rate limit."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Self, Unpack

from aiohttp import web

from harness_async.testing import responses
from harness_async.testing.api import routes
from harness_async.testing.api.call import PageOptions
from harness_async.testing.data.account import Account
from harness_async.testing.data.seed import seed_account
from harness_async.testing.exchange import Exchange
from harness_async.testing.recorded import RecordedRequest
from harness_async.testing.rules import Faults

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

    from harness_async.testing.data.account import Options, ServerOptions
    from harness_async.testing.limits import Limiter
    from harness_async.testing.responses import FakeResponse

_SHUTDOWN_TIMEOUT = 0.05  # seconds; the handlers have been cancelled before


class FakeHarness(Account):
    """The Harness API on a loopback port, in this process and on the running event loop.

    `async with FakeHarness() as fake` runs the server until the block ends. `requests` holds every request that
    was received. Data is added by `seeded`, or with methods such as `add_project`, `add_execution` and
    `add_workspace`. They may be called from any thread. Rows of all kinds are in collections, such as
    "executions", "workspaces" or "pipeline_executions": `add_rows` adds many, `rows` returns them, `change` and
    `remove` take a row and the name of its collection.

    The server listens at `url`, which consists of *host*, *port* (0 for any free one) and *prefix* ("/gateway"
    serves everything below that path). It accepts `api_key` and `account_id`. Its time is `clock()` in seconds.
    The other options are attributes that may be changed while it runs:

    - `order`: the order of lists that are not sorted by the request. "newest" first, or as documented for the
      list; "oldest" first; "hash" (unrelated to time, but stable); "random_ties" (rows with equal sort values
      change places with each request, also where the request sorts).
    - `totals`: the headers with the totals of IaCM lists. "iacm", "v1", "both" or "none". With "none", the other
      lists report no totals either.
    - `end_time`: whether a time range includes its end. "inclusive", "exclusive", or "ignored", which ignores
      its start too. The start is always included.
    - `max_page_size`: pages silently hold no more rows than this, and are counted in that size.
    - `past_end`: the response to a page behind the last one, "empty" or a status.
    - `case_sensitive`: whether identifiers of organizations and projects that differ only in case are different.
      Responses have the identifiers as they were added.
    - `not_found`: the status for missing organizations, projects, services and environments of v1 and
      NextGen. 404, or 400 with the code `RESOURCE_NOT_FOUND_EXCEPTION`.
    - `v1_max_limit`, `v1_over_limit`: the maximum `limit` of v1 lists, unless their own is lower, and whether a
      larger one is rejected ("refuse") or silently lowered ("clip").
    - `iacm_max_limit`, `iacm_over_limit`: the same for IaCM lists, whose documentation differs: 100 or 1000.
    - `ceiling`: pipeline executions behind this position cannot be listed. None for no ceiling.
    - `before_request`: called with each authenticated request before it is executed. It may change the data.
    - `between_count_and_rows`: called in each list request after the total is counted, before the rows are read.
    - `rate_limit`: a limiter of `limits`, called with `rate_clock()` for each authenticated request.
    - `faults`: the faults, see `Faults.add`.
    - `ssl_context`: serves https with the certificate of this context, which is read when the server starts.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, prefix: str = "", **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self.host = host
        self.port = port
        self.prefix: str = prefix.rstrip("/")
        self.requests: list[RecordedRequest] = []
        self.faults: Faults = Faults()
        self.rate_limit: Limiter | None = None
        self.rate_clock: Callable[[], float] = time.monotonic
        self.ssl_context: ssl.SSLContext | None = None
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._address: tuple[str, int] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    def seeded(cls, projects: int = 20, executions: int = 500, seed: int = 1, **options: Unpack[ServerOptions]) -> Self:
        """Create a server with realistic data. The same seed has the same data, except that it ends now.

        *executions* is the total number of IaCM executions, which are distributed unevenly over the projects and
        over the last 90 days. Workspaces, activities, pipelines and the other rows match them.
        """
        fake = cls(**options)
        seed_account(fake, projects=projects, executions=executions, seed=seed)
        return fake

    @property
    def url(self) -> str:
        """The base URL with the prefix, without a trailing slash. Raises RuntimeError if the server is not running."""
        if self._address is None:
            raise RuntimeError("this FakeHarness is not running: use `async with FakeHarness() as fake`")
        host, port = self._address
        scheme = "http" if self.ssl_context is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{self.prefix}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Start to listen. Raises OSError if the port is taken."""
        if self._listener is not None:
            raise RuntimeError("this FakeHarness is already running")
        # Handlers are cancelled when the client disconnects, so that no delayed response outlives it.
        self._server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._server, self.host, self.port, ssl=self.ssl_context)
        self._address = self._listener.sockets[0].getsockname()[:2]

    async def close(self) -> None:
        """Cancel the requests in progress and close all connections. Does nothing if the server is not running."""
        server, self._server = self._server, None
        listener, self._listener, self._address = self._listener, None, None
        if server is None or listener is None:
            return
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _close_listener(listener)
        await server.shutdown(_SHUTDOWN_TIMEOUT)
        await _run_pending()  # closed connections are released

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler always runs in a task
        self._tasks.add(task)
        try:
            path, _, query = request.raw_path.partition("?")
            recorded = RecordedRequest(request.method, path, query, request.headers, await request.content.read())
            self.requests.append(recorded)
            return await self._exchange(request, recorded)
        finally:
            self._tasks.discard(task)

    async def _exchange(self, request: web.BaseRequest, recorded: RecordedRequest) -> web.StreamResponse:
        """Check the key, call the hook, check the rate limit, select the faults, and respond."""
        path = recorded.path.removeprefix(self.prefix)
        rejection = self._reject(recorded, path)
        if rejection is not None:
            return await Exchange(request, recorded, lambda: rejection).send(rejection)
        replacement, modifiers = self.faults.select(recorded)
        options = PageOptions(
            min((fault.clip for fault in modifiers if fault.clip is not None), default=None),
            any(fault.ignore_page for fault in modifiers),
            any(fault.shuffle for fault in modifiers),
        )

        def execute() -> FakeResponse:
            with self.lock:
                response = routes.respond(self, recorded, path, options)
            for fault in modifiers:
                response = fault.apply(response)
            return response

        exchange = Exchange(request, recorded, execute)
        if replacement is None:
            exchange.response()
        delay = sum(fault.delay for fault in modifiers)
        if delay:
            await asyncio.sleep(delay)
        return await (exchange.send(exchange.response()) if replacement is None else replacement.respond(exchange))

    def _reject(self, recorded: RecordedRequest, path: str) -> FakeResponse | None:
        """Return the error for a request that does not reach the API, else None."""
        if not recorded.path.startswith(f"{self.prefix}/"):
            return responses.legacy_error(404, f"No such resource: {recorded.path}")
        error = routes.authenticate(self, recorded, path)
        if error is not None:
            return error
        if self.before_request is not None:
            self.before_request(recorded)
        if self.rate_limit is not None and not self.rate_limit.allow(self.rate_clock()):
            return responses.html_page(429, "Too Many Requests")
        return None


async def _close_listener(listener: asyncio.Server) -> None:
    """Stop to listen. An `asyncio.Server` that is closed loses the connections that it accepted just before."""
    loop = asyncio.get_running_loop()
    for each in listener.sockets:
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.remove_reader(each)
    await _run_pending()  # those that were accepted become known to the server
    listener.close()


async def _run_pending() -> None:
    """Let callbacks run that are due, and those that they schedule."""
    for _ in range(3):
        await asyncio.sleep(0)
