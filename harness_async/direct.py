"""Requests over connections of our own, without what an `aiohttp.ClientSession` does around each.

aiohttp's connector opens the connections and speaks TLS, and its parser reads the answers. A session would do more for
each request than that, none of which is wanted here: look for cookies, proxies and redirects, merge headers, make a
request and a response object. Of 128 us that a page of 100 rows takes to come with a session that is set up for speed,
all that is 51; another 7 is the way through the connector's own pool.

The connector, its connections and what they speak are not all public names of aiohttp's. `knows_aiohttp` tells whether
they are what this module was written for; a session does the work where they are not.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from functools import cache
from inspect import signature
from typing import Any
from weakref import ref

import aiohttp
from aiohttp import hdrs
from attrs import define, field
from yarl import URL

from harness_async.config import Timeouts
from harness_async.protocol import merge_headers
from harness_async.retry import Trouble
from harness_async.watchdog import Watch
from harness_async.wire import (
    ERRORS,
    INHERITED,
    USER_AGENT,
    Broken,
    OnResend,
    Reply,
    Request,
    client_timeout,
    is_lost,
    quotable,
    read_whole,
    translate,
)

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


@define(eq=False, repr=False)
class _Peer:
    """A server, and the connections to it that nobody uses at the moment.

    Connections are `Any` to the type checker: their class has no public name either.
    """

    request: aiohttp.ClientRequest
    """What a connector takes from where to connect to."""

    host: str
    idle: deque[tuple[Any, float]] = field(factory=deque)
    """Connections, each with the loop time since which it is idle; the last was used last."""

    def take(self, now: float) -> Any:
        """Give a connection that is likely to be open still; None if there is none."""
        while self.idle:
            connection, since = self.idle.pop()
            # One that was sent something unasked is not used: that would be taken for the answer to the next request.
            if now - since < KEPT_OPEN and not connection.closed and not connection.protocol.should_close:
                return connection
            connection.close()
        return None

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long."""
        while self.idle and now - self.idle[0][1] >= KEPT_OPEN:
            self.idle.popleft()[0].close()


class DirectWire:
    """A wire over connections of ours. Safe for any number of tasks of its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # No limit in the pool: places are handed out elsewhere, and the clock of an attempt starts when it is sent.
        self.connector: aiohttp.TCPConnector = aiohttp.TCPConnector(limit=0)
        self._peers: dict[URL, _Peer] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._self: ref[DirectWire] = ref(self)
        self._written: tuple[Mapping[str, str] | None, str] = (None, "")

    async def exchange(self, request: Request, timeouts: Timeouts, on_resend: OnResend, watch: Watch) -> Reply:
        """Send a request once and read the answer whole."""
        try:
            return await self._send(request, timeouts, watch)
        except ERRORS as error:
            if not (request.repeatable and is_lost(error)):
                raise translate(error) from quotable(error)
        watch.rest()
        await on_resend()
        try:
            return await self._send(request, timeouts, watch)
        except ERRORS as error:
            raise translate(error) from quotable(error)

    async def _send(self, request: Request, timeouts: Timeouts, watch: Watch) -> Reply:
        peer = self._peer(request.origin)
        connection = peer.take(self._loop.time()) or await self._connect(peer, timeouts)
        protocol = connection.protocol
        if protocol.transport is None:  # lost while it was handed over
            connection.close()
            raise Broken(Trouble.NOT_SENT, "the connection was lost before anything was sent")
        try:
            protocol.set_response_params(skip_payload=request.method == "HEAD", read_until_eof=True)
            watch.listen(timeouts.read)
            protocol.transport.write(self._write(request, peer.host))
            message, payload = await protocol.read()
            while message.code < _FINAL and message.code != _SWITCHED:
                message, payload = await protocol.read()
            body = await read_whole(payload, watch)
        except BaseException:
            connection.close()
            raise
        if protocol.should_close or self.connector.closed:
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
        if self.connector.closed:
            raise RuntimeError("This client was closed while a call was under way")
        try:
            return await self.connector.connect(peer.request, [], client_timeout(timeouts))
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError("no connection in time") from error

    def _put_by(self, peer: _Peer, connection: Any) -> None:
        """Keep a connection for the next request."""
        peer.idle.append((connection, self._loop.time()))
        if self._sweeper is None:
            self._sweep_later()

    def _sweep_later(self) -> None:
        self._sweeper = self._loop.call_later(KEPT_OPEN, _sweep, self._self)

    def sweep(self) -> None:
        """Close connections that nobody has used for a while, and look again later if others are left."""
        self._sweeper = None
        for peer in self._peers.values():
            peer.sweep(self._loop.time())
        if any(peer.idle for peer in self._peers.values()):
            self._sweep_later()

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
        INHERITED.append(self)


def _sweep(wire: ref[DirectWire]) -> None:
    """Sweep unless nobody has the wire any more: a timer must not keep it from being collected, which would tell."""
    if (alive := wire()) is not None:
        alive.sweep()


def write_headers(headers: Mapping[str, str]) -> str:
    """Write headers out, after those of the wire's own that they do not replace.

    Raises:
        ValueError: One has a character that would end it.
    """
    lines = [f"{name}: {value}" for name, value in merge_headers(_OWN_HEADERS, headers).items()]
    if any(_ENDS_LINE(line) for line in lines):
        raise ValueError("a header must have no line break")  # and may be the key, so no more is said of it
    return "".join(f"{line}\r\n" for line in lines)


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
