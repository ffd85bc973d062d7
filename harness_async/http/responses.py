"""What a response says beside its content: headers, `Retry-After`, errors.

The platform uses four shapes of error bodies, and proxies in front of it respond with anything else. They are parsed by
their shape, with tolerance. Source: apidocs.harness.io.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness_async.errors import ErrorDetails, FieldError
from harness_async.http.transport import parse_date

_QUOTED_CHARACTERS = 500
"""Characters of an unstructured body quoted in a message: enough to recognize a proxy."""


class Headers(Mapping[str, str]):
    """Response headers: case-insensitive, the first of several values, picklable."""

    __slots__ = ("_values",)

    def __init__(self, headers: Mapping[str, str], redact: Callable[[str], str] = str) -> None:
        """Copy headers, each value through `redact`."""
        self._values: dict[str, str] = {}
        for name, value in headers.items():
            self._values.setdefault(name.lower(), redact(value))

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Parse `Retry-After`, a number of seconds or a date, to seconds from `now` (seconds since 1970).

    A date is compared with the server's own `Date` where there is one. None where the header is missing or malformed.
    """
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if text.isascii() and text.replace(".", "", 1).isdecimal():
        return float(text)
    moment = parse_date(text)
    if moment is None:
        return None
    server_now = parse_date(headers.get("Date"))
    return max(0.0, moment - (now if server_now is None else server_now))


def is_html(headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether a response is a page for people, whatever its status."""
    return "html" in headers.get("Content-Type", "").lower() or body[:64].lstrip().startswith(b"<")


class ErrorBodyError(Exception):
    """A body reports an error although the status is that of a success."""


def check_error_body(content: Mapping[str, Any]) -> None:
    """Refuse an envelope of the NextGen API that reports an error, whatever the status of its response.

    Raises:
        ErrorBodyError: It does.
    """
    status = content.get("status")
    failed = isinstance(status, str) and status in {"ERROR", "FAILURE"} and content.get("data") is None
    if failed and {"code", "message", "correlationId"} & content.keys():
        raise ErrorBodyError


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> ErrorDetails:
    """Parse an error response by the shape of its body, because gateways respond on behalf of services.

    The shapes: goa (`name`, `id`, `message`, three booleans), v1 (`code`, `message`, `errors`), legacy (`status`,
    `code`, `message`, `correlationId`), and anything a gateway sends.
    """
    correlation = headers.get("X-Request-Id") or headers.get("x-harness-correlation-id")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, Mapping) or not {"message", "code", "name", "error"} & content.keys():
        return ErrorDetails(message=_quote_body(status, headers, body), correlation_id=correlation, structured=False)
    goa = "name" in content
    code = content.get("name") if goa else content.get("code", content.get("error"))
    return ErrorDetails(
        message=_first_text(content, "message", "error", "detailedMessage") or f"no message, status {status}",
        code=None if code is None else str(code),
        field_errors=tuple(_field_errors(content.get("errors"))),
        correlation_id=_first_text(content, *(("id",) if goa else ()), "correlationId") or correlation,
        temporary=content.get("temporary") is True,
        timeout=content.get("timeout") is True,
    )


def _first_text(content: Mapping[str, Any], *names: str) -> str | None:
    return next((value for name in names if isinstance(value := content.get(name), str) and value), None)


def _field_errors(errors: object) -> Iterator[FieldError]:
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, Mapping) and (message := _first_text(error, "message", "error")) is not None:
            yield FieldError(_first_text(error, "field_name", "fieldId") or "", message)


def _quote_body(status: int, headers: Mapping[str, str], body: bytes) -> str:
    if is_html(headers, body):
        return "an HTML page, not a response of the API: a proxy, a firewall or a sign-in page"
    text = body[: _QUOTED_CHARACTERS * 4].decode("utf-8", "replace").strip()
    if not text:
        return f"an empty response with status {status}"
    return text if len(text) <= _QUOTED_CHARACTERS else f"{text[:_QUOTED_CHARACTERS]}…"
