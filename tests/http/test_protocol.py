"""Paths, queries, headers and error bodies, and the checks of arguments."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from yarl import URL

from harness_async.errors import ErrorDetails, FieldError
from harness_async.http.responses import (
    Endpoint,
    Headers,
    Totals,
    as_str_tuple,
    build_query,
    check_identifier,
    check_limit,
    check_order,
    check_seconds,
    check_text,
    from_milliseconds,
    join_target,
    looks_like_html,
    parse_error,
    parse_retry_after,
    read_totals,
    to_milliseconds,
)
from harness_async.resources.executions import ExecutionStatus

FIXTURES = Path(__file__).parents[1] / "fixtures"
QUICK = settings(max_examples=30, deadline=None)

IDENTIFIERS = st.text(min_size=1, max_size=20).filter(lambda text: text not in {".", ".."})
CALENDAR = st.integers(-62_135_596_800_000, 253_402_300_799_999).filter(bool)
"""The milliseconds that a datetime can hold, except 0, which stands for a missing time."""

ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ["message", "code", "name", "id", "error", "errors", "correlationId", "temporary", "timeout", "status"]


# -- endpoints ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "segment"),
    [
        ("k3Vb7QxRTs-9pLmZ_a1.w~", "k3Vb7QxRTs-9pLmZ_a1.w~"),
        ("-2w/../b", "-2w%2F..%2Fb"),
        ("%2e%2e", "%252e%252e"),
        ("...", "..."),
        (" ", "%20"),
        ("a?b#c", "a%3Fb%23c"),
        ("a\\b", "a%5Cb"),
        ("{org}", "%7Borg%7D"),
        ("a\r\nb\x00", "a%0D%0Ab%00"),
        ("ü" * 128, "%C3%BC" * 128),
    ],
)
def test_segments(identifier: str, segment: str) -> None:
    """An identifier becomes one segment of the path; every character that could end the segment is encoded."""
    assert Endpoint("GET", "/v1/orgs/{org}/projects").format(org=identifier) == f"/v1/orgs/{segment}/projects"


@QUICK
@given(IDENTIFIERS, IDENTIFIERS)
@example("-2w/../b", "%2F?#")
def test_paths_round_trip(run: str, stage: str) -> None:
    """Decoding a path segment by segment returns its identifiers, also after joining it to a base URL."""
    path = Endpoint("GET", "/executions/{run}/{stage}").format(run=run, stage=stage)
    url = URL(f"https://app.harness.io{join_target(URL('https://app.harness.io/gateway'), path)}", encoded=True)
    assert url.raw_path == str(url).removeprefix("https://app.harness.io") == f"/gateway{path}"
    segments = [unquote(segment, errors="strict") for segment in url.raw_path.split("/")]
    assert segments == ["", "gateway", "executions", run, stage]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("", ValueError),
        ("x" * 129, ValueError),
        (".", ValueError),
        ("..", ValueError),
        ("a\ud800", ValueError),
        ("\udfffa", ValueError),
        (None, TypeError),
        (7, TypeError),
        (True, TypeError),
        (b"abc", TypeError),
        (["a"], TypeError),
    ],
    ids=ascii,
)
def test_refused_identifiers(value: Any, error: type[Exception]) -> None:
    """An identifier that cannot be a path segment is refused, and the error begins with its parameter."""
    with pytest.raises(error, match=r"^pipeline_stage_id "):
        check_identifier("pipeline_stage_id", value)
    with pytest.raises(error, match=r"^org "):
        Endpoint("GET", "/v1/orgs/{org}").format(org=value)


@pytest.mark.parametrize(
    ("template", "expected"),
    [("/v1/orgs", "/v1/orgs"), ("/v1/orgs/{a}", "/v1/orgs/1%2F"), ("/{b}/{a}/{b}/x", "/2/1%2F/2/x")],
)
def test_templates(template: str, expected: str) -> None:
    """Identifiers replace their names in the template, and a missing one is an error."""
    assert Endpoint("GET", template).format(a="1/", b="2") == expected
    with pytest.raises(KeyError, match="project"):
        Endpoint("GET", template + "/{project}").format(a="1/", b="2")


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({}, ""),
        ({"a": None, "page": 1, "b": None}, "page=1"),
        ({"has_module": True, "x": False}, "has_module=true&x=false"),
        ({"limit": 100, "page": 0, "rate": 0.5, "search_term": ""}, "limit=100&page=0&rate=0.5&search_term="),
        ({"org": ["a", "b"], "status": ("c",), "none": []}, "org=a&org=b&status=c"),
        ({"q": "a b+c&d=e/f?g#h%,ü"}, "q=a%20b%2Bc%26d%3De%2Ff%3Fg%23h%25%2C%C3%BC"),
        ({"a b": "x"}, "a%20b=x"),
        ({"status": ExecutionStatus.SUCCESS}, "status=success"),
        ({"status": [ExecutionStatus.NONE, ExecutionStatus("odd, word")]}, "status=none&status=odd%2C%20word"),
    ],
    ids=repr,
)
def test_queries(params: dict[str, Any], query: str) -> None:
    """None is omitted, booleans are lower case, sequences repeat their key, and reserved characters are encoded."""
    assert build_query(params) == query


@pytest.mark.parametrize("value", [object, [None], [["a"]], 1j, datetime(2024, 1, 1, tzinfo=UTC), b"ab", {"a": "b"}])
def test_refused_parameters(value: Any) -> None:
    """A query value of an unsupported type is refused, and the error names the parameter."""
    with pytest.raises(TypeError, match="filter"):
        build_query({"filter": value})


# -- times -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (0, 0),
        (-1, -1),
        (8261120883995203000, 8261120883995203000),
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(2023, 8, 4, 14, 5, 43, 950_999, timezone(timedelta(hours=2))), 1691150743950),
        (datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC), -1),
        (datetime.max.replace(tzinfo=UTC), 253402300799999),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), -62135647200000),
    ],
)
def test_to_milliseconds(value: datetime | int | None, expected: int | None) -> None:
    """An aware datetime becomes whole milliseconds since 1970 UTC; an integer is unchanged."""
    assert to_milliseconds("start_time", value) == expected


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (datetime(2024, 1, 1), ValueError),  # noqa: DTZ001 - a naive datetime is the point
        (True, TypeError),
        (1.5, TypeError),
        ("2024-01-01", TypeError),
        (datetime(2024, 1, 1, tzinfo=UTC).date(), TypeError),
    ],
)
def test_refused_times(value: Any, error: type[Exception]) -> None:
    """A value that is not one moment is refused, and the error begins with its parameter."""
    with pytest.raises(error, match=r"^end_time "):
        to_milliseconds("end_time", value)


@QUICK
@given(CALENDAR, ZONES)
def test_times_round_trip(value: int, zone: timezone) -> None:
    """Every millisecond of the calendar converts to a datetime and back unchanged, in any zone."""
    moment = from_milliseconds(value)
    assert moment is not None
    assert moment.utcoffset() == timedelta()
    assert to_milliseconds("t", moment) == value
    try:
        elsewhere = moment.astimezone(zone)
    except OverflowError:  # at either end of the calendar some zones cannot express the moment
        return
    assert to_milliseconds("t", elsewhere) == value


@pytest.mark.parametrize(
    "value", [0, -62_135_596_800_001, 253_402_300_800_000, 8261120883995203000, -(2**63), 2**64, 10**40]
)
def test_times_outside_the_calendar(value: int) -> None:
    """An integer that no datetime can hold, and 0, which stands for a missing time, convert to None."""
    assert from_milliseconds(value) is None


# -- headers -----------------------------------------------------------------------------------------------------------


def test_headers() -> None:
    """Header names match in any case, the first of repeated values counts, and headers pickle."""
    headers = Headers({"X-Total-Items": "3", "x-total-items": "4", "Date": "today"})
    assert (headers["x-TOTAL-items"], headers.get("date"), headers.get("missing")) == ("3", "today", None)
    assert "DATE" in headers
    assert sorted(headers) == ["date", "x-total-items"]
    assert len(headers) == 2
    other = pickle.loads(pickle.dumps(headers))  # noqa: S301
    assert (other, other["Date"], repr(other)) == (headers, "today", repr(headers))


@pytest.mark.parametrize(
    ("headers", "totals"),
    [
        ({}, Totals()),
        ({"x-page-size": "30", "x-total-items": "95", "x-total-pages": "4"}, Totals(95, 4, 30)),
        ({"X-Page-Size": "30", "X-Page-Number": "0", "X-Total-Elements": "95"}, Totals(95, None, 30)),
        ({"X-TOTAL-ITEMS": " 7 ", "X-Total-PAGES": "1"}, Totals(7, 1)),
        ({"x-total-items": "5", "X-Total-Elements": "9"}, Totals(5)),
        ({"x-total-items": "many", "X-Total-Elements": "9"}, Totals(9)),
        ({"x-total-items": "0", "x-total-pages": "0", "x-page-size": "0"}, Totals(0, 0)),
        *[
            ({"x-total-items": text}, Totals())
            for text in ("-1", "+1", "1.0", "1e3", "1_000", "1,000", "", "null", "٣", "9" * 30, "9" * 5000)
        ],
    ],
)
def test_totals(headers: dict[str, str], totals: Totals) -> None:
    """Both families of total headers are read in any case; a missing or unreadable value is None."""
    assert read_totals(Headers(headers)) == totals


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
        ({"Retry-After": date(NOW - 30)}, 0.0),
        ({"Retry-After": date(NOW + 30), "Date": date(NOW + 60)}, 0.0),
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
    """Whatever the headers contain, waits and totals are numbers from 0 on, or None."""
    wait = parse_retry_after(Headers({"Retry-After": text, "Date": server}), NOW)
    totals = read_totals(Headers({"x-total-items": text, "x-total-pages": server, "x-page-size": text}))
    assert all(value is None or value >= 0 for value in (wait, totals.items, totals.pages))
    assert totals.size is None or totals.size > 0


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("TEXT/HTML; charset=utf-8", b"{}", True),
        ("application/xhtml+xml", b"", True),
        ("application/json", b"<html><body>429</body></html>", True),
        (None, b"\r\n  <!DOCTYPE html>", True),
        ("application/json", b'{"message": "<b>"}', False),
        ("application/vnd.goa.error", b"[]", False),
        ("text/plain", b"no", False),
        (None, b"", False),
    ],
)
def test_html(content_type: str | None, body: bytes, *, expected: bool) -> None:
    """An HTML page is recognised by its content type or by its first character."""
    headers = Headers({} if content_type is None else {"Content-Type": content_type})
    assert looks_like_html(headers, body) is expected


# -- error bodies ------------------------------------------------------------------------------------------------------


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
        ("get_project/500_sdk", "Something went wrong", "500", {}),
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
        ({"message": None, "code": "C"}, {}, ("no message, status 418", "C", None)),
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
    ("errors", "expected"),
    [
        (None, ()),
        ("text", ()),
        ({"message": "m"}, ()),
        ([None, 5, "x", {}, {"message": None}], ()),
        ([{"message": "m"}], (FieldError("", "m"),)),
        ([{"field_name": "org", "message": "m"}, {"fieldId": "id", "message": "n"}],
         (FieldError("org", "m"), FieldError("id", "n"))),
    ],
)  # fmt: skip
def test_field_errors(errors: object, expected: tuple[FieldError, ...]) -> None:
    """Well-formed field errors are read, others are ignored."""
    body = json.dumps({"message": "m", "errors": errors}).encode()
    assert parse_error(400, Headers({}), body).field_errors == expected


@QUICK
@given(
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(MEMBERS), JSON).map(lambda value: json.dumps(value).encode()),
    st.sampled_from(["", "application/json", "text/html"]),
)
@example(b"[" * 100_000, "")
@example(b'{"message":' + b"[" * 100_000, "application/json")
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


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "value", "expected"),
    [
        (check_limit, 1, 1),
        (check_limit, 100, 100),
        (check_order, None, None),
        (check_order, "asc", "ASC"),
        (check_order, "Desc", "DESC"),
        (partial(as_str_tuple, "org"), None, None),
        (partial(as_str_tuple, "org"), "a", ("a",)),
        (partial(as_str_tuple, "org"), iter("ab"), ("a", "b")),
        (partial(as_str_tuple, "org"), ("",), ("",)),
        (partial(check_text, "name"), " ", " "),
        (partial(check_seconds, "timeout"), 0.1, None),
        (partial(check_seconds, "timeout", none=True), None, None),
    ],
)
def test_accepted_arguments(check: Callable[[Any], object], value: object, expected: object) -> None:
    """An argument in range is returned in the form in which it is sent."""
    assert check(value) == expected


@pytest.mark.parametrize(
    ("check", "value", "error", "message"),
    [
        *[(check_limit, value, ValueError, "limit must be a whole number from 1 to 100")
          for value in (0, -1, 101, 1.0, 50.5, True, "10", None, math.nan)],
        *[(check_order, value, ValueError, "order must be") for value in ("", "up", "ascending", True, 1)],
        (partial(as_str_tuple, "org"), [], ValueError, "^org "),
        (partial(as_str_tuple, "org"), (), ValueError, "^org "),
        *[(partial(as_str_tuple, "org"), value, TypeError, "^org ") for value in ([1], [None], b"a")],
        (partial(check_text, "name"), "", ValueError, "^name "),
        (partial(check_text, "name"), None, TypeError, "^name "),
        *[(partial(check_seconds, "timeout"), value, ValueError, "^timeout ")
          for value in (0, -1, math.nan, True, "5", None)],
    ],
)  # fmt: skip
def test_refused_arguments(check: Callable[[Any], object], value: object, error: type[Exception], message: str) -> None:
    """An argument out of range is refused, not clamped, and the error names it."""
    with pytest.raises(error, match=message):
        check(value)
