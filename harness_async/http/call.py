"""One call under way: what was tried, and the errors that tell of it, with the key taken out of all of them."""

from __future__ import annotations

import time
from typing import Any

from attrs import define, field

from harness_async.config import RetryPolicy
from harness_async.errors import (
    APIStatusError,
    Attempt,
    DeadlineExceededError,
    DecodeError,
    RequestError,
    RequestTimeoutError,
    TransportError,
    UnexpectedResponseError,
    status_error_class,
)
from harness_async.http.protocol import Headers, parse_error, parse_retry_after
from harness_async.http.rate_limit import Permit
from harness_async.http.retry import FailureKind, Random, RetryState
from harness_async.http.transport import RawResponse, Request, TransportFailure

_KEPT_BODY = 64 * 1024
"""Bytes of a bad answer kept on its error: enough to see what it was."""


@define(eq=False, repr=False)
class Call:
    """One call under way: what was tried, when the attempt at hand began, and the errors that tell of it."""

    request: Request
    retry: RetryPolicy
    rng: Random
    deadline: float | None
    key: str = field(repr=False)
    """The API key, which may show in none of the errors."""

    attempts: list[Attempt] = field(factory=list)
    slot: Permit | None = None  # the right to send the attempt at hand; None when it was handed back
    asked: float = 0.0  # loop time at which the attempt began to wait
    sent: float | None = None  # loop time at which it was sent
    started: float = 0.0  # the same by the wall clock
    backoff: float = 0.0  # seconds to sleep before the next
    redirects: int = 0
    doubtful: bool = False  # whether an attempt may have had its effect although it failed
    _course: RetryState | None = field(default=None, init=False, repr=False)

    @property
    def retry_state(self) -> RetryState:
        """What counts failures and decides about each; most calls have none."""
        if self._course is None:
            self._course = RetryState(self.retry, self.request.method, self.request.repeatable, self.rng)
        return self._course

    @property
    def reads(self) -> bool:
        """Whether the request changes nothing, so that nobody needs to know whether it arrived."""
        return self.request.method in {"GET", "HEAD", "OPTIONS"}

    def start_attempt(self, now: float) -> None:
        """Begin to wait for an attempt."""
        self.asked, self.sent = now, None

    def mark_sent(self, now: float) -> None:
        """Note that the attempt is being sent."""
        self.sent, self.started = now, time.time()

    def record_attempt(self, now: float, *, status: int | None = None, error: str | None = None) -> None:
        """Put the attempt at hand among those made, if it was one: what was never sent is none."""
        if self.sent is not None:
            waited = self.sent - self.asked + self.backoff
            attempt = Attempt(started=self.started, elapsed=now - self.sent, status=status, error=error, waited=waited)
            self.attempts.append(attempt)
            self.sent, self.backoff = None, 0.0

    # -- errors --------------------------------------------------------------------------------------------------

    def status_error(self, reply: RawResponse, now: float) -> tuple[APIStatusError, bool]:
        """Make the error of an error status, and say whether the body calls it temporary."""
        body = self.redact(reply.body)
        headers = Headers(reply.headers, self.redact_text)
        details = parse_error(reply.status, headers, body)
        self.record_attempt(now, status=reply.status, error=details.message)
        error = status_error_class(reply.status)(
            details,
            status=reply.status,
            headers=headers,
            body=body,
            retry_after=parse_retry_after(reply.headers, time.time()),
            **self.context(),
        )
        return error, details.temporary or details.timeout

    def transport_error(self, broken: TransportFailure, text: str) -> RequestError:
        """Make the error of an attempt that brought no answer."""
        text = f"{text} ({self.request.method} {self.display_url}, attempt {len(self.attempts)})"
        text = text[0].upper() + text[1:]
        if broken.kind is FailureKind.OVERSIZED or broken.kind is FailureKind.CUT:
            return UnexpectedResponseError(text, **self.context())
        return (RequestTimeoutError if broken.timed_out else TransportError)(text, **self.context())

    def decode_error(self, reply: RawResponse, error: DecodeError) -> DecodeError:
        """Make the error of JSON that does not fit."""
        return DecodeError(
            f"{self.redact_text(str(error))} ({self.request.method} {self.display_url})",
            path=self.redact_text(error.path),
            status=reply.status,
            body=self.redact(reply.body),
            **self.context(),
        )

    def unexpected(self, reply: RawResponse, what: str) -> UnexpectedResponseError:
        """Make the error of an answer that is not the API's."""
        return UnexpectedResponseError(
            f"The answer is {what} ({self.request.method} {self.display_url}, status {reply.status})",
            status=reply.status,
            body=self.redact(reply.body),
            **self.context(),
        )

    def deadline_error(self, what: str) -> DeadlineExceededError:
        """Make the error of a call that ran out of time."""
        last = f"; the last attempt: {self.attempts[-1].error}" if self.attempts else "; nothing was sent"
        return DeadlineExceededError(
            f"{what.capitalize()} ({self.request.method} {self.display_url}, {len(self.attempts)} attempts{last})",
            **self.context(),
        )

    @property
    def display_url(self) -> str:
        """Give the URL for people: a redirect may have put the key into it."""
        return self.redact_text(str(self.request.url))

    def context(self) -> dict[str, Any]:
        """Give what every error of a call carries."""
        return {"method": self.request.method, "url": self.display_url, "attempts": self.attempts}

    def redact(self, body: bytes) -> bytes:
        """Keep the beginning of a bad answer, without the key that a debugging proxy may have echoed."""
        return body.replace(self.key.encode(), b"***")[:_KEPT_BODY]

    def redact_text(self, text: str) -> str:
        """Take the key out of a text."""
        return text.replace(self.key, "***")
