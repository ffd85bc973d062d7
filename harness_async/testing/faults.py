"""Faults: small immutable objects that replace or modify responses.

A fault either replaces the regular exchange (`respond`) or modifies the response (`apply`, `clip`, `delay`, ...).
Modifying faults combine with each other and with one replacing fault. `FakeHarness.faults` selects the requests.
Faults that change the content of a response are in `distortions`.
"""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs

from harness_async.testing import responses
from harness_async.testing.responses import Envelope, FakeResponse

if TYPE_CHECKING:
    from aiohttp import web

    from harness_async.testing.exchange import Exchange


@attrs.frozen
class Fault:
    """Base class of all faults. It changes nothing."""

    replaces: ClassVar[bool] = False
    """Whether `respond` replaces the regular exchange."""

    @property
    def clip(self) -> int | None:
        """The maximum number of rows in a page, or None for no change."""
        return None

    @property
    def ignore_page(self) -> bool:
        """Whether a list returns its first page for every page number."""
        return False

    @property
    def shuffle(self) -> bool:
        """Whether the rows of a page come in random order."""
        return False

    @property
    def delay(self) -> float:
        """Seconds by which the response is delayed."""
        return 0.0

    def apply(self, response: FakeResponse) -> FakeResponse:
        """Return the modified response."""
        return response

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Perform the exchange. The base class performs the regular one."""
        return await exchange.send(exchange.response())


@attrs.frozen
class _Replacement(Fault):
    """A fault that sends a response of its own. The request is not executed."""

    replaces: ClassVar[bool] = True

    def build(self) -> FakeResponse:
        """Build the response."""
        raise NotImplementedError

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        return await exchange.send(self.build())


@attrs.frozen
class Status(_Replacement):
    """Responds with a status, and a body in the named envelope or the given *body*.

    `Status(200, envelope="legacy")` is an error with status 200, which the NextGen services send at times.
    """

    status: int
    body: bytes | str | None = attrs.field(default=None, kw_only=True)
    envelope: Envelope = attrs.field(default="goa", kw_only=True)
    code: str | None = attrs.field(default=None, kw_only=True)
    """The `code` of the envelopes that have one, None for the usual one."""
    headers: dict[str, str] = attrs.field(factory=dict, kw_only=True)
    message: str = attrs.field(default="scripted fault", kw_only=True)
    temporary: bool = attrs.field(default=False, kw_only=True)
    timeout: bool = attrs.field(default=False, kw_only=True)

    def build(self) -> FakeResponse:
        """Build the error."""
        response = responses.error_response(
            self.envelope,
            self.status,
            self.message,
            code=self.code,
            temporary=self.temporary,
            timeout=self.timeout,
        )
        body = self.body.encode() if isinstance(self.body, str) else self.body
        return attrs.evolve(response, body=response.body if body is None else body, headers=dict(self.headers))


@attrs.frozen
class TooManyRequests(_Replacement):
    """Responds with 429. The default is the edge's response: HTML without `Retry-After` (seconds or a date)."""

    retry_after: str | float | None = None
    html: bool = True

    def build(self) -> FakeResponse:
        """Build the response."""
        response = (responses.html_page if self.html else responses.legacy_error)(429, "Too Many Requests")
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return attrs.evolve(response, headers=headers)


@attrs.frozen
class SignInPage(_Replacement):
    """Responds with the HTML sign-in page of a proxy, by default with status 200."""

    status: int = 200

    def build(self) -> FakeResponse:
        """Build the page."""
        return responses.html_page(self.status, "Sign in to continue")


@attrs.frozen
class Body(_Replacement):
    """Responds with the given bytes to any request."""

    body: bytes
    content_type: str = responses.JSON
    status: int = 200

    def build(self) -> FakeResponse:
        """Build the response."""
        return FakeResponse(self.status, self.body, self.content_type)


@attrs.frozen
class Redirect(_Replacement):
    """Redirects to another location."""

    location: str
    status: int = 302

    def build(self) -> FakeResponse:
        """Build the redirect."""
        return FakeResponse(self.status, b"", None, {"Location": self.location})


@attrs.frozen
class CompressedZeros(_Replacement):
    """Responds with a small gzip body that expands to *size* zero bytes."""

    size: int

    def build(self) -> FakeResponse:
        """Compress the zeros."""
        return FakeResponse(200, gzip.compress(bytes(self.size)), responses.JSON, {"Content-Encoding": "gzip"})


@attrs.frozen
class Reset(Fault):
    """Closes the connection at a given moment.

    - "before": without a response, before the request is executed.
    - "head": within the head of the regular response. The request has been executed.
    - "after_head": after that head. The request has been executed.
    - "after_effect": without a response, although the request has been executed.
    """

    moment: Literal["before", "head", "after_head", "after_effect"] = "before"
    replaces: ClassVar[bool] = True

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Close the connection."""
        if self.moment == "before":
            return exchange.close()
        response = exchange.response()
        if self.moment == "after_effect":
            return exchange.close()
        head = exchange.encode_head(response)
        return exchange.close(head if self.moment == "after_head" else head[: len(head) // 2])


@attrs.frozen
class CutBody(Fault):
    """Sends the regular response with its full `Content-Length`, but only a fraction of the body."""

    after: float = 0.5
    replaces: ClassVar[bool] = True

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Send the part and close the connection."""
        response = exchange.response()
        # A body of one byte is cut to none: the body must never arrive complete.
        kept = min(int(len(response.body) * self.after), max(len(response.body) - 1, 0))
        return exchange.close(exchange.encode_head(response) + response.body[:kept])


@attrs.frozen
class SlowBody(Fault):
    """Sends the regular response in chunks, with a pause in seconds before each."""

    chunk_size: int = 1
    pause: float = 0.01
    replaces: ClassVar[bool] = True

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Send the body slowly. Ends when the client disconnects or the server closes."""
        response = exchange.response()
        stream = await exchange.start(response)
        for start in range(0, len(response.body), self.chunk_size):
            await asyncio.sleep(self.pause)
            await stream.write(response.body[start : start + self.chunk_size])
        return stream


@attrs.frozen
class SlowHead(Fault):
    """Sends the head of the regular response in chunks, with a pause in seconds before each, then the body."""

    chunk_size: int = 16
    pause: float = 0.01
    replaces: ClassVar[bool] = True

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Send the head slowly. Ends when the client disconnects or the server closes."""
        response = exchange.response()
        head = exchange.encode_head(attrs.evolve(response, headers={**response.headers, "Connection": "close"}))
        chunks = [head[start : start + self.chunk_size] for start in range(0, len(head), self.chunk_size)]
        for chunk in chunks[:-1]:
            await asyncio.sleep(self.pause)
            exchange.write(chunk)
        await asyncio.sleep(self.pause)
        return exchange.close(chunks[-1] + response.body, status=response.status)


@attrs.frozen
class Interim(Fault):
    """Sends interim responses (1xx) before the regular response."""

    status: int = 102
    count: int = 1
    replaces: ClassVar[bool] = True

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Send the interim responses and the regular one."""
        response = exchange.response()
        for _ in range(self.count):
            exchange.write(exchange.encode_interim(self.status))
        return await exchange.send(response)


@attrs.frozen
class ClipPages(Fault):
    """Limits the number of rows in a page. As with *max_page_size*, no row is lost between two pages."""

    size: int

    @property
    def clip(self) -> int | None:
        """The maximum number of rows in a page."""
        return self.size


@attrs.frozen
class Delay(Fault):
    """Delays the response by so many seconds. The request is executed at once."""

    seconds: float

    @property
    def delay(self) -> float:
        """Seconds by which the response is delayed."""
        return self.seconds
