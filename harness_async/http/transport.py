"""HTTP with `aiohttp.ClientSession`. No other module uses aiohttp's client; `failures` knows its exceptions.

`Transport.send` performs one exchange: it sends a request once and reads the response to its end. It follows no
redirect, keeps no cookie, and never repeats a request. aiohttp would resend an idempotent request by itself when a
kept-alive connection turns out to be closed; a client middleware prevents that, so that each send is paced, counted
and decided on by the caller. A borrowed session keeps its own middlewares, proxies, certificates and tracing, and with
them aiohttp's single resend of GET, HEAD, OPTIONS, PUT and DELETE.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import math
import os
import socket
import ssl
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from contextvars import ContextVar
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from attrs import define, field
from yarl import URL

from harness_async._version import __version__
from harness_async.config import Proxy, Timeouts
from harness_async.http.content_encoding import EncodingError, create_decompressor
from harness_async.http.failures import TransportFailure, as_cause, translate
from harness_async.http.retry import FailureKind

logger: logging.Logger = logging.getLogger("harness_async.http")

MAX_BODY = 64 * 1024 * 1024
"""Bytes of a response body, after decompression. The state of a workspace is the largest known response; a full page
of executions has about 28 kB."""

MAX_HEADER_FIELD = 64 * 1024
"""Bytes of one header field or of the status line."""

USER_AGENT = f"harness_async/{__version__} aiohttp/{aiohttp.__version__}"

CLOSED = "This HarnessClient was closed during a request"

_PROXY_AUTHENTICATION_REQUIRED = 407
_LARGE_BODY = 2**20
"""aiohttp warns about larger bodies that are not passed as a file."""

_KINDS_BEFORE_SENDING = {
    FailureKind.LOST: FailureKind.NOT_SENT,
    FailureKind.READ_TIMEOUT: FailureKind.NOT_SENT,
    FailureKind.CUT: FailureKind.NOT_SENT,
    FailureKind.GARBLED: FailureKind.UNUSABLE,
}
"""What a failure means where there was no connection to the server yet, because a proxy or TLS failed."""

_AIOHTTP_ERRORS = (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError)


@define(eq=False)
class Request:
    """A request, ready to be sent."""

    method: str
    url: URL = field(repr=False)  # that of a redirect may contain the key
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    repeatable: bool = True
    """Whether sending it twice has the same effect as sending it once."""

    new_connection: bool = False
    """Whether to open a connection for this request alone."""

    is_sent: bool = field(default=False, init=False)
    """Whether the latest attempt had a connection to the server, so that the request may have been sent."""


@define(eq=False)
class RawResponse:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=lambda body: f"<{len(body)} bytes>")


def parse_date(text: str | None) -> float | None:
    """Parse an HTTP date to seconds since 1970; None where it is missing or malformed."""
    try:
        moment = parsedate_to_datetime(text or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


MAX_CLOCK_SKEW = 300.0
"""Seconds by which the clocks of server and client may differ before neither is believed alone."""


@define(eq=False)
class ServerClock:
    """The server's clock according to the `Date` headers of its responses, which are measurements of varying quality.

    A `Date` is in whole seconds and set between sending and receiving, so each response bounds the offset from both
    sides. Responses of a cache (`Age`) are ignored. A `Date` that differs from the local clock by more than
    `MAX_CLOCK_SKEW` is not believed, and neither is the local clock then: `latest` and `certain` are the later and the
    earlier of the two. The local clock is read once and continued by the monotonic one.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    skew: float | None = field(default=None, init=False)
    """Seconds by which the last disbelieved `Date` differed from the local clock; None where none did."""

    has_responses: bool = field(default=False, init=False)
    """Whether any response arrived, with a `Date` or without one."""

    _low: float = field(default=-math.inf, init=False)  # bounds of the offset
    _high: float = field(default=math.inf, init=False)
    _text: str | None = field(default=None, init=False)
    _anchor: float = field(init=False)  # local time at monotonic 0

    def __attrs_post_init__(self) -> None:
        self._anchor = self.wall() - self.monotonic()

    @property
    def offset(self) -> float:
        """Seconds to add to the local clock: 0 where that is possible, else the least that is not ahead of the server.

        A window that ends a second early omits the newest rows; one that ends late is not frozen.
        """
        return self._low if self._high < 0.0 else max(0.0, self._low)

    @property
    def is_known(self) -> bool:
        """Whether any response had a credible `Date`."""
        return self._low > -math.inf

    def latest(self) -> int:
        """Return the latest time that the server may have, in milliseconds since 1970."""
        return self._now(max(0.0, self.skew or 0.0))

    def certain(self) -> int | None:
        """Return the latest time that has passed on the server for certain, in milliseconds; None if not known."""
        if not self.is_known and self.skew is None:
            return None
        return self._now(min(0.0, self.skew or 0.0))

    def _now(self, doubt: float) -> int:
        offset = self.offset if self.is_known else doubt
        return math.floor(1000 * (self._anchor + self.monotonic() + offset))

    def now(self) -> float | None:
        """Return the time that has passed on the server for certain, in seconds since 1970; None if not known."""
        certain = self.certain()
        return None if certain is None else certain / 1000

    def observe(self, headers: Mapping[str, str], sent: float) -> None:
        """Record the `Date` of a response, and the monotonic time at which its request was sent."""
        self.has_responses = True
        text = headers.get("Date")
        if text is None or text == self._text:
            return  # the same second again adds next to nothing, and parsing costs time
        self._text = text
        date, age = parse_date(text), headers.get("Age", "0").strip()
        if date is None or age != "0":
            return
        low, high = date - self._anchor - self.monotonic(), date + 1.0 - self._anchor - sent
        if min(abs(low), abs(high)) > MAX_CLOCK_SKEW:
            if self.skew is None:
                logger.warning("the clocks of server and client differ by %.0f s; times are not certain", low)
            self.skew = low
            return
        self._low, self._high = max(self._low, low), min(self._high, high)
        if self._low > self._high:  # the offset changed, as after a correction of the server's clock
            self._low, self._high = low, high


class Transport:
    """The HTTP session of one client, opened by the first request in the loop that runs then.

    Safe for concurrent use by the tasks of that loop.
    """

    def __init__(
        self,
        borrowed: aiohttp.ClientSession | None = None,
        proxy: Proxy | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if borrowed is not None and not isinstance(borrowed, aiohttp.ClientSession):
            raise TypeError(f"http_session must be an aiohttp.ClientSession or None, not {type(borrowed).__name__}")
        self.closed: bool = False
        """Whether `close` was called."""

        self.clock: ServerClock = ServerClock()
        self.key_was_accepted: bool = False
        """Whether any request succeeded."""

        self.calls: set[asyncio.Timeout] = set()
        """The time limits of the calls in progress, which `close` ends."""

        self._borrowed = borrowed
        self._proxy = proxy
        self._proxy_headers: dict[str, str] | None = None
        if proxy is not None and proxy.authorization is not None:
            self._proxy_headers = {"Proxy-Authorization": proxy.authorization}
        self._ssl_context = ssl_context
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def open(self) -> None:
        """Create the HTTP session on first use.

        Raises:
            RuntimeError: The client is closed, or belongs to another event loop or process.
        """
        loop = asyncio.get_running_loop()
        if self.closed:
            raise RuntimeError("This HarnessClient is closed; create a new one")
        if self._session is None:
            self._session = self._create_session() if self._borrowed is None else self._borrowed
            self._loop, self._pid = loop, os.getpid()
        elif self._pid != os.getpid():
            raise RuntimeError("This HarnessClient was used before a fork; create the client in the child process")
        elif self._loop is not loop:
            raise RuntimeError("This HarnessClient belongs to another event loop; create one client per event loop")

    async def send(self, request: Request, timeouts: Timeouts) -> RawResponse:
        """Send a request once and read the response to its end.

        Raises:
            TransportFailure: No usable response arrived.
            RuntimeError: The client was closed meanwhile.
        """
        if self._session is None:
            raise RuntimeError(CLOSED)
        own = request.new_connection and self._borrowed is None
        large = request.body is not None and len(request.body) >= _LARGE_BODY
        sent = time.monotonic()
        request.is_sent = self._session is self._borrowed  # whose connections are not observed
        _current.set(request)
        try:
            async with self._create_session() if own else nullcontext(self._session) as session:
                response = await session.request(
                    request.method,
                    request.url,
                    headers=request.headers if self._proxy_headers is None else self._headers_for(request),
                    data=io.BytesIO(request.body or b"") if large else request.body,
                    # aiohttp would add one to a body, and to some methods without a body.
                    skip_auto_headers=None if request.method == "GET" and request.body is None else ("Content-Type",),
                    allow_redirects=False,
                    raise_for_status=False,
                    proxy_headers=self._proxy_headers,
                    auto_decompress=False,
                    max_line_size=MAX_HEADER_FIELD,
                    max_field_size=MAX_HEADER_FIELD,
                    timeout=_client_timeout(timeouts.connect, timeouts.read),
                )
                async with response:
                    body = await _read_body(response)
        except _AIOHTTP_ERRORS as error:
            if not self.closed:
                failure = translate(error, self._proxy)
                if not request.is_sent:
                    failure.kind = _KINDS_BEFORE_SENDING.get(failure.kind, failure.kind)
                raise failure from as_cause(error)
            # Raised outside of this block, because `error` may hold the headers with the key.
            response, body = None, b""
        if response is None:
            raise RuntimeError(CLOSED)
        if response.status == _PROXY_AUTHENTICATION_REQUIRED and self._proxy is not None:
            raise TransportFailure(FailureKind.UNUSABLE, f"the proxy {self._proxy} requires authentication (407)")
        self.clock.observe(response.headers, sent)
        return RawResponse(response.status, response.headers, body)

    def _headers_for(self, request: Request) -> Mapping[str, str]:
        """Return the headers of a request, with those for a proxy that forwards plain http."""
        headers = request.headers
        return {**headers, **(self._proxy_headers or {})} if request.url.scheme == "http" else headers

    def _create_session(self) -> aiohttp.ClientSession:
        """Create an HTTP session without cookies and without aiohttp's own resends."""
        return aiohttp.ClientSession(
            # The number of requests in flight is limited by the caller, so that waiting counts as queueing.
            connector=_Connector(
                limit=0,
                ssl=True if self._ssl_context is None else self._ssl_context,
                socket_factory=self._create_socket,
            ),
            # A sign-in page's cookies must not change later responses.
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT},
            middlewares=(_prevent_resend,),
            proxy=None if self._proxy is None else self._proxy.url,
        )

    async def close(self) -> None:
        """End the calls in progress, and close the HTTP session unless it is borrowed.

        May be called twice, and in any loop.
        """
        self.closed = True
        session, self._session = self._session, None
        if session is None or self._pid != os.getpid():
            return
        loop = self._loop
        if loop is None or loop is asyncio.get_running_loop():
            await self._close(session)
        elif loop.is_running():  # in another thread
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._close(session), loop))
        elif not loop.is_closed():
            await asyncio.to_thread(loop.run_until_complete, self._close(session))
        else:
            with contextlib.suppress(RuntimeError), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a closed loop can close nothing; the sockets are shut down below
                await self._close(session)
        for each in tuple(self._sockets):
            # A transport with unsent data stays open, with the data, until its peer reads them.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    async def _close(self, session: aiohttp.ClientSession) -> None:
        now = asyncio.get_running_loop().time()
        for call in self.calls:
            if not call.expired():
                call.reschedule(now)
        if session is not self._borrowed:
            await session.close()

    def _create_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        created = socket.socket(family=family, type=kind, proto=protocol)
        self._sockets.add(created)
        return created


_current: ContextVar[Request] = ContextVar("_current")
"""The request that the task sends."""


class _Connector(aiohttp.TCPConnector):
    """Connections that mark the request of the task: a proxy or TLS may fail before anything reaches the server."""

    async def connect(self, *args: Any, **kwargs: Any) -> Connection:
        connection = await super().connect(*args, **kwargs)
        _current.get().is_sent = True
        return connection


@lru_cache(maxsize=64)
def _client_timeout(connect: float | None, read: float | None) -> aiohttp.ClientTimeout:
    """Create the timeouts of a request: `connect` covers DNS and TLS, `sock_read` the time between two pieces."""
    return aiohttp.ClientTimeout(connect=connect, sock_read=read)


class _ConnectionLostError(aiohttp.ClientError):
    """A lost connection under a class that aiohttp does not resend."""


async def _prevent_resend(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Hide a lost connection from aiohttp, which would resend the request."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _ConnectionLostError(str(error)) from error


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    """Read and decompress a body of limited size.

    Raises:
        TransportFailure: It is too large, ends too early, or cannot be decompressed.
    """
    encoding = response.headers.get("Content-Encoding")
    chunks: list[bytes] = []
    left = MAX_BODY
    try:
        decompressor = None if encoding is None else create_decompressor(encoding)
        while not response.content.at_eof():
            chunk = await response.content.readany()
            if decompressor is not None:
                chunk = decompressor.feed(chunk, left)
            left -= len(chunk)
            if left < 0:
                raise TransportFailure(  # noqa: TRY301
                    FailureKind.OVERSIZED, f"the response body exceeds {MAX_BODY // 2**20} MiB"
                )
            chunks.append(chunk)
        if decompressor is not None and not decompressor.is_complete:
            raise TransportFailure(FailureKind.CUT, "the compressed response body ends too early")  # noqa: TRY301
    except EncodingError as error:
        response.close()
        raise TransportFailure(FailureKind.GARBLED, f"the response cannot be decoded: {error}") from None
    except BaseException:
        response.close()
        raise
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
