"""One exchange over HTTP: the only place that knows aiohttp's client.

A `Transport` owns (or borrows) the HTTP session, makes it lazily in the running loop, sends one request and reads
the answer whole, and translates aiohttp's errors into `Broken`. It follows no redirect, retries nothing and waits for
nothing but the network: that is the session's business.

aiohttp repeats GET, HEAD, OPTIONS, PUT and DELETE once by itself when a connection breaks. In a session of ours that is
switched off and done here; in a borrowed one a client middleware sees each send. Either way the repetition is paced
and counted too, or forbidden where a request must not go out twice.
"""

from __future__ import annotations

import asyncio
import io
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeAlias

import aiohttp
from attrs import define, field, frozen
from yarl import URL

from harness_async._version import __version__
from harness_async.config import Timeouts
from harness_async.errors import HarnessError
from harness_async.retry import Trouble
from harness_async.watchdog import Watch, Watchdog

MAX_BODY = 64 * 1024 * 1024
"""Bytes of an answer, after decompression, that we are willing to hold; state blobs of workspaces are the largest
answers known. A full page of executions has about 28 kB."""

USER_AGENT = f"harness_async/{__version__} aiohttp/{aiohttp.__version__}"

_LARGE = 2**20
"""Bytes from which on aiohttp warns of bodies that are sent in one piece."""

_PERMANENT_DNS = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}

_INHERITED: list[object] = []
"""Connectors that came with a fork, kept from being collected: that would warn of connections left open."""

_under_watch: ContextVar[tuple[Watch, float | None]] = ContextVar("under_watch")
"""The watch over the exchange of this task, and how long the server may be silent."""

OnResend: TypeAlias = Callable[[], Awaitable[None]]


class Broken(Exception):  # noqa: N818 - never leaves the library; the session turns it into one of its errors
    """An exchange that brought no answer, or one that cannot be used."""

    def __init__(self, trouble: Trouble, text: str, *, timed_out: bool = False) -> None:
        super().__init__(text)
        self.trouble = trouble
        self.timed_out = timed_out


@frozen(eq=False)
class Request:
    """What goes out."""

    method: str
    url: URL
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = None
    repeatable: bool = True


@frozen(eq=False)
class Reply:
    """What came back, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@define(eq=False)
class _Home:
    """What belongs to one process and one event loop."""

    pid: int
    loop: asyncio.AbstractEventLoop
    places: asyncio.Semaphore
    http: aiohttp.ClientSession
    watchdog: Watchdog
    resends: bool
    """Whether aiohttp repeats by itself what was lost."""


@define(eq=False)
class Transport:
    """The HTTP session and the places for requests in flight. Safe for any number of tasks of one loop."""

    max_in_flight: int
    borrowed: aiohttp.ClientSession | None = field(default=None, repr=False)
    _home: _Home | None = field(default=None, init=False, repr=False)
    _closed: bool = field(default=False, init=False)

    @property
    def places(self) -> asyncio.Semaphore:
        """The places for requests in flight: the one queue there is, first come first served."""
        return self._at_home().places

    def _at_home(self) -> _Home:
        """Give the session of this loop, making it on first use.

        Raises:
            RuntimeError: The client was closed, or belongs to another event loop.
        """
        home = self._home
        loop = asyncio.get_running_loop()
        if self._closed:
            raise RuntimeError("This client is closed; make a new one")
        if home is not None and home.pid == os.getpid():
            if home.loop is not loop:
                raise RuntimeError(
                    "This client belongs to another event loop; make one client for each loop (asyncio.run)"
                )
            return home
        if home is not None and self.borrowed is None:
            # After a fork: the parent's sockets are none of ours, not even to close or to complain about.
            _INHERITED.append(home.http.connector)
            home.http.detach()
        http = self._make_session() if self.borrowed is None else self.borrowed
        resends = True
        if self.borrowed is None and hasattr(http, "_retry_connection"):
            # aiohttp's own test client sets it too; a middleware in its place costs 15 us a page of some 350.
            http._retry_connection, resends = False, False  # noqa: SLF001
        self._home = _Home(os.getpid(), loop, asyncio.Semaphore(self.max_in_flight), http, Watchdog(loop), resends)
        return self._home

    def _make_session(self) -> aiohttp.ClientSession:
        # No limit in the pool: places are handed out here, and the clock of an attempt starts when it is sent.
        # No cookies: the key is all there is, and a sign-in page's cookies must not change later answers.
        return aiohttp.ClientSession(
            connector=_Connector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT},
        )

    async def close(self) -> None:
        """Close the session if it is ours; later use is an error. May be called twice, and in any loop."""
        self._closed = True
        home, self._home = self._home, None
        if home is not None:
            home.watchdog.close()
        if home is not None and self.borrowed is None and home.pid == os.getpid():
            await home.http.close()

    def watch(self, deadline: float | None) -> Watch:
        """Make the watch over a call that is about to be made."""
        return Watch(self._at_home().watchdog, deadline)

    async def exchange(self, request: Request, timeouts: Timeouts, on_resend: OnResend, watch: Watch) -> Reply:
        """Send a request once and read the answer whole; `on_resend` is awaited before it is sent again.

        Raises:
            Broken: No usable answer came.
        """
        home = self._at_home()
        options: dict[str, Any] = {
            "headers": request.headers,
            "allow_redirects": False,
            "raise_for_status": False,
            "auto_decompress": True,
            "timeout": _client_timeout(timeouts, reads=self.borrowed is not None),
        }
        if request.method != "GET" or request.body is not None:
            options |= {"data": _data(request.body), "skip_auto_headers": ("Content-Type",)}
        if home.resends:
            options["middlewares"] = self._watch_resends(home.http, request, on_resend)
        broken: Broken | None = None
        cause: Exception | None = None
        mark = _under_watch.set((watch, timeouts.read))
        try:
            async with await self._open(home, request, options, on_resend, watch) as response:
                return Reply(response.status, response.headers, await _read(response, watch))
        except asyncio.CancelledError:
            if not watch.was_silent():
                raise
            broken = Broken(Trouble.LOST, "no answer in time", timed_out=True)
        except HarnessError:  # from `on_resend`; some of ours are OSErrors too
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            broken = translate(error)
            # Errors about an answer hold the request's headers, the key among them, and quote what the server sent.
            cause = None if isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError) else error
        finally:
            watch.rest()
            _under_watch.reset(mark)
        # Raised here, so that it has no context but the one it is given.
        raise broken from cause

    async def _open(
        self, home: _Home, request: Request, options: Mapping[str, Any], on_resend: OnResend, watch: Watch
    ) -> aiohttp.ClientResponse:
        """Send and wait for the head of the answer.

        What was lost on a connection is sent once more at once, if it may be: a server closes idle connections
        whenever it likes, and the next request finds out.
        """
        try:
            return await home.http.request(request.method, request.url, **options)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            if home.resends or not request.repeatable:
                raise
            watch.rest()
        await on_resend()
        return await home.http.request(request.method, request.url, **options)

    def _watch_resends(
        self, http: aiohttp.ClientSession, request: Request, on_resend: OnResend
    ) -> tuple[aiohttp.ClientMiddlewareType, ...]:
        """Make middlewares that see each send of a borrowed session, which resends by itself."""
        sends = 0

        async def count(sent: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            nonlocal sends
            sends += 1
            if sends > 1:
                if not request.repeatable:
                    raise Broken(Trouble.LOST, "the connection was lost")
                await on_resend()
            return await handler(sent)

        # Middlewares of a request take the place of the session's, so the borrowed session's own ones are kept; ours
        # comes last, next to the wire. aiohttp has no public name for them.
        return (*getattr(http, "_middlewares", ()), count)


class _Connector(aiohttp.TCPConnector):
    """A connector that tells the watch when there is a connection: from then on the server has its time to answer."""

    async def connect(self, *args: Any, **options: Any) -> Any:
        """Wait for a connection."""
        connection = await super().connect(*args, **options)
        watch, read = _under_watch.get()
        watch.listen(read)
        return connection


@cache
def _client_timeout(timeouts: Timeouts, *, reads: bool) -> aiohttp.ClientTimeout:
    """Make aiohttp's time-outs; that of reading is for borrowed sessions, whose connections nobody tells us of."""
    read = timeouts.read if reads else None
    return aiohttp.ClientTimeout(total=None, connect=None, sock_connect=timeouts.connect, sock_read=read)


def _data(body: bytes | None) -> bytes | io.BytesIO | None:
    """Give the body as aiohttp likes it: it sends large ones in pieces, from a file."""
    return body if body is None or len(body) < _LARGE else io.BytesIO(body)


async def _read(response: aiohttp.ClientResponse, watch: Watch) -> bytes:
    """Read the body, but no more of it than we are willing to hold."""
    chunks: list[bytes] = []
    size = 0
    content = response.content
    while not content.at_eof():
        watch.hear()
        chunk = await content.readany()
        size += len(chunk)
        if size > MAX_BODY:
            response.close()
            raise Broken(Trouble.OVERSIZED, f"the answer is larger than {MAX_BODY // 2**20} MiB")
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def translate(error: Exception) -> Broken:  # noqa: PLR0911 - a table
    """Say what an error of aiohttp's means for the request: was it sent, may it help to try again."""
    text = str(error) or type(error).__name__
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch():
            return Broken(Trouble.UNUSABLE, f"the connection is not secure: {text}")
        case aiohttp.InvalidURL() | aiohttp.ClientHttpProxyError():
            return Broken(Trouble.UNUSABLE, text)
        case aiohttp.ClientConnectorDNSError() if getattr(error.os_error, "errno", None) in _PERMANENT_DNS:
            return Broken(Trouble.UNUSABLE, f"the host is unknown: {text}")
        case aiohttp.ConnectionTimeoutError():
            return Broken(Trouble.NOT_SENT, "no connection in time", timed_out=True)
        case aiohttp.ClientConnectorError():
            return Broken(Trouble.NOT_SENT, text)
        case TimeoutError():
            return Broken(Trouble.LOST, "no answer in time", timed_out=True)
        case aiohttp.ClientPayloadError() | aiohttp.ClientResponseError():
            return Broken(Trouble.CUT, f"the answer was cut off or garbled: {text}")
        case _:
            return Broken(Trouble.LOST, f"the connection was lost: {text}")
