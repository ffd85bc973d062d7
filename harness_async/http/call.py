"""One call: its attempts, and the errors built from them, with the key redacted."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from attrs import define, evolve, field

from harness_async.config import Credentials, account_of
from harness_async.errors import (
    STATUS_ERRORS,
    APIStatusError,
    Attempt,
    AuthenticationError,
    DeadlineExceededError,
    DecodeError,
    ErrorDetails,
    FieldError,
    RequestError,
    RequestTimeoutError,
    TransportError,
    UnexpectedResponseError,
    status_error_class,
)
from harness_async.http.failures import TransportFailure
from harness_async.http.redaction import redact_bytes, redact_text
from harness_async.http.responses import MAX_ERROR_BODY, Headers, is_throttled, parse_error, parse_retry_after
from harness_async.http.retry import Failure, FailureKind
from harness_async.http.transport import RawResponse, Request

_KEPT_BODY = 64 * 1024
"""Bytes of a bad response kept on its error: enough to recognize it."""

_LONGEST_ESCAPE = 12
"""Bytes of an escaped character at most."""

_TOO_MANY_REQUESTS = 429


@define(eq=False)
class Call:
    """The attempts of one call so far, and the state of the current one. Used by one task."""

    request: Request
    deadline: float | None
    credentials: Credentials = field(repr=False)
    """The key is redacted in every error."""

    server_now: Callable[[], float | None] = field(repr=False)
    """Returns the server's time in seconds since 1970; None where it is not known."""

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

    began: float = 0.0
    """Loop time at which the call began."""

    last_error: RequestError | None = None
    """The error of the last attempt that is over."""

    redirects: int = 0
    is_retry: bool = False
    """Whether the next attempt repeats a failed one."""

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
        text = str(failure)
        self.record_attempt(now, error=text)
        message = f"{text[0].upper()}{text[1:]} ({self.request.method} {self.display_url})"
        if failure.kind in {FailureKind.OVERSIZED, FailureKind.CUT}:
            error: RequestError = UnexpectedResponseError(message, **self._context())
        else:
            error = (RequestTimeoutError if failure.timed_out else TransportError)(message, **self._context())
        error.__cause__ = failure.__cause__
        self.last_error = error
        return error, Failure(failure.kind, detail=text)

    def status_error(self, response: RawResponse, now: float) -> tuple[APIStatusError, Failure]:
        """Build the error of a response with an error status."""
        body = self.redact(response.body, MAX_ERROR_BODY)
        headers = Headers(response.headers, self.redact_text)
        details = self._redact_details(parse_error(response.status, headers, body))
        if status_error_class(response.status, details.code) is AuthenticationError:
            details = evolve(details, message=details.message + self._key_hint())
        self.record_attempt(now, status=response.status, error=details.message)
        retry_after = parse_retry_after(response.headers, self.server_now() or time.time())
        error = status_error_class(response.status, details.code)(
            details,
            status=response.status,
            headers=headers,
            body=body[:_KEPT_BODY],
            retry_after=retry_after,
            **self._context(),
        )
        self.last_error = error
        temporary = details.temporary or details.timeout
        # The class decides on retries too: a 500 with the code of a missing object stays one.
        status = next((each for each, kind in STATUS_ERRORS.items() if kind is type(error)), response.status)
        if status == _TOO_MANY_REQUESTS and not is_throttled(response):
            status = response.status  # the gate is open: a retry through it would not wait
        return error, Failure(FailureKind.STATUS, status, temporary, retry_after)

    def _redact_details(self, details: ErrorDetails) -> ErrorDetails:
        fields = (
            FieldError(self.redact_text(each.field), self.redact_text(each.message)) for each in details.field_errors
        )
        return evolve(
            details,
            message=self.redact_text(details.message),
            code=None if details.code is None else self.redact_text(details.code),
            correlation_id=None if details.correlation_id is None else self.redact_text(details.correlation_id),
            field_errors=tuple(fields),
        )

    def _key_hint(self) -> str:
        """Return advice for a refused key: it may belong to another account, which its own text names."""
        account, own = self.credentials.account_id, account_of(self.credentials.api_key)
        if own is not None and own != account:
            return f" (the key belongs to account {own!r}, and the client uses account {account!r})"
        return f" (the key may have expired, or belong to another account than {account!r})"

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
        self.last_error = error = UnexpectedResponseError(
            f"The response is {text} ({self.request.method} {self.display_url}, status {response.status})",
            status=response.status,
            body=self.redact(response.body),
            **self._context(),
        )
        return error

    def deadline_error(self, what: str, now: float) -> DeadlineExceededError:
        """Build the error of a call that ran out of time. It begins with the last response, which is the reason."""
        count = f"{len(self.attempts)} attempt{'' if len(self.attempts) == 1 else 's'}"
        request = f"{self.request.method} {self.display_url}"
        statuses = [attempt.status for attempt in self.attempts if attempt.status is not None]
        last = self.last_error
        if last is None:
            text = f"{what} ({request}, {count if self.attempts else 'nothing was sent'})"
        else:
            reason = self.attempts[-1].error if not isinstance(last, APIStatusError) else last.message
            if isinstance(last, APIStatusError):
                reason = f"{last.status} {_phrase(last.status)}".rstrip() + f" after {count}: {reason}"
            else:
                reason = f"{count}, the last one: {reason}"
            text = f"{reason}; {what[0].lower()}{what[1:]} ({request}, {now - self.began:.1f} s)"
        error = DeadlineExceededError(text, **self._context())
        error.last_status = statuses[-1] if statuses else None
        error.__cause__ = last
        return error

    def _context(self) -> dict[str, Any]:
        return {"method": self.request.method, "url": self.display_url, "attempts": self.attempts}

    def redact(self, body: bytes, size: int = _KEPT_BODY) -> bytes:
        """Return the beginning of a bad response, without the key that a debugging proxy may have echoed."""
        key = self.credentials.api_key
        # A key that is cut off by the end would not be recognized.
        return redact_bytes(body[: size + _LONGEST_ESCAPE * len(key)], key)[:size]

    def redact_text(self, text: str) -> str:
        """Return a text without the key."""
        return redact_text(text, self.credentials.api_key)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
