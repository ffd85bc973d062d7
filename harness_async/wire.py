"""One exchange over HTTP: the only place that knows aiohttp's client.

A wire sends one request and reads the answer whole. It follows no redirect, keeps no cookie, retries nothing but what
was lost with a connection, and waits for nothing but the network. There are two:

- `SessionWire` sends with an `aiohttp.ClientSession`, which brings the proxies, certificates and tracing of who lends
  it.
- `DirectWire` sends over connections of ours: aiohttp's connector opens them, keeps them and speaks TLS, aiohttp's
  parser reads the answers. A session would do more for each request than that, none of which is wanted here: look for
  cookies, proxies and redirects, merge headers, make a request and a response object. Of 128 us that a page of 100
  rows takes to come with nothing but aiohttp, all that is 51.

Either repeats a request at once, and once, where its connection broke before an answer came: a server closes idle
connections whenever it likes, and the next request finds out. The repetition is told before (`OnResend`), so that it is
paced and counted, or forbidden where a request must not go out twice.
"""

from __future__ import annotations

import asyncio
import io
import re
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from inspect import signature
from typing import Any, Protocol, TypeAlias
from weakref import ref

import aiohttp
from aiohttp import hdrs
from aiohttp.http_exceptions import HttpProcessingError
from attrs import define, field
from yarl import URL

from harness_async._version import __version__
from harness_async.config import Timeouts
from harness_async.errors import HarnessError
from harness_async.protocol import merge_headers
from harness_async.retry import Trouble
from harness_async.watchdog import Watch

MAX_BODY = 64 * 1024 * 1024
"""Bytes of an answer, after decompression, that we are willing to hold; state blobs of workspaces are the largest
answers known. A full page of executions has about 28 kB."""

USER_AGENT = f"harness_async/{__version__} aiohttp/{aiohttp.__version__}"

_LARGE = 2**20
"""Bytes from which on a session of aiohttp's warns of bodies that are sent in one piece."""

_PERMANENT_DNS = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}

_INHERITED: list[object] = []
"""What came with a fork, kept from being collected: that would warn of connections left open."""

KEPT_OPEN = 15.0
"""Seconds for which a connection that nobody uses stays open: what aiohttp's own pool takes, below what servers do."""

_FINAL = 200
"""The first status of an answer that no other follows."""

_SWITCHED = 101
"""The one below it that is an answer all the same: whatever follows is not HTTP."""

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods whose requests need not say that they have no body."""

_OWN_HEADERS = {
    "User-Agent": USER_AGENT,
    "Accept-Encoding": aiohttp.ClientRequest.DEFAULT_HEADERS[hdrs.ACCEPT_ENCODING],  # what its parser can unpack
}

_NOT_ENCODED = re.compile(r"[^!-~]").search
_ENDS_LINE = re.compile(r"[\r\n\0]").search

OnResend: TypeAlias = Callable[[], Awaitable[None]]

_ERRORS = (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError)
"""What aiohttp raises; `translate` says what each means."""

_TALKATIVE = (aiohttp.ClientResponseError, aiohttp.ClientPayloadError, HttpProcessingError)
"""Those of them that hold the headers of the request, the key among them, or quote what the server sent."""


@define(eq=False, repr=False)
class Request:
    """What goes out."""

    method: str
    origin: URL
    """Scheme, host and port."""

    target: str
    """Path and query, encoded as they stand in the request."""

    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = None
    repeatable: bool = True

    @property
    def url(self) -> URL:
        """The whole address."""
        return URL(f"{self.origin}{self.target}", encoded=True)


@define(eq=False, repr=False)
class Reply:
    """What came back, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Broken(Exception):  # noqa: N818 - never leaves the library; the sender turns it into one of its errors
    """An exchange that brought no answer, or one that cannot be used."""

    def __init__(self, trouble: Trouble, text: str, *, timed_out: bool = False) -> None:
        super().__init__(text)
        self.trouble = trouble
        self.timed_out = timed_out


class Wire(Protocol):
    """A way to send requests. Safe for any number of tasks of the loop in which it was made."""

    @property
    def connector(self) -> aiohttp.BaseConnector | None:
        """What holds the connections; None when closed."""
        ...

    async def exchange(self, request: Request, timeouts: Timeouts, on_resend: OnResend, watch: Watch) -> Reply:
        """Send a request once and read the answer whole; `on_resend` is awaited before it is sent again.

        Raises:
            Broken: No usable answer came.
            CancelledError: The call was given up, or cut off by its watch.
        """
        ...

    async def close(self) -> None:
        """Close what is ours."""
        ...

    def abandon(self) -> None:
        """Let go of what came with a fork: the parent's sockets are none of ours, not even to close."""
        ...


@define(eq=False, repr=False)
class _Peer:
    """A server, and the connections to it that nobody uses at the moment."""

    request: aiohttp.ClientRequest
    """What a connector takes from where to connect to."""

    host: str
    idle: deque[tuple[Any, float]] = field(factory=deque)
    """Connections, each with the loop time since which it is idle; the last was used last."""

    def take(self, now: float) -> Any:
        """Give a connection that is likely to be open still; None if there is none."""
        while self.idle:
            connection, since = self.idle.pop()
            if now - since < KEPT_OPEN and not connection.closed:
                return connection
            connection.close()
        return None

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long."""
        while self.idle and now - self.idle[0][1] >= KEPT_OPEN:
            self.idle.popleft()[0].close()


class DirectWire:
    """Sends over connections of ours."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # No limit in the pool: places are handed out elsewhere, and the clock of an attempt starts when it is sent.
        self.connector: aiohttp.TCPConnector = aiohttp.TCPConnector(limit=0)
        self._peers: dict[URL, _Peer] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._written: tuple[Mapping[str, str] | None, str] = (None, "")

    async def exchange(self, request: Request, timeouts: Timeouts, on_resend: OnResend, watch: Watch) -> Reply:
        """Send a request once and read the answer whole."""
        try:
            return await self._send(request, timeouts, watch)
        except _ERRORS as error:
            if not (request.repeatable and _is_lost(error)):
                raise translate(error) from None if isinstance(error, _TALKATIVE) else error
        watch.rest()
        await on_resend()
        try:
            return await self._send(request, timeouts, watch)
        except _ERRORS as error:
            raise translate(error) from None if isinstance(error, _TALKATIVE) else error

    async def _send(self, request: Request, timeouts: Timeouts, watch: Watch) -> Reply:
        peer = self._peer(request.origin)
        connection = peer.take(self._loop.time()) or await self._connect(peer, timeouts)
        try:
            protocol = connection.protocol
            protocol.set_response_params(skip_payload=request.method == "HEAD", read_until_eof=True)
            watch.listen(timeouts.read)
            if protocol.transport is not None:  # else it was lost while it was handed over, as `read` tells
                protocol.transport.write(self._write(request, peer.host))
            message, payload = await protocol.read()
            while message.code < _FINAL and message.code != _SWITCHED:
                message, payload = await protocol.read()
            body = await read_whole(payload, watch)
        except BaseException:
            connection.close()
            raise
        if protocol.should_close:
            connection.close()
        else:
            self._put_by(peer, connection)
        return Reply(message.code, message.headers, body)

    def _peer(self, origin: URL) -> _Peer:
        if (peer := self._peers.get(origin)) is None:
            request = aiohttp.ClientRequest("GET", origin, loop=self._loop)
            peer = self._peers[origin] = _Peer(request, origin.host_port_subcomponent or "")
        return peer

    async def _connect(self, peer: _Peer, timeouts: Timeouts) -> Any:
        try:
            return await self.connector.connect(peer.request, [], _client_timeout(timeouts))
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError("no connection in time") from error

    def _put_by(self, peer: _Peer, connection: Any) -> None:
        """Keep a connection for the next request. The connector would do so too, for 7 us a page of some 200."""
        peer.idle.append((connection, self._loop.time()))
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(KEPT_OPEN, _sweep, ref(self))

    def sweep(self) -> None:
        """Close connections that nobody has used for a while, and look again later if others are left."""
        self._sweeper = None
        for peer in self._peers.values():
            peer.sweep(self._loop.time())
            if peer.idle and self._sweeper is None:
                self._sweeper = self._loop.call_later(KEPT_OPEN, _sweep, ref(self))

    def _write(self, request: Request, host: str) -> bytes:
        """Write a request out."""
        if _NOT_ENCODED(request.target):
            raise ValueError(f"the target of a request must be encoded, not {request.target!r}")
        # Nearly all requests of a client share one mapping of headers, which takes 4 us to write out.
        headers, text = self._written
        if headers is not request.headers:
            text = write_headers(request.headers)
            self._written = (request.headers, text)
        body = request.body
        if body is not None or request.method not in _BODILESS:
            text = f"Content-Length: {len(body or b'')}\r\n{text}"
        head = f"{request.method} {request.target} HTTP/1.1\r\nHost: {host}\r\n{text}\r\n".encode()
        return head if body is None else head + body

    async def close(self) -> None:
        """Close the connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self.connector.close()
        for peer in self._peers.values():
            while peer.idle:
                peer.idle.pop()[0].close()

    def abandon(self) -> None:
        """Let go of what came with a fork."""
        _INHERITED.append(self)


def _sweep(wire: ref[DirectWire]) -> None:
    """Sweep unless nobody has the wire any more: a timer must not keep it from being collected, which would tell."""
    if (alive := wire()) is not None:
        alive.sweep()


class SessionWire:
    """Sends with a session of aiohttp's, by what its documentation promises and nothing else."""

    def __init__(self, http: aiohttp.ClientSession, *, ours: bool) -> None:
        self._http = http
        self._ours = ours

    @property
    def connector(self) -> aiohttp.BaseConnector | None:
        """What holds the connections."""
        return self._http.connector

    async def exchange(self, request: Request, timeouts: Timeouts, on_resend: OnResend, watch: Watch) -> Reply:
        """Send a request once and read the answer whole."""
        del watch  # who is silent for too long is the session's to say: only it knows when it has got a connection
        try:
            return await self._send(request, timeouts, on_resend)
        except HarnessError:  # from `on_resend`; some of ours are OSErrors too
            raise
        except _ERRORS as error:
            raise translate(error) from None if isinstance(error, _TALKATIVE) else error

    async def _send(self, request: Request, timeouts: Timeouts, on_resend: OnResend) -> Reply:
        response = await self._http.request(
            request.method,
            request.url,
            headers=request.headers,
            data=_data(request.body),
            skip_auto_headers=("Content-Type",),
            allow_redirects=False,
            raise_for_status=False,
            auto_decompress=True,
            timeout=_client_timeout(timeouts, reads=True),
            middlewares=self._watch_resends(request, on_resend),
        )
        async with response:
            try:
                body = await read_whole(response.content)
            except BaseException:
                response.close()
                raise
            return Reply(response.status, response.headers, body)

    def _watch_resends(self, request: Request, on_resend: OnResend) -> tuple[aiohttp.ClientMiddlewareType, ...]:
        """Make middlewares that see each send, for a session repeats by itself what was lost."""
        sends = 0

        async def count(sent: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            nonlocal sends
            sends += 1
            if sends > 1:
                if not request.repeatable:
                    raise Broken(Trouble.LOST, "the connection was lost")
                await on_resend()
            return await handler(sent)

        # Middlewares of a request take the place of the session's, so those of a borrowed one are kept; ours comes
        # last, next to the wire. aiohttp has no public name for them.
        return (*getattr(self._http, "_middlewares", ()), count)

    async def close(self) -> None:
        """Close the session if it is ours."""
        if self._ours:
            await self._http.close()

    def abandon(self) -> None:
        """Let go of what came with a fork."""
        if self._ours:
            _INHERITED.append(self._http.connector)
            self._http.detach()


def make_wire(borrowed: aiohttp.ClientSession | None) -> Wire:
    """Make the wire of the running loop, over a borrowed session if there is one."""
    if borrowed is not None:
        return SessionWire(borrowed, ours=False)
    if knows_aiohttp():
        return DirectWire(asyncio.get_running_loop())
    # No cookies: the key is all there is, and a sign-in page's cookies must not change later answers.
    http = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT},
    )
    return SessionWire(http, ours=True)


@cache
def knows_aiohttp() -> bool:
    """Whether aiohttp's inner parts are what `DirectWire` takes them for: nobody promised that they stay so."""
    try:
        from aiohttp.client_proto import ResponseHandler

        return all(
            names <= signature(function).parameters.keys()
            for function, names in (
                (ResponseHandler.set_response_params, {"skip_payload", "read_until_eof"}),
                (ResponseHandler.read, {"self"}),
                (aiohttp.TCPConnector.connect, {"req", "traces", "timeout"}),
                (aiohttp.ClientRequest, {"method", "url", "loop"}),
            )
        )
    except (ImportError, AttributeError):
        return False


@cache
def _client_timeout(timeouts: Timeouts, *, reads: bool = False) -> aiohttp.ClientTimeout:
    """Make aiohttp's time-outs; that of reading is for sessions, whose connections nobody tells us of."""
    read = timeouts.read if reads else None
    return aiohttp.ClientTimeout(total=None, connect=None, sock_connect=timeouts.connect, sock_read=read)


def _data(body: bytes | None) -> bytes | io.BytesIO | None:
    """Give the body as a session likes it: it sends large ones in pieces, from a file."""
    return body if body is None or len(body) < _LARGE else io.BytesIO(body)


def write_headers(headers: Mapping[str, str]) -> str:
    """Write headers out, after those of the wire's own that they do not replace.

    Raises:
        ValueError: One has a character that would end it.
    """
    lines = [f"{name}: {value}" for name, value in merge_headers(_OWN_HEADERS, headers).items()]
    if any(_ENDS_LINE(line) for line in lines):
        raise ValueError("a header must have no line break")  # and may be the key, so no more is said of it
    return "".join(f"{line}\r\n" for line in lines)


async def read_whole(content: aiohttp.StreamReader, watch: Watch | None = None) -> bytes:
    """Read a body, but no more of it than we are willing to hold.

    Raises:
        Broken: It is larger than that.
    """
    chunks: list[bytes] = []
    size = 0
    while not content.at_eof():
        if watch is not None:
            watch.hear()
        chunk = await content.readany()
        size += len(chunk)
        if size > MAX_BODY:
            raise Broken(Trouble.OVERSIZED, f"the answer is larger than {MAX_BODY // 2**20} MiB")
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _is_lost(error: Exception) -> bool:
    """Whether a connection broke, rather than could not be made."""
    lost = isinstance(error, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError)
    return lost and not isinstance(error, aiohttp.ClientConnectorError)


def translate(error: Exception) -> Broken:  # noqa: PLR0911 - a table
    """Say what an error of aiohttp's means for the request: was it sent, may it help to try again."""
    text = " ".join(str(error).split()) or type(error).__name__
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
        case aiohttp.ClientPayloadError() | aiohttp.ClientResponseError() | HttpProcessingError():
            return Broken(Trouble.CUT, f"the answer was cut off or garbled: {text}")
        case _:
            return Broken(Trouble.LOST, f"the connection was lost: {text}")
