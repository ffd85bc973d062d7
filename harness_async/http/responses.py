"""What a response says beside its content: headers, `Retry-After`, errors.

The platform uses four shapes of error bodies, and proxies in front of it respond with anything else. They are parsed by
their shape, with tolerance. Source: apidocs.harness.io.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from harness_async.errors import ErrorDetails, FieldError
from harness_async.http.transport import RawResponse, parse_date

_TOO_MANY_REQUESTS = 429
_REDIRECT = 300
_BAD_REQUEST = 400
_SERVER_ERROR = 500
_THROTTLED_CODE = b"TOO_MANY_REQUESTS"
_MAX_TEXTS = 100
"""Texts of an error body that its message holds at most."""

_MAX_DEPTH = 8
"""Levels of an error body in which texts are searched."""

_TEXT_MEMBERS = ("message", "messages", "detailedMessage", "detail", "title", "reason", "error_description")
_ENVELOPE_MEMBERS = {"status", "data", "responseMessages", "errors", "metaData", "metadata", "detailedMessage"}

_LONGEST_CREDIBLE = 86_400.0
"""Seconds beyond which a wait by the server's `Date` is not believed where another clock says less."""

MAX_ERROR_BODY = 2**20
"""Bytes of an error body that is parsed; a larger one is only quoted."""

_QUOTED_CHARACTERS = 500
"""Characters of an unstructured body quoted in a message: enough to recognize a proxy."""


class Headers(Mapping[str, str]):
    """Response headers: case-insensitive, the first of several values, picklable."""

    __slots__ = ("_values",)

    def __init__(self, headers: Mapping[str, str], redact: Callable[[str], str] = str) -> None:
        """Copy headers, each name and value through `redact`."""
        self._values: dict[str, str] = {}
        for name, value in headers.items():
            self._values.setdefault(redact(name).lower(), redact(value))

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

    A date is compared with the server's own `Date` where there is one. None where the header is missing or malformed,
    and where the date has passed by another clock, which may be wrong.
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
    if server_now is not None and not moment - server_now > _LONGEST_CREDIBLE > moment - now:
        return max(0.0, moment - server_now)
    return moment - now if moment > now else None


def is_html(headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether a response is a page for people, whatever its status. XML is none."""
    kind, start = headers.get("Content-Type", "").lower(), body[:64].removeprefix(codecs.BOM_UTF8).lstrip()
    return "html" in kind or (start.startswith(b"<") and "xml" not in kind and not start.startswith(b"<?xml"))


class ErrorBodyError(Exception):
    """A body reports an error although the status is that of a success."""


def check_error_body(content: Mapping[str, Any]) -> None:
    """Refuse an envelope of the NextGen API that reports an error, whatever the status of its response.

    Raises:
        ErrorBodyError: It does.
    """
    status = content.get("status")
    failed = isinstance(status, str) and status in {"ERROR", "FAILURE"} and not content.get("data")
    if failed and ({"code", "message", "correlationId"} & content.keys() or content.keys() <= _ENVELOPE_MEMBERS):
        raise ErrorBodyError


def is_throttled(response: RawResponse) -> bool:
    """Return whether the server refused a request by rate, which Harness may say with another status than 429."""
    if response.status == _TOO_MANY_REQUESTS:
        return True
    if response.body.startswith(b"[") or _THROTTLED_CODE not in response.body:  # a list is searched for nothing
        return False
    if _REDIRECT <= response.status < _BAD_REQUEST:
        return False
    if response.status < _REDIRECT:
        try:
            check_error_body(_parse_mapping(response.body))
        except ErrorBodyError:
            pass
        else:
            return False
    return parse_error(response.status, response.headers, response.body).code == _THROTTLED_CODE.decode()


def _parse_mapping(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object of a body; an empty one where there is none, or the body is too large for an error."""
    try:
        content = json.loads(body) if len(body) <= MAX_ERROR_BODY else None
    except (ValueError, RecursionError):
        content = None
    return content if isinstance(content, Mapping) else {}


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> ErrorDetails:
    """Parse an error response by the shape of its body, because gateways respond on behalf of services.

    The shapes: goa (`name`, `id`, `message`, three booleans), v1 (`code`, `message`, `errors`), NextGen (`status`,
    `code`, `message`, `correlationId`, `responseMessages` or `errors`), and anything a gateway sends. The message holds
    every text of the body.
    """
    correlation = headers.get("X-Request-Id") or headers.get("x-harness-correlation-id")
    content = _parse_mapping(body)
    known = {"message", "code", "name", "error", "errors", "responseMessages"}
    if not known & content.keys():
        return ErrorDetails(message=_quote_body(status, headers, body), correlation_id=correlation, structured=False)
    error = content.get("error")
    nested: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
    goa = "name" in content
    codes = (content.get("name") if goa else None, content.get("code"), nested.get("code"), nested.get("type"), error)
    code = next((str(each) for each in codes if isinstance(each, str | int) and str(each) and each is not True), None)
    fields = tuple(_field_errors(content.get("errors"))) + tuple(_field_errors(nested.get("errors")))
    ids = (content.get("id") if goa else None, content.get("correlationId"), content.get("requestId"))
    return ErrorDetails(
        message=_join(_texts(content))
        or ("invalid fields" if fields else f"no message, status {status}: {_quote_body(status, headers, body)}"),
        code=code,
        field_errors=fields,
        correlation_id=next((each for each in ids if isinstance(each, str) and each), correlation),
        temporary=content.get("temporary") is True,
        timeout=content.get("timeout") is True,
    )


def _join(found: Iterable[str]) -> str:
    """Join the different texts of an error body."""
    texts: list[str] = []
    for text in found:
        if len(texts) == _MAX_TEXTS:
            texts.append("…")
            break
        if text and not any(text in other for other in texts):
            texts.append(text)
    return "; ".join(texts)


def _texts(value: object, depth: int = _MAX_DEPTH) -> Iterator[str]:
    """Yield the texts of an error body, or of a part of it, without those of single fields."""
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, list) and depth:
        for each in value:
            yield from _texts(each, depth - 1)
    elif isinstance(value, Mapping) and depth:
        found = [text for name in _TEXT_MEMBERS for text in _texts(value.get(name), depth - 1)]
        error = value.get("error")
        if not (isinstance(error, str) and any(found)):  # a word beside a message is a code
            found += _texts(error, depth - 1)
        yield from found
        yield from _texts(value.get("responseMessages"), depth - 1)
        yield from (each.strip() for each in _flatten(value.get("errors"), depth) if isinstance(each, str))


def _field_errors(errors: object) -> Iterator[FieldError]:
    """Yield the errors of fields: a list of objects under several names, or a mapping of fields to texts."""
    if isinstance(errors, Mapping):
        yield from (FieldError(str(name), text) for name, value in errors.items() for text in _texts(value) if text)
        return
    for error in _flatten(errors):
        if isinstance(error, Mapping) and (text := _join(_texts(error))):
            yield FieldError(_first_text(error, "field_name", "fieldId", "field", "name", "path") or "", text)


def _flatten(value: object, depth: int = _MAX_DEPTH) -> Iterator[object]:
    """Yield the members of a list and of the lists in it; yield anything else as it is."""
    if not isinstance(value, list):
        yield value
    elif depth:
        for each in value:
            yield from _flatten(each, depth - 1)


def _first_text(content: Mapping[str, Any], *names: str) -> str | None:
    return next((value for name in names if isinstance(value := content.get(name), str) and value), None)


def _quote_body(status: int, headers: Mapping[str, str], body: bytes) -> str:
    if is_html(headers, body):
        is_busy = status == _TOO_MANY_REQUESTS or status >= _SERVER_ERROR
        origin = "a gateway or firewall" if is_busy else "a proxy, a firewall or a sign-in page"
        return f"an HTML page, not a response of the API: {origin}"
    text = body[: _QUOTED_CHARACTERS * 4].decode("utf-8", "replace").strip()
    if not text:
        return f"an empty response with status {status}"
    return text if len(text) <= _QUOTED_CHARACTERS else f"{text[:_QUOTED_CHARACTERS]}…"
