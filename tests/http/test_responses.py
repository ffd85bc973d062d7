"""Headers, `Retry-After`, HTML pages and error bodies: whatever a server or a proxy sends is read or ignored."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness_async.errors import ErrorDetails, FieldError
from harness_async.http.responses import (
    ErrorBodyError,
    Headers,
    check_error_body,
    parse_error,
    parse_retry_after,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"
QUICK = settings(max_examples=30, deadline=None)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ["message", "code", "name", "id", "error", "errors", "correlationId", "temporary", "timeout", "status"]


def test_headers() -> None:
    """Header names match in any case, the first of repeated values counts, and headers pickle."""
    headers = Headers({"X-Total-Items": "3", "x-total-items": "4", "Date": "today"})
    assert (headers["x-TOTAL-items"], headers.get("date"), headers.get("missing")) == ("3", "today", None)
    assert "DATE" in headers
    assert sorted(headers) == ["date", "x-total-items"]
    assert len(headers) == 2
    other = pickle.loads(pickle.dumps(headers))  # noqa: S301
    assert (other, other["Date"], repr(other)) == (headers, "today", repr(headers))


NOW = 1_700_000_000.0


def date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-AFTER": " 1.5 "}, 1.5),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": date(NOW + 30)}, 30.0),
        ({"Retry-After": date(NOW + 1030), "Date": date(NOW + 1000)}, 30.0),
        ({"Retry-After": date(NOW + 30), "Date": "yesterday"}, 30.0),
        ({"Retry-After": date(NOW - 30)}, None),
        ({"Retry-After": date(NOW + 30), "Date": date(NOW + 60)}, 0.0),
        ({"Retry-After": date(NOW + 30), "Date": date(0)}, 30.0),
        ({"Retry-After": "Wed, 15 Nov 2023 00:13:50 +0200"}, 30.0),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:50 -0000"}, 30.0),
        *[({"Retry-After": text}, None) for text in ("", "soon", "-5", "1e3", "nan", "inf", ".", "1.2.3", "٣")],
        ({"Retry-After": "Tue, 14 Nov 99999999999 22:13:50 GMT"}, None),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:50 +9999"}, None),
    ],
    ids=ascii,
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    """Retry-After is seconds, or a date relative to the server's own `Date` where it is readable."""
    assert parse_retry_after(Headers(headers), NOW) == expected


@QUICK
@given(st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} Nov \d{1,12} \d+:\d+:\d+ [+-]\d{1,20}"), st.text())
def test_any_header_value(text: str, server: str) -> None:
    """Whatever the headers contain, a wait is a number from 0 on, or None."""
    wait = parse_retry_after(Headers({"Retry-After": text, "Date": server}), NOW)
    assert wait is None or wait >= 0


LIMIT_ERROR = FieldError("limit", "must be less than or equal to 100")


@pytest.mark.parametrize(
    ("case", "message", "code", "rest"),
    [
        ("list_executions/400_goa", "limit must be lesser or equal than 100 but got value 101", "bad_request",
         {"correlation_id": "3Fq1c9aB"}),
        ("get_execution/408_goa", "deadline exceeded", "timeout",
         {"correlation_id": "2Bc3d4Ef", "temporary": True, "timeout": True}),
        ("list_projects/400_v1", "Invalid request", "INVALID_ARGUMENT", {"field_errors": (LIMIT_ERROR,)}),
        ("get_organization/404_v1", "Organization with identifier nope not found", "ENTITY_NOT_FOUND", {}),
        ("list_projects/400_legacy", "Invalid request", "INVALID_REQUEST",
         {"correlation_id": "5f3f8a0a-9d1f-4b2b-8f6f-4f3b2a1c0d9e"}),
        ("get_organization/401_legacy", "Token is not valid.", "INVALID_TOKEN", {}),
        ("list_executions/429_legacy", "Rate limit exceeded", "TOO_MANY_REQUESTS", {}),
        ("get_project/500_sdk", "Something went wrong; see the log", "500", {}),
    ],
)  # fmt: skip
def test_envelopes(case: str, message: str, code: str, rest: dict[str, Any]) -> None:
    """Each error envelope of the API is recognised by its shape, whatever its content type."""
    body = (FIXTURES / f"{case}.json").read_bytes()
    for content_type in ("application/json", "application/vnd.goa.error", "text/plain", ""):
        details = parse_error(400, Headers({"Content-Type": content_type}), body)
        assert details == ErrorDetails(message=message, code=code, **rest)


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("text/html", b"<html><body>503</body></html>", "an HTML page"),
        ("application/json", b"<html>", "an HTML page"),
        ("application/json", b" \n", "an empty"),
        ("text/plain", b"upstream connect error\n", "upstream connect error"),
        ("text/plain", b"x" * 600, "x" * 500 + "…"),
        ("text/plain", b"\xff\xfe!", "\ufffd\ufffd!"),
        ("application/json", b"[1]", "[1]"),
        ("application/json", b"null", "null"),
        ("application/json", b'{"status": 503}', '{"status": 503}'),
        ("application/json", b'{"message": ', '{"message":'),
    ],
)
def test_bodies_without_an_envelope(content_type: str, body: bytes, message: str) -> None:
    """The body of an edge or proxy is quoted in short and marked as unstructured."""
    details = parse_error(503, Headers({"Content-Type": content_type}), body)
    assert details == ErrorDetails(message=details.message, structured=False)
    assert details.message.startswith(message)
    assert len(details.message) <= 501


@pytest.mark.parametrize(
    ("content", "headers", "expected"),
    [
        ({"message": "m", "code": 7}, {}, ("m", "7", None)),
        ({"message": None, "code": "C"}, {}, ('no message, status 418: {"message": null, "code": "C"}', "C", None)),
        ({"message": "m", "error": True}, {}, ("m", None, None)),
        ({"message": ["m", "n"], "error": "e"}, {}, ("m; n", "e", None)),
        ({"error": "e", "code": 500, "responseMessages": "m"}, {}, ("e; m", "500", None)),
        (
            {"errors": list(map(str, range(1001, 1200)))},
            {},
            ("; ".join([*map(str, range(1001, 1101)), "…"]), None, None),
        ),
        ({"message": "", "error": "e"}, {}, ("e", "e", None)),
        ({"message": 7, "error": "e"}, {}, ("e", "e", None)),
        ({"code": "C", "detailedMessage": "d"}, {}, ("d", "C", None)),
        ({"name": "n", "message": "m", "id": 5}, {}, ("m", "n", None)),
        ({"message": "m", "id": "x"}, {}, ("m", None, None)),
        ({"message": "m"}, {"X-Request-Id": "r"}, ("m", None, "r")),
        ({"message": "m", "correlationId": "c"}, {"X-Request-Id": "r"}, ("m", None, "c")),
    ],
    ids=str,
)
def test_incomplete_envelopes(content: object, headers: dict[str, str], expected: tuple[str | None, ...]) -> None:
    """Missing and odd members of an envelope are replaced by other members and by headers."""
    details = parse_error(418, Headers(headers), json.dumps(content).encode())
    assert (details.message, details.code, details.correlation_id) == expected


@pytest.mark.parametrize(
    ("content", "fails"),
    [
        ({"status": "ERROR", "code": "C", "message": "m", "correlationId": "c"}, True),
        ({"status": "FAILURE", "data": None, "message": None}, True),
        ({"status": "ERROR", "correlationId": ""}, True),
        ({"status": "SUCCESS", "data": None, "correlationId": "c"}, False),
        ({"status": "ERROR", "responseMessages": [{"message": "m"}]}, True),
        ({"status": "FAILURE", "errors": [{"fieldId": "f", "error": "m"}]}, True),
        ({"status": "ERROR", "code": "C", "data": {}}, True),
        ({"status": "ERROR"}, True),
        ({"status": "ERROR", "identifier": "a workspace"}, False),
        *[({"status": status, "message": "m"}, False) for status in (None, "error", 500, {"ERROR": 1}, ["ERROR"])],
        ({}, False),
    ],
    ids=str,
)
def test_errors_in_a_success(content: dict[str, Any], *, fails: bool) -> None:
    """An envelope that reports an error is one whatever its status; an object with a `status` of its own is not."""
    if fails:
        with pytest.raises(ErrorBodyError):
            check_error_body(content)
    else:
        check_error_body(content)


@QUICK
@given(
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(MEMBERS), JSON).map(lambda value: json.dumps(value).encode()),
    st.sampled_from(["", "application/json", "text/html"]),
)
@example(b"[" * 100_000, "")
@example(b'{"message":' + b"[" * 100_000, "application/json")
@example(b'{"error":' * 900 + b"1" + b"}" * 900, "application/json")
@example(b'{"code":' + b"9" * 5000 + b"}", "application/json")
@example(b'{"message":"\\ud800","code":"\\udfff"}', "application/json")
@example(b"\xef\xbb\xbf{}", "application/json")
@example(b"\x00" * 10, "application/json")
def test_any_error_body(body: bytes, content_type: str) -> None:
    """Any body yields error details with a message; parsing it never raises."""
    details = parse_error(500, Headers({"Content-Type": content_type}), body)
    assert details.message
    assert isinstance(details.message, str)
    assert details.code is None or isinstance(details.code, str)
    assert details.correlation_id is None or isinstance(details.correlation_id, str)
    assert isinstance(details.temporary, bool)
    assert isinstance(details.timeout, bool)
    assert hash(details) == hash(pickle.loads(pickle.dumps(details)))  # noqa: S301
