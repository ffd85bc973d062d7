"""What may go wrong, each kind a small immutable object; `FakeHarness.faults` says when.

A fault either takes the place of the normal exchange (`act`) or changes the answer on its way (`change`,
`clip`, `delay`). The latter combine with each other and with one of the former.
"""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias

import attrs

from harness_async.testing import wire
from harness_async.testing.wire import Answer, Envelope

if TYPE_CHECKING:
    from aiohttp import web

    from harness_async.testing.exchange import Exchange


@attrs.frozen
class Fault:
    """Base of all faults; as it stands it does no harm."""

    replaces: ClassVar[bool] = False
    """Whether `act` takes the place of the normal exchange."""

    @property
    def clip(self) -> int | None:
        """The most rows a page may hold, None for no change."""
        return None

    @property
    def delay(self) -> float:
        """Seconds by which the answer is late."""
        return 0.0

    def change(self, answer: Answer) -> Answer:
        """Change the true answer."""
        return answer

    async def act(self, exchange: Exchange) -> web.StreamResponse:
        """Carry out the exchange; the normal one here."""
        return await exchange.send(exchange.answer())


@attrs.frozen
class _Replacement(Fault):
    """A fault that answers something made up, before the request has had any effect."""

    replaces: ClassVar[bool] = True

    def made_up(self) -> Answer:
        raise NotImplementedError

    async def act(self, exchange: Exchange) -> web.StreamResponse:
        return await exchange.send(self.made_up())


@attrs.frozen
class Status(_Replacement):
    """Answer this status, with a body in the envelope named, or with *body* as it is."""

    status: int
    body: bytes | str | None = attrs.field(default=None, kw_only=True)
    envelope: Envelope = attrs.field(default="goa", kw_only=True)
    headers: dict[str, str] = attrs.field(factory=dict, kw_only=True)
    message: str = attrs.field(default="scripted fault", kw_only=True)
    temporary: bool = attrs.field(default=False, kw_only=True)
    timeout: bool = attrs.field(default=False, kw_only=True)

    def made_up(self) -> Answer:
        """Make the error."""
        answer = wire.enveloped(
            self.envelope, self.status, self.message, temporary=self.temporary, timeout=self.timeout
        )
        body = self.body.encode() if isinstance(self.body, str) else self.body
        return attrs.evolve(answer, body=answer.body if body is None else body, headers=dict(self.headers))


@attrs.frozen
class TooManyRequests(_Replacement):
    """Answer 429, by default as the edge does: HTML and no Retry-After (which may be seconds or a date)."""

    retry_after: str | float | None = None
    html: bool = True

    def made_up(self) -> Answer:
        """Make the refusal."""
        answer = (wire.html if self.html else wire.legacy)(429, "Too Many Requests")
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return attrs.evolve(answer, headers=headers)


@attrs.frozen
class SignInPage(_Replacement):
    """Answer the HTML page of a proxy that wants a browser to sign in, as if all were well."""

    status: int = 200

    def made_up(self) -> Answer:
        """Make the page."""
        return wire.html(self.status, "Sign in to continue")


@attrs.frozen
class Body(_Replacement):
    """Answer these bytes, whatever was asked."""

    body: bytes
    content_type: str = wire.JSON
    status: int = 200

    def made_up(self) -> Answer:
        """Make the answer."""
        return Answer(self.status, self.body, self.content_type)


@attrs.frozen
class Redirect(_Replacement):
    """Send the client elsewhere."""

    location: str
    status: int = 302

    def made_up(self) -> Answer:
        """Make the redirection."""
        return Answer(self.status, b"", None, {"Location": self.location})


@attrs.frozen
class CompressedZeros(_Replacement):
    """Answer a small gzip body that unpacks to *size* zero bytes."""

    size: int

    def made_up(self) -> Answer:
        """Pack the zeros."""
        return Answer(200, gzip.compress(bytes(self.size)), wire.JSON, {"Content-Encoding": "gzip"})


@attrs.frozen
class Reset(Fault):
    """Drop the connection at that moment.

    - "before": unanswered, and before the request has any effect.
    - "head": in the middle of the head of the true answer; the request has taken effect.
    - "after_head": after that head; the request has taken effect.
    - "after_effect": unanswered, though the request has taken effect, such as storing a row.
    """

    moment: Literal["before", "head", "after_head", "after_effect"] = "before"
    replaces: ClassVar[bool] = True

    async def act(self, exchange: Exchange) -> web.StreamResponse:
        """Drop the connection."""
        if self.moment == "before":
            return exchange.drop()
        answer = exchange.answer()
        if self.moment == "after_effect":
            return exchange.drop()
        head = exchange.head(answer)
        return exchange.drop(head if self.moment == "after_head" else head[: len(head) // 2])


@attrs.frozen
class CutBody(Fault):
    """Send the true answer with its true length, cut off at that fraction of the body."""

    after: float = 0.5
    replaces: ClassVar[bool] = True

    async def act(self, exchange: Exchange) -> web.StreamResponse:
        """Send the part and close."""
        answer = exchange.answer()
        # A body of one byte is cut to none: it must never arrive whole.
        kept = min(int(len(answer.body) * self.after), max(len(answer.body) - 1, 0))
        return exchange.drop(exchange.head(answer) + answer.body[:kept])


@attrs.frozen
class SlowBody(Fault):
    """Send the true answer in chunks of so many bytes, with a pause in seconds before each."""

    chunk_size: int = 1
    pause: float = 0.01
    replaces: ClassVar[bool] = True

    async def act(self, exchange: Exchange) -> web.StreamResponse:
        """Drip the body; ends with the connection or the server, whichever goes first."""
        answer = exchange.answer()
        response = await exchange.begin(answer)
        for start in range(0, len(answer.body), self.chunk_size):
            await asyncio.sleep(self.pause)
            await response.write(answer.body[start : start + self.chunk_size])
        return response


class _Unchanged:
    """The default of `Totals`: leave that header as it is."""

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = _Unchanged()
_Total: TypeAlias = "str | int | _Unchanged | None"


@attrs.frozen
class Totals(Fault):
    """Put any text into the headers that tell totals, or leave them out (None), whichever are sent."""

    items: _Total = attrs.field(default=UNCHANGED, kw_only=True)
    pages: _Total = attrs.field(default=UNCHANGED, kw_only=True)
    size: _Total = attrs.field(default=UNCHANGED, kw_only=True)

    def change(self, answer: Answer) -> Answer:
        """Rewrite the headers that the answer has."""
        new = {
            "x-total-items": self.items,
            "x-total-elements": self.items,
            "x-total-pages": self.pages,
            "x-page-size": self.size,
        }
        headers = {}
        for name, text in answer.headers.items():
            value = new.get(name.lower(), UNCHANGED)
            if value is not None:
                headers[name] = text if isinstance(value, _Unchanged) else str(value)
        return attrs.evolve(answer, headers=headers)


@attrs.frozen
class ClipPages(Fault):
    """Let pages hold at most so many rows; as with *max_page_size* no row falls between two pages."""

    size: int

    @property
    def clip(self) -> int | None:
        """The most rows a page may hold."""
        return self.size


@attrs.frozen
class Delay(Fault):
    """Let the answer be late by so many seconds; the request takes effect at once."""

    seconds: float

    @property
    def delay(self) -> float:
        """Seconds by which the answer is late."""
        return self.seconds
