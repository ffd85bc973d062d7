from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

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
    encode_segment,
    from_milliseconds,
    join_target,
    looks_like_html,
    parse_date,
    parse_error,
    parse_retry_after,
    read_totals,
    to_milliseconds,
)
from harness_async.resources.executions import ExecutionStatus

FIXTURES = Path(__file__).parents[1] / "fixtures"
QUICK = settings(max_examples=60, deadline=None)
SHOW = Endpoint("GET", "/iacm/api/orgs/{org}/projects/{project}/executions/{pipeline_execution_id}/{pipeline_stage_id}")

IDENTIFIERS = st.text(min_size=1, max_size=128).filter(lambda text: text not in {".", ".."})
CALENDAR = st.integers(-62_135_596_800_000, 253_402_300_799_999).filter(bool)
"""The milliseconds that a datetime can hold, without the 0 that means "not told"."""
ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ["message", "code", "name", "id", "error", "errors", "correlationId", "temporary", "timeout", "status"]


# -- endpoints and segments ------------------------------------------------------------------------------------------

AWKWARD = [
    pytest.param("k3Vb7QxRTs-9pLmZ_a1YwA", "k3Vb7QxRTs-9pLmZ_a1YwA", id="usual"),
    pytest.param("-2w/../b", "-2w%2F..%2Fb", id="slashes and dots"),
    pytest.param("-q8Jc4", "-q8Jc4", id="dash first"),
    pytest.param("a b", "a%20b", id="space"),
    pytest.param(" ", "%20", id="nothing but a space"),
    pytest.param("a+b", "a%2Bb", id="plus"),
    pytest.param("100%", "100%25", id="percent"),
    pytest.param("%2e%2e", "%252e%252e", id="encoded dots"),
    pytest.param("%2F", "%252F", id="encoded slash"),
    pytest.param("a?b", "a%3Fb", id="question mark"),
    pytest.param("a#b", "a%23b", id="hash"),
    pytest.param("a;b=c&d", "a%3Bb%3Dc%26d", id="query signs"),
    pytest.param("a\\b", "a%5Cb", id="backslash"),
    pytest.param("a:b@c", "a%3Ab%40c", id="colon and at"),
    pytest.param("{org}", "%7Borg%7D", id="braces"),
    pytest.param("...", "...", id="three dots"),
    pytest.param("a\r\nb", "a%0D%0Ab", id="line break"),
    pytest.param("\x00", "%00", id="null"),
    pytest.param("zürich", "z%C3%BCrich", id="umlaut"),
    pytest.param("🚀", "%F0%9F%9A%80", id="emoji"),
    pytest.param("a~b.c_d-e", "a~b.c_d-e", id="unreserved"),
    pytest.param("x" * 128, "x" * 128, id="128 characters"),
    pytest.param("ü" * 128, "%C3%BC" * 128, id="128 characters that take more bytes"),
]


@pytest.mark.parametrize(("identifier", "segment"), AWKWARD)
def test_segments(identifier: str, segment: str) -> None:
    """An identifier is one segment of the path, with everything encoded that could end it."""
    assert encode_segment("org", identifier) == segment
    endpoint = Endpoint("GET", "/v1/orgs/{org}/projects")
    assert endpoint.format(org=identifier) == f"/v1/orgs/{segment}/projects"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        pytest.param("", ValueError, id="empty"),
        pytest.param("x" * 129, ValueError, id="129 characters"),
        pytest.param(".", ValueError, id="dot"),
        pytest.param("..", ValueError, id="two dots"),
        pytest.param("a\ud800", ValueError, id="high surrogate"),
        pytest.param("\udfffa", ValueError, id="low surrogate"),
        pytest.param(None, TypeError, id="none"),
        pytest.param(7, TypeError, id="number"),
        pytest.param(True, TypeError, id="bool"),
        pytest.param(b"abc", TypeError, id="bytes"),
        pytest.param(["a"], TypeError, id="list"),
    ],
)
def test_refused_identifiers(value: Any, error: type[Exception]) -> None:
    """What cannot stand in a path is refused under the name of its parameter."""
    with pytest.raises(error, match=r"^pipeline_stage_id "):
        check_identifier("pipeline_stage_id", value)
    with pytest.raises(error, match=r"^org "):
        Endpoint("GET", "/v1/orgs/{org}").format(org=value)


@QUICK
@given(IDENTIFIERS, IDENTIFIERS, IDENTIFIERS, IDENTIFIERS)
@example("-2w/../b", "a b", "%2F?#", "zürich")
@example("...", "//", "/", "{project}")
def test_paths_give_back_their_identifiers(org: str, project: str, run: str, stage: str) -> None:
    """Decoding the path segment by segment gives the identifiers back, and their number never changes."""
    path = SHOW.format(org=org, project=project, pipeline_execution_id=run, pipeline_stage_id=stage)
    segments = [unquote(segment, errors="strict") for segment in path.split("/")]
    assert segments == ["", "iacm", "api", "orgs", org, "projects", project, "executions", run, stage]
    assert path.isascii()


@QUICK
@given(IDENTIFIERS, IDENTIFIERS)
@example("-2w/../b", "%2e%2e")
@example("a//b", "...")
def test_urls_keep_the_encoding_of_paths(org: str, project: str) -> None:
    """Behind a base URL the path stays as it was encoded, prefix and all."""
    path = Endpoint("GET", "/v1/orgs/{org}/projects/{project}").format(org=org, project=project)
    base = URL("https://app.harness.io/gateway")
    url = URL(f"{base.origin()}{join_target(base, path)}", encoded=True)
    assert str(url) == f"https://app.harness.io/gateway{path}"
    assert (url.raw_path, url.host, url.raw_query_string, url.raw_fragment) == (
        f"/gateway{path}",
        "app.harness.io",
        "",
        "",
    )


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param("/v1/orgs", "/v1/orgs", id="none"),
        pytest.param("/v1/orgs/{a}", "/v1/orgs/1%2F", id="at the end"),
        pytest.param("/v1/orgs/{a}/x", "/v1/orgs/1%2F/x", id="inside"),
        pytest.param("/{a}/{b}", "/1%2F/2", id="two in a row"),
        pytest.param("/{b}/{a}/{b}", "/2/1%2F/2", id="one twice"),
    ],
)
def test_templates(template: str, expected: str) -> None:
    """Identifiers go where the template names them."""
    assert Endpoint("GET", template).format(a="1/", b="2") == expected


def test_a_missing_identifier_is_an_error() -> None:
    """A path is never made with an identifier left out."""
    with pytest.raises(KeyError, match="project"):
        Endpoint("GET", "/v1/orgs/{org}/projects/{project}").format(org="default")


def test_endpoints_are_values() -> None:
    """Endpoints are equal by what they declare, and frozen."""
    assert Endpoint("GET", "/v1/orgs", first_page=0) == Endpoint("GET", "/v1/orgs", first_page=0)
    assert Endpoint("GET", "/v1/orgs").first_page == 1
    assert Endpoint("GET", "/v1/orgs").repeatable
    assert "_parts" not in repr(SHOW)
    with pytest.raises(AttributeError):
        SHOW.method = "POST"  # type: ignore[misc]


# -- queries and URLs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "query"),
    [
        pytest.param({}, "", id="empty"),
        pytest.param({"page": None}, "", id="none"),
        pytest.param({"a": None, "page": 1, "b": None}, "page=1", id="none left out"),
        pytest.param({"has_module": True, "x": False}, "has_module=true&x=false", id="booleans"),
        pytest.param({"limit": 100, "page": 0}, "limit=100&page=0", id="zero stays"),
        pytest.param({"search_term": ""}, "search_term=", id="empty text stays"),
        pytest.param({"rate": 0.5}, "rate=0.5", id="float"),
        pytest.param({"org": ["a", "b"]}, "org=a&org=b", id="sequence repeats"),
        pytest.param({"org": ("a",)}, "org=a", id="sequence of one"),
        pytest.param({"org": []}, "", id="empty sequence"),
        pytest.param({"status": "success,failure"}, "status=success%2Cfailure", id="comma"),
        pytest.param({"sort": "name,ASC"}, "sort=name%2CASC", id="comma of a sort"),
        pytest.param({"q": "a b+c&d=e/f?g#h%"}, "q=a%20b%2Bc%26d%3De%2Ff%3Fg%23h%25", id="signs"),
        pytest.param({"q": "zürich"}, "q=z%C3%BCrich", id="umlaut"),
        pytest.param({"a b": "x"}, "a%20b=x", id="sign in a name"),
        pytest.param({"status": ExecutionStatus.SUCCESS}, "status=success", id="enum"),
        pytest.param({"status": ExecutionStatus("odd, word")}, "status=odd%2C%20word", id="unknown word of an enum"),
        pytest.param({"status": [ExecutionStatus.NONE]}, "status=none", id="enum in a sequence"),
        pytest.param({"start_time": 1691150743950}, "start_time=1691150743950", id="milliseconds"),
    ],
)
def test_queries(params: dict[str, Any], query: str) -> None:
    """None is left out, booleans are lower case, sequences repeat their key, and every sign is encoded."""
    assert build_query(params) == query


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(object(), id="object"),
        pytest.param([None], id="none in a sequence"),
        pytest.param([["a"]], id="sequence in a sequence"),
        pytest.param(1j, id="complex"),
        pytest.param(datetime(2024, 1, 1, tzinfo=UTC), id="datetime"),
        pytest.param(b"ab", id="bytes"),
        pytest.param({"a": "b"}, id="mapping"),
    ],
)
def test_refused_parameters(value: Any) -> None:
    """A value of a kind that no parameter has is refused under the parameter's name."""
    with pytest.raises(TypeError, match="filter"):
        build_query({"filter": value})


@QUICK
@given(st.dictionaries(st.text(min_size=1, max_size=10), st.lists(st.text(max_size=10), min_size=1, max_size=3)))
def test_queries_give_back_their_parameters(params: dict[str, list[str]]) -> None:
    """Decoding a query gives back every pair, in order."""
    expected = [(name, value) for name, values in params.items() for value in values]
    assert parse_qsl(build_query(params), keep_blank_values=True, strict_parsing=bool(expected)) == expected


@pytest.mark.parametrize(
    ("base", "path", "query", "expected"),
    [
        pytest.param("https://h.example", "/v1/orgs", "", "https://h.example/v1/orgs", id="bare"),
        pytest.param("https://h.example/gateway", "/v1", "page=0", "https://h.example/gateway/v1?page=0", id="prefix"),
        pytest.param("https://h.example/a%2Fb", "/v1", "", "https://h.example/a%2Fb/v1", id="encoded prefix"),
        pytest.param("http://127.0.0.1:8080", "/x%2F..", "", "http://127.0.0.1:8080/x%2F..", id="encoded path"),
        pytest.param("https://h.example", "/v1", "s=a%2Cb%20c", "https://h.example/v1?s=a%2Cb%20c", id="encoded query"),
    ],
)
def test_joined_urls(base: str, path: str, query: str, expected: str) -> None:
    """Base, path and query are put together as they are, each encoded once."""
    target = join_target(URL(base), path, query)
    assert str(URL(f"{URL(base).origin()}{target}", encoded=True)) == expected


# -- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(None, None, id="none"),
        pytest.param(0, 0, id="zero"),
        pytest.param(1691150743950, 1691150743950, id="int as it is"),
        pytest.param(8261120883995203000, 8261120883995203000, id="int beyond the calendar"),
        pytest.param(-1, -1, id="negative int"),
        pytest.param(datetime(1970, 1, 1, tzinfo=UTC), 0, id="epoch"),
        pytest.param(datetime(2023, 8, 4, 12, 5, 43, 950_000, UTC), 1691150743950, id="utc"),
        pytest.param(
            datetime(2023, 8, 4, 14, 5, 43, 950_000, timezone(timedelta(hours=2))), 1691150743950, id="another zone"
        ),
        pytest.param(datetime(2023, 8, 4, 12, 5, 43, 950_999, UTC), 1691150743950, id="microseconds cut"),
        pytest.param(datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC), -1, id="before the epoch"),
        pytest.param(datetime.max.replace(tzinfo=UTC), 253402300799999, id="last"),
        pytest.param(datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), -62135647200000, id="before year 1"),
    ],
)
def test_milliseconds(value: datetime | int | None, expected: int | None) -> None:
    """An aware datetime of any zone is whole milliseconds since 1970 UTC; an int stays what it is."""
    assert to_milliseconds("start_time", value) == expected


@pytest.mark.parametrize(
    ("value", "error"),
    [
        pytest.param(datetime(2024, 1, 1), ValueError, id="naive"),  # noqa: DTZ001
        pytest.param(True, TypeError, id="bool"),
        pytest.param(1.5, TypeError, id="float"),
        pytest.param("2024-01-01", TypeError, id="text"),
        pytest.param(datetime(2024, 1, 1, tzinfo=UTC).date(), TypeError, id="date"),
    ],
)
def test_refused_times(value: Any, error: type[Exception]) -> None:
    """What could mean several moments, or none, is refused under its parameter's name."""
    with pytest.raises(error, match=r"^end_time "):
        to_milliseconds("end_time", value)


@QUICK
@given(CALENDAR, ZONES)
def test_milliseconds_are_exact(value: int, zone: timezone) -> None:
    """Every millisecond that a datetime can hold goes there and back unchanged, whatever the zone."""
    moment = from_milliseconds(value)
    assert moment is not None
    assert moment.utcoffset() == timedelta()
    assert to_milliseconds("t", moment) == value
    try:
        elsewhere = moment.astimezone(zone)
    except OverflowError:  # at either end of the calendar some zones have no name for the moment
        return
    assert to_milliseconds("t", elsewhere) == value


@QUICK
@given(st.integers() | st.integers(-(10**400), 10**400) | st.sampled_from([0, 8261120883995203000, -(2**63), 2**64]))
def test_any_integer_is_a_time_or_none(value: int) -> None:
    """No integer fails to convert; what fits no calendar, and 0, which means "not told", is None."""
    moment = from_milliseconds(value)
    fits = -62_135_596_800_000 <= value <= 253_402_300_799_999 and value != 0
    assert (moment is not None) == fits


# -- headers ---------------------------------------------------------------------------------------------------------


def test_headers_are_found_in_any_case() -> None:
    """Names match in any case, the first of several values counts, and headers pickle."""
    headers = Headers({"X-Total-Items": "3", "x-total-items": "4", "Date": "today"})
    assert headers["x-TOTAL-items"] == "3"
    assert headers.get("date") == "today"
    assert headers.get("missing") is None
    assert "DATE" in headers
    assert sorted(headers) == ["date", "x-total-items"]
    assert len(headers) == 2
    other = pickle.loads(pickle.dumps(headers))  # noqa: S301
    assert (other, other["Date"], repr(other)) == (headers, "today", repr(headers))


@pytest.mark.parametrize(
    ("headers", "totals"),
    [
        pytest.param({}, Totals(), id="none"),
        pytest.param(
            {"x-page-size": "30", "x-total-items": "95", "x-total-pages": "4"}, Totals(95, 4, 30), id="iacm family"
        ),
        pytest.param(
            {"X-Page-Size": "30", "X-Page-Number": "0", "X-Total-Elements": "95"}, Totals(95, None, 30), id="v1 family"
        ),
        pytest.param({"X-TOTAL-ITEMS": "7", "X-Total-PAGES": "1"}, Totals(7, 1), id="upper case"),
        pytest.param({"x-total-elements": "7"}, Totals(7), id="lower case"),
        pytest.param({"x-total-items": "5", "X-Total-Elements": "9"}, Totals(5), id="both families"),
        pytest.param({"x-total-items": "many", "X-Total-Elements": "9"}, Totals(9), id="one family garbled"),
        pytest.param({"x-total-items": "0", "x-total-pages": "0"}, Totals(0, 0), id="empty list"),
        pytest.param({"x-page-size": "0"}, Totals(), id="a size of 0 says nothing"),
        pytest.param({"x-total-items": " 7 "}, Totals(7), id="spaces"),
        pytest.param({"X-Page-Number": "3"}, Totals(), id="page number is ignored"),
        pytest.param({"x-total-items": "-1"}, Totals(), id="negative"),
        pytest.param({"x-total-items": "+1"}, Totals(), id="signed"),
        pytest.param({"x-total-items": "1.0"}, Totals(), id="fraction"),
        pytest.param({"x-total-items": "1e3"}, Totals(), id="exponent"),
        pytest.param({"x-total-items": "1_000"}, Totals(), id="underscore"),
        pytest.param({"x-total-items": "1,000"}, Totals(), id="thousands"),
        pytest.param({"x-total-items": ""}, Totals(), id="empty"),
        pytest.param({"x-total-items": "null"}, Totals(), id="word"),
        pytest.param({"x-total-items": "٣"}, Totals(), id="another script's digit"),
        pytest.param({"x-total-items": "9" * 5000}, Totals(), id="digit bomb"),
    ],
)
def test_totals(headers: dict[str, str], totals: Totals) -> None:
    """Either family of total headers is read in any case; what is missing or garbled is None."""
    assert read_totals(Headers(headers)) == totals


@QUICK
@given(st.dictionaries(st.sampled_from(["x-total-items", "x-total-pages", "x-page-size"]), st.text(max_size=12)))
def test_totals_are_counts_or_none(headers: dict[str, str]) -> None:
    """Whatever the headers say, a total is a whole number from 0 on, or None."""
    totals = read_totals(Headers(headers))
    assert all(value is None or value >= 0 for value in (totals.items, totals.pages))
    assert totals.size is None or totals.size > 0


NOW = 1_700_000_000.0


def date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({}, None, id="missing"),
        pytest.param({"Retry-After": "7"}, 7.0, id="seconds"),
        pytest.param({"retry-AFTER": "7"}, 7.0, id="any case"),
        pytest.param({"Retry-After": " 7 "}, 7.0, id="spaces"),
        pytest.param({"Retry-After": "0"}, 0.0, id="zero"),
        pytest.param({"Retry-After": "1.5"}, 1.5, id="fraction"),
        pytest.param({"Retry-After": date(NOW + 30)}, 30.0, id="date against our clock"),
        pytest.param(
            {"Retry-After": date(NOW + 1030), "Date": date(NOW + 1000)}, 30.0, id="date against the server's clock"
        ),
        pytest.param({"Retry-After": date(NOW + 30), "Date": "yesterday"}, 30.0, id="server's clock unreadable"),
        pytest.param({"Retry-After": date(NOW - 30)}, 0.0, id="past date"),
        pytest.param({"Retry-After": date(NOW + 30), "Date": date(NOW + 60)}, 0.0, id="past by the server's clock"),
        pytest.param({"Retry-After": "Wed, 15 Nov 2023 00:13:50 +0200"}, 30.0, id="date of another zone"),
        pytest.param({"Retry-After": "Tue, 14 Nov 2023 22:13:50 -0000"}, 30.0, id="date without a zone"),
        pytest.param({"Retry-After": ""}, None, id="empty"),
        pytest.param({"Retry-After": "soon"}, None, id="word"),
        pytest.param({"Retry-After": "-5"}, None, id="negative"),
        pytest.param({"Retry-After": "1e3"}, None, id="exponent"),
        pytest.param({"Retry-After": "nan"}, None, id="nan"),
        pytest.param({"Retry-After": "inf"}, None, id="infinity"),
        pytest.param({"Retry-After": "."}, None, id="point"),
        pytest.param({"Retry-After": "1.2.3"}, None, id="two points"),
        pytest.param({"Retry-After": "٣"}, None, id="another script's digit"),
        pytest.param({"Retry-After": "Tue, 14 Nov 99999999999 22:13:50 GMT"}, None, id="date beyond the calendar"),
        pytest.param({"Retry-After": "Tue, 14 Nov 2023 22:13:50 +9999"}, None, id="zone beyond a day"),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    """Retry-After is seconds or a date, taken against the server's own clock where it tells it."""
    assert parse_retry_after(Headers(headers), NOW) == expected


@QUICK
@given(st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} Nov \d{1,12} \d+:\d+:\d+ [+-]\d{1,20}"), st.text())
def test_retry_after_is_a_wait_or_none(text: str, server: str) -> None:
    """Whatever Retry-After says, it is a number of seconds from 0 on, or None."""
    wait = parse_retry_after(Headers({"Retry-After": text, "Date": server}), NOW)
    assert wait is None or wait >= 0


@pytest.mark.parametrize(
    ("text", "expected"), [(None, None), ("", None), ("never", None), ("Tue, 14 Nov 2023 22:13:20 GMT", NOW)]
)
def test_dates(text: str | None, expected: float | None) -> None:
    """An HTTP date is seconds since 1970; anything else is None."""
    assert parse_date(text) == expected


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        pytest.param("text/html", b"", True, id="declared"),
        pytest.param("TEXT/HTML; charset=utf-8", b"{}", True, id="declared in upper case"),
        pytest.param("application/xhtml+xml", b"", True, id="xhtml"),
        pytest.param("application/json", b"<html><body>429</body></html>", True, id="page called JSON"),
        pytest.param(None, b"\r\n  <!DOCTYPE html>", True, id="page behind white space"),
        pytest.param("application/json", b'{"message": "<b>"}', False, id="JSON"),
        pytest.param("application/vnd.goa.error", b"[]", False, id="error of goa"),
        pytest.param("text/plain", b"no", False, id="text"),
        pytest.param(None, b"", False, id="empty"),
    ],
)
def test_html(content_type: str | None, body: bytes, *, expected: bool) -> None:
    """A page for people is told by its type or by its first sign."""
    headers = Headers({} if content_type is None else {"Content-Type": content_type})
    assert looks_like_html(headers, body) is expected


# -- error answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(
            "list_executions/400_goa",
            ErrorDetails(
                message="limit must be lesser or equal than 100 but got value 101",
                code="bad_request",
                correlation_id="3Fq1c9aB",
            ),
            id="goa",
        ),
        pytest.param(
            "get_execution/408_goa",
            ErrorDetails(
                message="deadline exceeded", code="timeout", correlation_id="2Bc3d4Ef", temporary=True, timeout=True
            ),
            id="goa that will pass",
        ),
        pytest.param(
            "list_projects/400_v1",
            ErrorDetails(
                message="Invalid request",
                code="INVALID_ARGUMENT",
                field_errors=(FieldError("limit", "must be less than or equal to 100"),),
            ),
            id="v1 with fields",
        ),
        pytest.param(
            "get_organization/404_v1",
            ErrorDetails(message="Organization with identifier nope not found", code="ENTITY_NOT_FOUND"),
            id="v1",
        ),
        pytest.param(
            "list_projects/400_legacy",
            ErrorDetails(
                message="Invalid request",
                code="INVALID_REQUEST",
                correlation_id="5f3f8a0a-9d1f-4b2b-8f6f-4f3b2a1c0d9e",
            ),
            id="legacy",
        ),
        pytest.param(
            "get_organization/401_legacy",
            ErrorDetails(message="Token is not valid.", code="INVALID_TOKEN"),
            id="legacy without correlation",
        ),
        pytest.param(
            "list_executions/429_legacy",
            ErrorDetails(message="Rate limit exceeded", code="TOO_MANY_REQUESTS"),
            id="legacy in short",
        ),
        pytest.param(
            "get_project/500_sdk",
            ErrorDetails(message="Something went wrong", code="500"),
            id="as go-sdk reads it",
        ),
    ],
)
def test_envelopes(case: str, expected: ErrorDetails) -> None:
    """Each of the API's error envelopes is read by its shape, whatever its content type."""
    body = (FIXTURES / f"{case}.json").read_bytes()
    for content_type in ("application/json", "application/vnd.goa.error", "text/plain", ""):
        assert parse_error(400, Headers({"Content-Type": content_type}), body) == expected


HTML = "an HTML page, not an answer of the API: a proxy, a firewall or a sign-in page"


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        pytest.param("text/html", b"<html><body>503</body></html>", HTML, id="page"),
        pytest.param("application/json", b"<html>", HTML, id="page called JSON"),
        pytest.param("application/json", b"", "an empty answer with status 503", id="empty"),
        pytest.param("application/json", b" \n", "an empty answer with status 503", id="white space"),
        pytest.param("text/plain", b"upstream connect error\n", "upstream connect error", id="text"),
        pytest.param("text/plain", b"x" * 600, "x" * 500 + "…", id="long text"),
        pytest.param("text/plain", b"\xff\xfe!", "\ufffd\ufffd!", id="not UTF-8"),
        pytest.param("application/json", b"[1]", "[1]", id="array"),
        pytest.param("application/json", b"null", "null", id="null"),
        pytest.param("application/json", b'{"status": 503}', '{"status": 503}', id="object of another shape"),
        pytest.param("application/json", b'{"message": ', '{"message":', id="cut"),
    ],
)
def test_answers_without_an_envelope(content_type: str, body: bytes, message: str) -> None:
    """What an edge or proxy sends is quoted in short, and marked as no answer of the API's."""
    details = parse_error(503, Headers({"Content-Type": content_type}), body)
    assert details == ErrorDetails(message=message, structured=False)


@pytest.mark.parametrize(
    ("content", "headers", "expected"),
    [
        pytest.param({"message": "m", "code": 7}, {}, ("m", "7", None), id="code as number"),
        pytest.param({"message": None, "code": "C"}, {}, ("no message, status 418", "C", None), id="message null"),
        pytest.param({"message": "", "error": "e"}, {}, ("e", "e", None), id="message empty"),
        pytest.param({"message": 7, "error": "e"}, {}, ("e", "e", None), id="message no text"),
        pytest.param({"code": "C", "detailedMessage": "d"}, {}, ("d", "C", None), id="detailed message"),
        pytest.param({"name": "n", "message": "m", "id": 5}, {}, ("m", "n", None), id="id no text"),
        pytest.param({"message": "m", "id": "x"}, {}, ("m", None, None), id="id of something else"),
        pytest.param({"message": "m"}, {"X-Request-Id": "r"}, ("m", None, "r"), id="correlation from a header"),
        pytest.param(
            {"message": "m", "correlationId": "c"}, {"X-Request-Id": "r"}, ("m", None, "c"), id="correlation twice"
        ),
    ],
)
def test_leaky_envelopes(content: object, headers: dict[str, str], expected: tuple[str | None, ...]) -> None:
    """Missing and odd members of an envelope are filled from what else there is."""
    details = parse_error(418, Headers(headers), json.dumps(content).encode())
    assert (details.message, details.code, details.correlation_id) == expected


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        pytest.param(None, (), id="null"),
        pytest.param("text", (), id="text"),
        pytest.param({"message": "m"}, (), id="object"),
        pytest.param([None, 5, "x", {}, {"message": None}], (), id="rows of another shape"),
        pytest.param([{"message": "m"}], (FieldError("", "m"),), id="no field"),
        pytest.param([{"field_name": "org", "message": "m"}], (FieldError("org", "m"),), id="v1"),
        pytest.param([{"fieldId": "org", "message": "m"}], (FieldError("org", "m"),), id="legacy"),
    ],
)
def test_field_errors(errors: object, expected: tuple[FieldError, ...]) -> None:
    """The refused fields are read where they are well-formed and passed over where they are not."""
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
def test_hostile_answers(body: bytes, content_type: str) -> None:
    """Any body at all is told in words: reading an error never raises another."""
    details = parse_error(500, Headers({"Content-Type": content_type}), body)
    assert details.message
    assert isinstance(details.message, str)
    assert details.code is None or isinstance(details.code, str)
    assert details.correlation_id is None or isinstance(details.correlation_id, str)
    assert isinstance(details.temporary, bool)
    assert isinstance(details.timeout, bool)
    assert hash(details) == hash(pickle.loads(pickle.dumps(details)))  # noqa: S301


# -- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 30, 100])
def test_page_sizes(limit: int) -> None:
    """A page size from 1 to 100 is taken as it is."""
    assert check_limit(limit) == limit


@pytest.mark.parametrize("limit", [0, -1, 101, 1000, 1.0, 50.5, True, "10", None, float("nan")])
def test_refused_page_sizes(limit: object) -> None:
    """A page size that the API does not take is refused, not clamped."""
    with pytest.raises(ValueError, match="limit must be a whole number from 1 to 100"):
        check_limit(limit)


@pytest.mark.parametrize(("order", "expected"), [(None, None), ("asc", "ASC"), ("DESC", "DESC"), ("Asc", "ASC")])
def test_orders(order: str | None, expected: str | None) -> None:
    """A direction goes out in upper case."""
    assert check_order(order) == expected


@pytest.mark.parametrize("order", ["", "up", "ascending", True, 1])
def test_refused_orders(order: object) -> None:
    """There are two directions."""
    with pytest.raises(ValueError, match="order must be"):
        check_order(order)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), ("a", ("a",)), (["a", "b"], ("a", "b")), (iter("ab"), ("a", "b")), (("",), ("",))],
    ids=["none", "one", "several", "iterator", "empty text"],
)
def test_texts(value: Any, expected: tuple[str, ...] | None) -> None:
    """One text or several are a tuple; None stays None."""
    assert as_str_tuple("org", value) == expected


@pytest.mark.parametrize(
    ("value", "error"),
    [([], ValueError), ((), ValueError), ([1], TypeError), ([None], TypeError), (b"a", TypeError)],
    ids=["empty list", "empty tuple", "number", "none", "bytes"],
)
def test_refused_texts(value: Any, error: type[Exception]) -> None:
    """An empty filter could mean everything or nothing and is refused, as is what is no text."""
    with pytest.raises(error, match=r"^org "):
        as_str_tuple("org", value)


def test_check_text() -> None:
    """A text is taken unless it is empty or no text."""
    assert check_text("name", " ") == " "
    with pytest.raises(ValueError, match=r"^name "):
        check_text("name", "")
    with pytest.raises(TypeError, match=r"^name "):
        check_text("name", None)


@pytest.mark.parametrize("value", [0, -1, float("nan"), True, "5", None])
def test_refused_seconds(value: object) -> None:
    """A duration is a number of seconds above 0."""
    check_seconds("timeout", 0.1)
    check_seconds("timeout", None, none=True)
    with pytest.raises(ValueError, match=r"^timeout "):
        check_seconds("timeout", value)
