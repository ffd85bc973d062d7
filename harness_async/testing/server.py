"""The server: an `Account` on a loopback port, with faults and a rate limit."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self, Unpack

from aiohttp import web

from harness_async.testing import api, responses
from harness_async.testing.account import Account
from harness_async.testing.exchange import Exchange
from harness_async.testing.recorded import RecordedRequest
from harness_async.testing.rules import Faults
from harness_async.testing.seeding import seed_account

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from harness_async.testing.account import Options, ServerOptions
    from harness_async.testing.limits import Limiter
    from harness_async.testing.responses import FakeResponse

_SHUTDOWN_TIMEOUT = 0.05  # seconds; the handlers have been cancelled before


class FakeHarness(Account):
    """The Harness API on a loopback port, in this process and on the running loop.

    `async with FakeHarness() as fake` serves until the block ends. The data is added with the methods of
    `Account` or by `seeded`; those methods may be called from any thread. `requests` holds every request that
    came in, whole.

    The server listens at `url`, which is made of *host*, *port* (0 for any free one) and *prefix* ("/gateway"
    serves everything below that path). It takes `api_key` and `account_id`; its time is `clock()` in seconds.
    The other options are attributes that may be changed while it runs:

    - `order`: of execution lists. "newest" first, "oldest" first, "hash" (unrelated to time, but stable), or
      "random_ties" (newest first, rows of equal `created` in a new order for each request).
    - `totals`: which headers tell the totals of IaCM lists. "iacm", "v1", "both" or "none"; the v1 lists send
      theirs unless it is "none".
    - `end_time`: whether a row created at that very time is within it. "inclusive", "exclusive", or "ignored"
      (then `start_time` is ignored too). A start time always includes.
    - `max_page_size`: pages silently hold no more rows than this, and are counted in that size.
    - `past_end`: what a page beyond the last answers, "empty" or a status.
    - `before_request`: called with each authenticated request before it is answered; may change the data.
    - `between_count_and_rows`: called in list requests after the total is counted, before the rows are taken.
    - `rate_limit`: an object of `limits`, asked at `rate_clock()` for each authenticated request.
    - `faults`: what goes wrong, see `Faults.add`.
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
        self._runner: web.ServerRunner | None = None
        self._address: tuple[str, int] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    def seeded(cls, projects: int = 20, executions: int = 500, seed: int = 1, **options: Unpack[ServerOptions]) -> Self:
        """Make a server with data of its own: the same for the same seed, except that it ends now.

        *executions* is the total, spread very unevenly over the projects and over the last 90 days.
        """
        fake = cls(**options)
        seed_account(fake, projects=projects, executions=executions, seed=seed)
        return fake

    @property
    def url(self) -> str:
        """Where the server listens, with the prefix, no slash at the end; RuntimeError if it does not."""
        if self._address is None:
            raise RuntimeError("this FakeHarness is not running: use `async with FakeHarness() as fake`")
        host, port = self._address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{self.prefix}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Begin to listen; OSError if the port is taken."""
        if self._runner is not None:
            raise RuntimeError("this FakeHarness is running already")
        # Handlers are cancelled when their client goes away, else a delayed answer would outlive it.
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_TIMEOUT)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self._address = runner.addresses[0][:2]

    async def close(self) -> None:
        """Stop: cancel what is being answered, close every connection. Does nothing when not running."""
        runner, self._runner, self._address = self._runner, None, None
        if runner is None:
            return
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await runner.cleanup()
        # Closed connections are let go in the next turns of the loop; nothing is left then to warn about.
        for _ in range(3):
            await asyncio.sleep(0)

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
        clips = [fault.clip for fault in modifiers if fault.clip is not None]

        def execute() -> FakeResponse:
            with self.lock:
                response = api.respond(self, recorded, path, min(clips, default=None))
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
        error = api.authenticate(self, recorded, path)
        if error is not None:
            return error
        if self.before_request is not None:
            self.before_request(recorded)
        if self.rate_limit is not None and not self.rate_limit.allow(self.rate_clock()):
            return responses.html_page(429, "Too Many Requests")
        return None
