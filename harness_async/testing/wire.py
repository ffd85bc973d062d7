"""Answers before they are sent, and the envelopes errors travel in.

The platform has three JSON envelopes, by age: "legacy" (the gateway and `/ng/api`), "v1" and "goa" (IaCM). In
front of all stands an edge that answers HTML. Which part of the platform sends which is stated where it is
chosen.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Literal

import attrs

Json = dict[str, Any]
Envelope = Literal["goa", "v1", "legacy", "html", "text", "empty"]

JSON = "application/json"
GOA = "application/vnd.goa.error"
HTML = "text/html"

_GOA_NAMES = {
    # Only `bad_request` is documented; the others follow its manner.
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
    405: "METHOD_NOT_ALLOWED",
    409: "DUPLICATE_FIELD",
    415: "MEDIA_NOT_SUPPORTED",
    429: "TOO_MANY_REQUESTS",
}
_V1_CODES = {400: "INVALID_ARGUMENT", 404: "ENTITY_NOT_FOUND"}
_SERVER_FAULT = 500  # from here on the server is to blame


@attrs.frozen
class Answer:
    """A whole answer: nothing of it depends on the connection it goes out on."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = JSON
    """None where there is no body to state a type for."""
    headers: dict[str, str] = attrs.field(factory=dict)


class RefusedError(Exception):
    """Ends the handling of a request; carries the answer that says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def dump(value: object) -> bytes:
    """Encode JSON as the platform does, without blanks."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def goa(status: int, message: str, *, temporary: bool = False, timeout: bool = False) -> Answer:
    """Make an error as Goa-generated services (IaCM) write it; the id is the same for the same message."""
    body: Json = {
        "name": _GOA_NAMES.get(status, "internal_server_error" if status >= _SERVER_FAULT else "error"),
        "id": f"{hash_of(message):08x}",
        "message": message,
        "temporary": temporary,
        "timeout": timeout,
        "fault": status >= _SERVER_FAULT,
    }
    return Answer(status, dump(body), GOA)


def v1(status: int, message: str, fields: dict[str, str] | None = None) -> Answer:
    """Make an error of the v1 generation; `fields` says per field what is wrong with it."""
    errors = [{"field_name": name, "message": text} for name, text in (fields or {}).items()]
    code = _V1_CODES.get(status, "UNKNOWN_ERROR")
    return Answer(status, dump({"message": message, "code": code, "errors": errors, "error_metadata": None}))


def legacy(status: int, message: str) -> Answer:
    """Make an error of the older generation, which the gateway writes too."""
    body: Json = {
        "status": "ERROR",
        "code": _LEGACY_CODES.get(status, "UNKNOWN_ERROR"),
        "message": message,
        "correlationId": f"00000000-0000-4000-8000-{hash_of(message):012x}",
        "detailedMessage": None,
        "responseMessages": [],
        "metadata": None,
    }
    return Answer(status, dump(body))


def html(status: int, title: str) -> Answer:
    """Make a page as the edge or a proxy writes it."""
    page = f"<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Answer(status, page.encode(), HTML)


def enveloped(
    envelope: Envelope, status: int, message: str, *, temporary: bool = False, timeout: bool = False
) -> Answer:
    """Make an error in the envelope of that name."""
    match envelope:
        case "goa":
            return goa(status, message, temporary=temporary, timeout=timeout)
        case "v1":
            return v1(status, message)
        case "legacy":
            return legacy(status, message)
        case "html":
            return html(status, message)
        case "text":
            return Answer(status, message.encode(), "text/plain")
        case "empty":
            return Answer(status, b"", None)


def hash_of(text: str) -> int:
    """Hash a text to 32 bits, the same in every process (the built-in is not)."""
    return zlib.crc32(text.encode())
