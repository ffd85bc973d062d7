"""Responses before they are sent, and the error envelopes of the platform.

The platform has three JSON error envelopes: "legacy" (the gateway and the NextGen services; "failure" is its form
for invalid fields), "v1", and "goa" (IaCM). Edge proxies in front of it respond with HTML.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Literal

import attrs

Json = dict[str, Any]
Envelope = Literal["goa", "v1", "legacy", "failure", "html", "text", "empty"]

JSON = "application/json"
GOA = "application/vnd.goa.error"
HTML = "text/html"

_GOA_NAMES = {
    # Only `bad_request` is documented; the other names are plausible.
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    408: "timeout",
    409: "conflict",
    415: "unsupported_media_type",
    423: "locked",
    429: "too_many_requests",
    499: "context_cancelled",
    502: "bad_gateway",
    503: "unavailable",
    504: "gateway_timeout",
}
_LEGACY_CODES = {
    400: "INVALID_REQUEST",
    401: "INVALID_TOKEN",
    403: "NG_ACCESS_DENIED",
    404: "RESOURCE_NOT_FOUND_EXCEPTION",
    405: "RESOURCE_NOT_FOUND_EXCEPTION",
    409: "DUPLICATE_FIELD",
    415: "MEDIA_NOT_SUPPORTED",
    429: "TOO_MANY_REQUESTS",
}
_V1_CODES = {400: "INVALID_ARGUMENT", 404: "ENTITY_NOT_FOUND"}
_SERVER_ERROR = 500


@attrs.frozen
class FakeResponse:
    """A complete response, independent of the connection that carries it."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = JSON
    """The media type, or None for a response without a body."""
    headers: dict[str, str] = attrs.field(factory=dict)


class HTTPError(Exception):
    """Ends the handling of a request with an error response."""

    def __init__(self, response: FakeResponse) -> None:
        super().__init__(response.status)
        self.response = response


def encode_json(value: object) -> bytes:
    """Encode JSON without whitespace, as the platform does."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def goa_error(status: int, message: str, *, temporary: bool = False, timeout: bool = False) -> FakeResponse:
    """Build an error of a Goa service (IaCM). The same message has the same id."""
    body: Json = {
        "name": _GOA_NAMES.get(status, "internal_server_error" if status >= _SERVER_ERROR else "error"),
        "id": f"{stable_hash(message):08x}",
        "message": message,
        "temporary": temporary,
        "timeout": timeout,
        "fault": status >= _SERVER_ERROR,
    }
    return FakeResponse(status, encode_json(body), GOA)


def v1_error(
    status: int, message: str, fields: dict[str, str] | None = None, *, code: str | None = None
) -> FakeResponse:
    """Build an error of the v1 API. *fields* maps each invalid field to its message."""
    errors = [{"field_name": name, "message": text} for name, text in (fields or {}).items()]
    code = code or _V1_CODES.get(status, "UNKNOWN_ERROR")
    body = {"message": message, "code": code, "errors": errors, "error_metadata": None}
    return FakeResponse(status, encode_json(body))


def legacy_error(status: int, message: str, *, code: str | None = None) -> FakeResponse:
    """Build an error of the gateway and of the NextGen services (ErrorDTO)."""
    code = code or _LEGACY_CODES.get(status, "UNKNOWN_ERROR")
    body: Json = {
        "status": "ERROR",
        "code": code,
        "message": message,
        "correlationId": correlation_id(message),
        "detailedMessage": None,
        "responseMessages": [],
        "metadata": None,
    }
    if code == "NG_ACCESS_DENIED":
        body["failedPermissionChecks"] = []
    return FakeResponse(status, encode_json(body))


def failure_error(status: int, message: str, fields: dict[str, str], *, code: str | None = None) -> FakeResponse:
    """Build an error of the NextGen services for invalid fields (FailureDTO)."""
    body: Json = {
        "status": "FAILURE",
        "code": code or _LEGACY_CODES.get(status, "UNKNOWN_ERROR"),
        "message": message,
        "correlationId": correlation_id(message),
        "errors": [{"fieldId": name, "error": text} for name, text in fields.items()],
    }
    return FakeResponse(status, encode_json(body))


def correlation_id(text: str) -> str:
    """Return a correlation id. The same text has the same id."""
    return f"00000000-0000-4000-8000-{stable_hash(text):012x}"


def html_page(status: int, title: str) -> FakeResponse:
    """Build an HTML page such as an edge proxy sends."""
    page = f"<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return FakeResponse(status, page.encode(), HTML)


def error_response(
    envelope: Envelope,
    status: int,
    message: str,
    *,
    code: str | None = None,
    temporary: bool = False,
    timeout: bool = False,
) -> FakeResponse:
    """Build an error in the named envelope. *code* is for those that have one, the flags are for "goa"."""
    match envelope:
        case "goa":
            return goa_error(status, message, temporary=temporary, timeout=timeout)
        case "v1":
            return v1_error(status, message, code=code)
        case "legacy":
            return legacy_error(status, message, code=code)
        case "failure":
            return failure_error(status, message, {"request": message}, code=code)
        case "html":
            return html_page(status, message)
        case "text" | "empty":
            text = envelope == "text"
            return FakeResponse(status, message.encode() if text else b"", "text/plain" if text else None)


def stable_hash(text: str) -> int:
    """Hash a text to 32 bits. Unlike `hash`, the result is the same in every process."""
    return zlib.crc32(text.encode())
