"""One exchange over HTTP: with `direct`, the only place that knows aiohttp's client.

A wire sends one request and reads the answer whole. It follows no redirect, keeps no cookie, retries nothing but what
was lost with a connection, and waits for nothing but the network. There are two: `SessionWire`, here, sends with an
`aiohttp.ClientSession`, and brings the proxies, certificates and tracing of who lends it; `DirectWire`, in `direct`,
sends over connections of ours.

Either repeats a request at once, and once, where its connection broke before an answer came: a server closes idle
connections whenever it likes, and the next request finds out. The repetition is told before (`OnResend`), so that it is
paced and counted, or forbidden where a request must not go out twice.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Protocol, TypeAlias

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from attrs import define, field
from yarl import URL

from harness_async._version import __version__
from harness_async.config import Timeouts
from harness_async.errors import HarnessError
from harness_async.retry import Trouble
from harness_async.watchdog import Watch

MAX_BODY = 64 * 1024 * 1024
"""Bytes of an answer, after decompression, that we are willing to hold; state blobs of workspaces are the largest
answers known. A full page of executions has about 28 kB."""

USER_AGENT = f"harness_async/{__version__} aiohttp/{aiohttp.__version__}"

_LARGE = 2**20
"""Bytes from which on a session of aiohttp's warns of bodies that are sent in one piece."""

_PERMANENT_DNS = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}

INHERITED: list[object] = []
"""What came with a fork, kept from being collected: that would warn of connections left open."""

OnResend: TypeAlias = Callable[[], Awaitable[None]]

ERRORS = (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError)
"""What aiohttp raises; `translate` says what each means."""


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


class SessionWire:
    """Sends with a session of aiohttp's, by its public interface alone, but for a look at the middlewares it has."""

    def __init__(self, http: aiohttp.ClientSession, *, ours: bool) -> None:
        self._http = http
        self._ours = ours

    async def exchange(self, request: Request, timeouts: Timeouts, on_resend: OnResend, watch: Watch) -> Reply:
        """Send a request once and read the answer whole."""
        del watch  # who is silent for too long is the session's to say: only it knows when it has got a connection
        try:
            return await self._send(request, timeouts, on_resend)
        except HarnessError:  # from `on_resend`; some of ours are OSErrors too
            raise
        except ERRORS as error:
            raise translate(error) from quotable(error)

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
            timeout=client_timeout(timeouts, reads=True),
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
            if self._http.closed:
                raise RuntimeError("The HTTP session was closed while a call was under way")
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
            INHERITED.append(self._http.connector)
            self._http.detach()


@cache
def client_timeout(timeouts: Timeouts, *, reads: bool = False) -> aiohttp.ClientTimeout:
    """Make aiohttp's time-outs; that of reading is for sessions, whose connections nobody tells us of."""
    read = timeouts.read if reads else None
    return aiohttp.ClientTimeout(total=None, connect=None, sock_connect=timeouts.connect, sock_read=read)


def _data(body: bytes | None) -> bytes | io.BytesIO | None:
    """Give the body as a session likes it: it sends large ones in pieces, from a file."""
    return body if body is None or len(body) < _LARGE else io.BytesIO(body)


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


def is_lost(error: Exception) -> bool:
    """Whether a connection broke, rather than could not be made."""
    lost = isinstance(error, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError)
    return lost and not isinstance(error, aiohttp.ClientConnectorError)


def quotable(error: Exception) -> Exception | None:
    """Give an error as a cause, unless it holds the headers sent, the key among them, or quotes what came back."""
    talkative = aiohttp.ClientResponseError | aiohttp.ClientPayloadError | HttpProcessingError
    return None if isinstance(error, talkative) else error


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
