"""One call: its attempts, and the errors built from them, with the key redacted."""

from __future__ import annotations

import time
from typing import Any

from attrs import define, field

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
from harness_async.http.responses import Headers, parse_error, parse_retry_after
from harness_async.http.retry import Failure, FailureKind
from harness_async.http.transport import RawResponse, Request, TransportFailure

_KEPT_BODY = 64 * 1024
"""Bytes of a bad response kept on its error: enough to recognize it."""


@define(eq=False)
class Call:
    """The attempts of one call so far, and the state of the current one. Used by one task."""

    request: Request
    deadline: float | None
    api_key: str = field(repr=False)
    """Redacted in every error."""

    attempts: list[Attempt] = field(factory=list)
    """Attempts whose request was sent and that are over."""

    queued_at: float = 0.0
    """Loop time at which the current attempt began to wait."""

    sent_at: float | None = None
    """Loop time at which the current attempt was sent; None before that."""

    started: float = 0.0
    """The same in seconds since 1970."""

    backoff: float = 0.0
    """Seconds waited before the current attempt."""

    redirects: int = 0
    ambiguous: bool = False
    """Whether a failed attempt may have taken effect."""

    @property
    def is_read(self) -> bool:
        """Whether the request changes nothing, so that it is never ambiguous."""
        return self.request.method in {"GET", "HEAD", "OPTIONS"}

    @property
    def display_url(self) -> str:
        """The URL without the key, which a redirect may contain."""
        return self.redact_text(str(self.request.url))

    def record_attempt(self, now: float, *, status: int | None = None, error: str | None = None) -> None:
        """Add the current attempt to those that are over, if its request was sent."""
        if self.sent_at is not None:
            self.attempts.append(self.current_attempt(now, status=status, error=error))
            self.sent_at, self.backoff = None, 0.0

    def current_attempt(self, now: float, *, status: int | None = None, error: str | None = None) -> Attempt:
        """Return the current attempt, which ends now."""
        sent_at = now if self.sent_at is None else self.sent_at
        waited = sent_at - self.queued_at + self.backoff
        return Attempt(started=self.started, elapsed=now - sent_at, status=status, error=error, waited=waited)

    # -- errors --------------------------------------------------------------------------------------------------

    def transport_error(self, failure: TransportFailure, now: float) -> tuple[RequestError, Failure]:
        """Build the error of an attempt without a response."""
        text = self.redact_text(str(failure))
        self.record_attempt(now, error=text)
        message = f"{text[0].upper()}{text[1:]} ({self.request.method} {self.display_url})"
        if failure.kind in {FailureKind.OVERSIZED, FailureKind.CUT}:
            error: RequestError = UnexpectedResponseError(message, **self._context())
        else:
            error = (RequestTimeoutError if failure.timed_out else TransportError)(message, **self._context())
        error.__cause__ = failure.__cause__
        return error, Failure(failure.kind)

    def status_error(self, response: RawResponse, now: float) -> tuple[APIStatusError, Failure]:
        """Build the error of a response with an error status."""
        body = self.redact(response.body)
        headers = Headers(response.headers, self.redact_text)
        details = parse_error(response.status, headers, body)
        self.record_attempt(now, status=response.status, error=details.message)
        retry_after = parse_retry_after(response.headers, time.time())
        error = status_error_class(response.status)(
            details,
            status=response.status,
            headers=headers,
            body=body,
            retry_after=retry_after,
            **self._context(),
        )
        temporary = details.temporary or details.timeout
        return error, Failure(FailureKind.STATUS, response.status, temporary, retry_after)

    def decode_error(self, response: RawResponse, error: DecodeError, now: float) -> DecodeError:
        """Build the error of JSON that does not fit."""
        text = self.redact_text(str(error))
        self.record_attempt(now, status=response.status, error=text)
        return DecodeError(
            f"{text} ({self.request.method} {self.display_url})",
            path=self.redact_text(error.path),
            status=response.status,
            body=self.redact(response.body),
            **self._context(),
        )

    def unexpected_response(self, response: RawResponse, what: str, now: float) -> UnexpectedResponseError:
        """Build the error of a response that did not come from the API."""
        text = self.redact_text(what)
        self.record_attempt(now, status=response.status, error=text)
        return UnexpectedResponseError(
            f"The response is {text} ({self.request.method} {self.display_url}, status {response.status})",
            status=response.status,
            body=self.redact(response.body),
            **self._context(),
        )

    def deadline_error(self, what: str) -> DeadlineExceededError:
        """Build the error of a call that ran out of time."""
        last = f"; last attempt: {self.attempts[-1].error}" if self.attempts else "; nothing was sent"
        return DeadlineExceededError(
            f"{what} ({self.request.method} {self.display_url}, {len(self.attempts)} attempts{last})",
            **self._context(),
        )

    def _context(self) -> dict[str, Any]:
        return {"method": self.request.method, "url": self.display_url, "attempts": self.attempts}

    def redact(self, body: bytes) -> bytes:
        """Return the beginning of a bad response, without the key that a debugging proxy may have echoed."""
        return body.replace(self.api_key.encode(), b"***")[:_KEPT_BODY]

    def redact_text(self, text: str) -> str:
        """Return a text without the key."""
        return text.replace(self.api_key, "***")
